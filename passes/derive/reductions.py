"""Derivation for folds that are no contraction: pooling with any reducer, global or sliding, sums and extremes of windows.

A state is a tower of folds, each reading the next; the last one reads the tensors. Moves make one level more: nested folding (rows,
then columns, where windows overlap), long windows from shorter ones, strided reads through dense views, ranges cut to what counts.
A sum also gets a unit factor, which makes it a convolution. Every tower is a candidate: generated kernels fold any of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable
from collections.abc import Iterator as Iteration
from dataclasses import dataclass, replace
from math import isqrt

from passes.derive.candidate import Candidate, PassedOver, SearchLimits, SearchReport, label_of
from passes.derive.certificate import Checker
from passes.derive.components import components
from passes.derive.cost import estimated_seconds
from passes.derive.drafts import Draft, drafts_of
from passes.derive.naming import fresh_iterator
from passes.derive.search import Visit, checked_draft, passed_over
from passes.derive.state import MERGE, MERGE_RULE, Application, State, applied, normalised
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Access, Reducer, Scope, Tensor, accesses, replace_sources
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Compute
from tensoropt.ir.structure import is_contraction
from tensoropt.rewrite.rule import Path, Refusal, Site

_LONG = 5
"""Windows of at least so many taps are also folded from shorter ones."""

_WIDEST = 8
"""Strides up to this one are read through views; what is further apart is not read together anyway."""

_MULTIPLYING = 1.25
"""How much dearer than the fold itself its convolution with ones is at least: nothing is reused, and each addition multiplies."""

Window = tuple[Iterator, int, tuple[tuple[Iterator, int], ...]]
"""A tap iterator, its coefficient, and the traversal iterators beside it in one index, with theirs."""


@dataclass(frozen=True, slots=True)
class Tower:
    """Folds that read one another, the root first, and how they were derived."""

    root: Scope
    chain: tuple[Application, ...] = ()
    moves: int = 0

    def levels(self) -> list[tuple[Path, Scope]]:
        """The folds with their paths, the root first."""
        found: list[tuple[Path, Scope]] = [((), self.root)]
        while isinstance(found[-1][1].body, Access) and isinstance(found[-1][1].body.source, Scope):
            path, scope = found[-1]
            assert isinstance(scope.body, Access)
            assert isinstance(scope.body.source, Scope)
            found.append(((*path, 0), scope.body.source))
        return found

    def statements(self, output: Tensor) -> tuple[Compute, ...]:
        """Each level as a statement of its own, the innermost first."""
        made: list[Compute] = []
        mapping: dict[Tensor | Scope, Tensor | Scope] = {}
        *inner, _ = reversed(self.levels())
        for number, (_, scope) in enumerate(inner):
            part = Tensor(f"{output.name}/part{number}", scope.type)
            made.append(Compute(part, replace_sources(scope, mapping)))
            mapping[scope] = part
        return (*made, Compute(output, replace_sources(self.root, mapping)))


def derive_reduction(
    compute: Compute,
    program_constants: Collection[str] = (),
    limits: SearchLimits | None = None,
    excluded_rules: Collection[str] = (),
    report: SearchReport | None = None,
    deadline: float | None = None,
) -> list[Candidate]:
    """Checked candidates for a statement that folds and is no contraction, cheapest estimate first; as ``search.derive``."""
    limits = limits or SearchLimits()
    report = report or SearchReport()
    started = time.monotonic()
    visits = list(explored_reductions(compute, program_constants, limits, excluded_rules, report, deadline))
    visits.sort(key=lambda visit: (visit.estimated_seconds, len(visit.draft.chain)))
    report.goals = len(visits)
    original = estimated_seconds((compute,), program_constants)
    most = limits.dearer * min([original, *(visit.estimated_seconds for visit in visits[:1])])
    checker = Checker()
    kept: list[Candidate] = []
    for visit in visits:
        if visit.estimated_seconds > most:
            times = visit.estimated_seconds / most * limits.dearer
            report.passed_over.append(_told(visit, f"estimated {times:.1f} times as dear as the best"))
        elif len(kept) == limits.candidates:
            report.passed_over.append(_told(visit, f"{len(kept)} others were estimated cheaper"))
        elif kept and deadline is not None and time.monotonic() > deadline:
            report.truncated = "time"
            report.passed_over.append(_told(visit, "not checked, the time limit had passed"))
        else:
            candidate = checked_draft(checker, compute, visit)
            if isinstance(candidate, Refusal):
                report.rejected.append(candidate.reason)
                report.passed_over.append(_told(visit, f"the check failed: {candidate.reason}"))
            else:
                kept.append(candidate)
    report.seconds = time.monotonic() - started
    return kept


def _told(visit: Visit, why: str) -> PassedOver:
    """What the report says of a form that becomes no candidate."""
    draft = visit.draft
    return replace(passed_over(visit, why), pattern=label_of(draft.matched, [rule for rule, _, _ in draft.chain]))


def is_plain_reduction(scope: Scope) -> bool:
    """Whether this search knows moves for a scope: it folds tensors over windows or planes, and is no contraction.

    Rows (the sums and maxima of softmax and normalisations) are folded as they stand, and fuse with what reads them.
    """
    reads = accesses(scope.body)
    if not scope.reduction or is_contraction(scope) or not reads or not scope.type.elements:
        return False
    if not all(isinstance(access.source, Tensor) for access in reads) or 0 in (i.extent for i in scope.reduction):
        return False
    plane = scope.reducer is Reducer.SUM and sum(iterator.extent > 1 for iterator in scope.reduction) > 1
    return plane or bool(_windows(scope)) or any(not access.stays_inside for access in reads) or _is_strided(scope)


def explored_reductions(
    compute: Compute,
    constants: Collection[str],
    limits: SearchLimits,
    excluded: Collection[str],
    report: SearchReport,
    deadline: float | None = None,
) -> Iteration[Visit]:
    """Every tower and every convolution within the limits, in the order of the search, while ``report`` counts along."""
    if not is_plain_reduction(compute.expression):
        return
    started = time.monotonic()
    start = Tower(compute.expression)
    seen = {canonical_key(start.root)}
    queue = deque([start])
    while queue:
        if report.visited == limits.states:
            report.truncated = "states"
            return
        if deadline is not None and time.monotonic() > deadline:
            report.truncated = "time"
            return
        tower = queue.popleft()
        report.visited += 1
        statements = tower.statements(compute.output)
        least = estimated_seconds(
            statements, constants
        )  # a factor of ones is read for one point each time: nothing is reused
        drafts = [*_convolutions(tower, compute.output, constants, excluded, report)]
        if tower.moves:
            drafts.append(Draft(tower.root, tower.chain, statements, ()))
        for draft in drafts:
            if report.first_goal_seconds is None:
                report.first_goal_seconds = time.monotonic() - started
            yield Visit(draft, max(least, estimated_seconds(draft.statements, constants)))
        if tower.moves < limits.depth:
            for move in _moves(tower):
                following = _after(tower, move, excluded, report)
                if following is not None and (key := canonical_key(following.root)) not in seen:
                    seen.add(key)
                    queue.append(following)
    if report.first_goal_seconds is None:
        report.nearest = "no window overlaps another, so no fold is shared"


# Moves ---------------------------------------------------------------------------------------------------------------


def _moves(tower: Tower) -> Iterable[tuple[Application, ...]]:
    """Chains of applications; what each step reads is known beforehand, so that a chain is tried as a whole."""
    for path, scope in tower.levels():
        if any(not access.stays_inside for access in accesses(scope.body)):
            tighten: Application = ("tighten", path, Site())
            yield (tighten, (MERGE_RULE, path[:-1], MERGE)) if path else (tighten,)
        for tap, step, beside in _windows(scope):
            if len(scope.reduction) > 1:
                yield _nested(path, tap, step, beside)
            elif tap.extent >= _LONG:
                yield from _shortened(scope, path, tap, step, beside)
        if scope.reduction and not isinstance(accesses(scope.body)[0].source, Scope):
            yield from _viewed(scope, path)


def _windows(scope: Scope) -> list[Window]:
    """Taps that stand beside traversal iterators in one index of the body and nowhere else: windows that may overlap."""
    found: dict[Window, None] = {}
    for access in accesses(scope.body):
        for index in access.indices:
            for terms in components(index):
                taps = [(atom, step) for atom, step in terms if isinstance(atom, Iterator) and atom in scope.reduction]
                beside = [
                    (atom, step) for atom, step in terms if isinstance(atom, Iterator) and atom in scope.traversal
                ]
                if len(taps) == 1 and beside and len(terms) == 1 + len(beside):
                    found[(*taps[0], tuple(beside))] = None
    return list(found)


def _is_strided(scope: Scope) -> bool:
    return any(_stride(scope, index) for access in accesses(scope.body) for index in access.indices)


def _stride(scope: Scope, index: Index) -> int | None:
    """The step of the traversal through an index that hops over elements, within a vector; None for any other."""
    steps = [abs(step) for atom, step in index.terms if isinstance(atom, Iterator) and atom in scope.traversal]
    return min(steps) if steps and 1 < min(steps) <= _WIDEST else None


def _nested(path: Path, tap: Iterator, step: int, beside: tuple[tuple[Iterator, int], ...]) -> tuple[Application, ...]:
    """One tap folded outside, the others inside, at every place that the taps reach once."""
    terms = tuple((iterator.name, factor) for iterator, factor in (*beside, (tap, step)))
    return (
        ("stage", path, Site.of(iterators=(tap.name,))),
        ("collapse_traversal", (*path, 0), Site.of(terms=terms)),
        (MERGE_RULE, path, MERGE),
    )


def _shortened(
    scope: Scope, path: Path, tap: Iterator, step: int, beside: tuple[tuple[Iterator, int], ...]
) -> Iterable[tuple[Application, ...]]:
    """A long window folded from shorter ones: two halves that may overlap, or parts that divide it about evenly."""
    high = fresh_iterator(tap.name, 2, (*scope.traversal, *scope.reduction)).name  # as the rules name it
    parts: list[tuple[str, int, int]] = []
    if scope.reducer in (Reducer.MAX, Reducer.MIN):
        parts.append(("split_overlapping", 2, tap.extent - -(-tap.extent // 2)))
    divisors = [factor for factor in range(2, isqrt(tap.extent) + 1) if tap.extent % factor == 0]
    for factor in divisors[-1:]:
        parts.append(("split_reduction", tap.extent // factor, tap.extent // factor))
    for rule, factor, distance in parts:
        terms = (*((iterator.name, found) for iterator, found in beside), (high, step * distance))
        yield (
            (rule, path, Site.of(iterator=tap.name, factor=factor, offset=0)),
            ("stage", path, Site.of(iterators=(high,))),
            ("collapse_traversal", (*path, 0), Site.of(terms=terms)),
            (MERGE_RULE, path, MERGE),
        )


def _viewed(scope: Scope, path: Path) -> Iterable[tuple[Application, ...]]:
    """The finest strided index read through views of its residues."""
    for position, access in enumerate(accesses(scope.body)):
        for axis, index in enumerate(access.indices):
            stride = _stride(scope, index)
            if stride is not None:
                yield (("view_residues", path, Site.of(access=position, axis=axis, factor=stride)),)


def _after(
    tower: Tower, move: tuple[Application, ...], excluded: Collection[str], report: SearchReport
) -> Tower | None:
    root, chain = tower.root, tower.chain
    for rule, path, site in move:
        if rule in excluded:
            return None
        result = applied(report, rule, root, path, site)
        if isinstance(result, Refusal):
            return None
        if rule == "tighten" and result.reducer is None:
            return None  # nothing would be left to fold where the result is kept
        root, chain = result, (*chain, (rule, path, site))
    return Tower(root, chain, tower.moves + 1)


def _convolutions(
    tower: Tower, output: Tensor, constants: Collection[str], excluded: Collection[str], report: SearchReport
) -> Iterable[Draft]:
    """A sum of one level with a factor of ones, as a convolution or a product with a matrix."""
    if len(tower.levels()) > 1 or tower.root.reducer is not Reducer.SUM or "unit_factor" in excluded:
        return
    root = applied(report, "unit_factor", tower.root, (), Site())
    if isinstance(root, Scope):
        state = State(root, (*tower.chain, ("unit_factor", (), Site())), tower.moves + 1)
        yield from drafts_of(normalised(state, report), output, constants, excluded, report)
