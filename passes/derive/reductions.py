"""Derivation for folds that are no contraction: pooling with any reducer, global or sliding, sums and extremes of windows.

A state is a tower of folds (``towers.py``), and every tower is a candidate: generated kernels fold any of them. A sum also gets a
unit factor, which makes it a convolution or a product with a matrix.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable
from collections.abc import Iterator as Iteration

from passes.derive.candidate import Candidate, SearchLimits, SearchReport
from passes.derive.cost import estimated_seconds
from passes.derive.drafts import Draft, drafts_of
from passes.derive.search import Visit, checked_drafts
from passes.derive.state import State, applied, normalised
from passes.derive.towers import Tower, after, moves, stride_of, windows
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Reducer, Scope, Tensor, accesses
from tensoropt.ir.program import Compute
from tensoropt.ir.structure import is_contraction
from tensoropt.ir.types import HALVES
from tensoropt.rewrite.rule import Site

"""Types whose sums are accumulated in f32 within one kernel: parts in statements of their own would be rounded once more each."""

_MULTIPLYING = 1.25
"""How much dearer than the fold itself its convolution with ones is at least: nothing is reused, and each addition multiplies."""


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
    kept = checked_drafts(compute, visits, most, limits, report, deadline)
    report.seconds = time.monotonic() - started
    return kept


def is_plain_reduction(scope: Scope) -> bool:
    """Whether this search knows moves for a scope: it folds tensors over windows or planes, and is no contraction.

    Rows (the sums and maxima of softmax and normalisations) are folded as they stand, and fuse with what reads them.
    """
    reads = accesses(scope.body)
    if not scope.reduction or is_contraction(scope) or not reads or not scope.type.elements:
        return False
    if not all(isinstance(access.source, Tensor) for access in reads) or 0 in (i.extent for i in scope.reduction):
        return False
    if scope.dtype in HALVES and scope.reducer in (Reducer.SUM, Reducer.PROD):
        return False
    plane = scope.reducer is Reducer.SUM and sum(iterator.extent > 1 for iterator in scope.reduction) > 1
    strided = any(stride_of(scope, index) for access in reads for index in access.indices)
    return plane or strided or bool(windows(scope)) or any(not access.stays_inside for access in reads)


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
    report.excluded = frozenset(excluded)
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
        plain = estimated_seconds(statements, constants)
        found = [
            Visit(draft, max(_MULTIPLYING * plain, estimated_seconds(draft.statements, constants)))
            for draft in _convolutions(tower, compute.output, constants, excluded, report)
        ]
        if tower.moves:
            found.append(Visit(Draft(tower.root, tower.chain, statements, ()), plain))
        if found and report.first_goal_seconds is None:
            report.first_goal_seconds = time.monotonic() - started
        yield from found
        if tower.moves < limits.depth:
            for move in moves(tower):
                following = after(tower, move, excluded, report)
                if following is not None and (key := canonical_key(following.root)) not in seen:
                    seen.add(key)
                    queue.append(following)
    if report.first_goal_seconds is None:
        report.nearest = "no window overlaps another, so no fold is shared"


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
