"""The search: from one contraction to the statements that library operators and generated kernels compute it with.

Best first by the distance to library operators, over moves that coefficients suggest, with an exact visited set. It does not
stop at the first goal: every state that matches gives candidates, they are ranked by estimated cost, and those that are kept
are checked exactly. Deterministic where work is limited in states; what a deadline cuts short is reported.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Iterator as Iteration
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, prod
from types import MappingProxyType
from typing import Any

from passes.derive.candidate import Candidate, PassedOver, SearchLimits, SearchReport, label_of
from passes.derive.certify.certificate import Checker
from passes.derive.cost import estimated_seconds, least_seconds
from passes.derive.drafts import Draft, Named, as_written, drafts_of
from passes.derive.nearness import what_is_missing
from passes.derive.operators.product import factors_of
from passes.derive.proposals import Move, distance, proposals
from passes.derive.rules import RULES_BY_NAME
from passes.derive.state import State, moved, normalised, varies
from tensoropt.ir.expression import Scope
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import derive_along
from tensoropt.rewrite.rule import Refusal

_PLAUSIBLE = 1.6
"""How much dearer than the best estimate another kind of candidate may be and still be worth measuring early."""

_CHECKING = 0.4
"""The share of the time that is kept for checks where there is a deadline."""


_GROWTH = 3.0
"""How many times the arithmetic of the start a state may have: skews and blocks make boxes larger than what they hold."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A draft as the search comes upon it, and what it is estimated to cost."""

    draft: Draft
    estimated_seconds: float

    @property
    def label(self) -> str:
        """What it leads to: the operators with their parameters, or generated kernels."""
        return label_of(self.draft.matched, [rule for rule, _, _ in self.draft.chain])


def derive(
    compute: Compute,
    program_constants: Collection[str] = (),
    limits: SearchLimits | None = None,
    excluded_rules: Collection[str] = (),
    report: SearchReport | None = None,
    deadline: float | None = None,
) -> list[Candidate]:
    """Checked candidates for a statement that is a sum of products of two tensors, cheapest estimate first; else none.

    ``deadline`` is a value of ``time.monotonic``. When it comes, the best of what was found by then is returned, at least one
    of it checked, and the report says ``truncated``.
    """
    limits = limits or SearchLimits()
    report = report or SearchReport()
    started = time.monotonic()
    searching = None if deadline is None else deadline - _CHECKING * max(0.0, deadline - started)
    drafts: dict[str, tuple[tuple[float, int], int, Visit]] = {}  # for each operator the cheapest, then shortest
    shortest: dict[str, Visit] = {}
    least = inf
    for visit in explored(compute, program_constants, limits, excluded_rules, report, searching):
        least = min(least, visit.estimated_seconds)
        key = visit.label
        rank = visit.estimated_seconds, len(visit.draft.chain)
        if key not in drafts or rank < drafts[key][0]:
            drafts[key] = rank, len(drafts), visit
        if key not in shortest or len(visit.draft.chain) < len(shortest[key].draft.chain):
            shortest[key] = visit
    report.goals = len(drafts)
    most = limits.dearer * min(estimated_seconds((compute,), program_constants), least)
    ranked = _varied([visit for _, _, visit in sorted(drafts.values(), key=lambda entry: entry[:2])])
    kept = checked_drafts(compute, ranked, most, limits, report, deadline, shortest)
    report.seconds = time.monotonic() - started
    return kept


def checked_drafts(
    compute: Compute,
    ranked: Iterable[Visit],
    most: float,
    limits: SearchLimits,
    report: SearchReport,
    deadline: float | None,
    shortest: Mapping[str, Visit] = MappingProxyType({}),
) -> list[Candidate]:
    """The first candidates that pass their check, as many as the limits say, of drafts in the order of preference.

    What is estimated dearer than ``most`` is not checked, and after the deadline one that passed is enough. ``shortest`` gives
    by label another way to an operator, which may be easier to check. The report tells of all that becomes no candidate.
    """
    checker = Checker()
    kept: list[Candidate] = []
    for visit in ranked:
        if visit.estimated_seconds > most:
            dearer = visit.estimated_seconds / most * limits.dearer
            report.passed_over.append(passed_over(visit, f"estimated {dearer:.1f} times as dear as the best"))
            continue
        if len(kept) == limits.candidates:
            others = f"{len(kept)} others were estimated cheaper{' or of another kind' if shortest else ''}"
            report.passed_over.append(passed_over(visit, others))
            continue
        if kept and deadline is not None and time.monotonic() > deadline:
            report.truncated = "time"
            report.passed_over.append(passed_over(visit, "not checked, the time limit had passed"))
            continue
        candidate = checked_draft(checker, compute, visit)
        other = shortest.get(visit.label, visit)
        if isinstance(candidate, Refusal) and other is not visit and other.estimated_seconds <= most:
            report.rejected.append(candidate.reason)
            candidate = checked_draft(checker, compute, other)
        if isinstance(candidate, Refusal):
            report.rejected.append(candidate.reason)
            report.passed_over.append(passed_over(visit, f"the check failed: {candidate.reason}"))
        else:
            kept.append(candidate)
    return kept


def passed_over(visit: Visit, why: str) -> PassedOver:
    """What the report says of a draft that becomes no candidate."""
    draft = visit.draft
    steps = (
        f"{rule}({site})" + (f" at {'.'.join(map(str, path))}" if path else "") for rule, path, site in draft.chain
    )
    return PassedOver(visit.label, tuple(steps), visit.estimated_seconds, why)


def checked_draft(checker: Checker, compute: Compute, visit: Visit) -> Candidate | Refusal:
    """The draft with its certificate, or why it gets none."""
    draft = visit.draft
    derivation = derive_along(compute.expression, list(draft.chain), RULES_BY_NAME)
    verdict = checker.check(derivation, compute, draft.statements)
    if isinstance(verdict, Refusal):
        return verdict
    statements = tuple(Compute(made.output, made.expression, compute.origin) for made in draft.statements)
    return Candidate(statements, derivation, draft.matched, visit.estimated_seconds, verdict)


def _varied(ranked: list[Visit]) -> list[Visit]:
    """The drafts so that the best of each kind (operator and length of its sums) comes before the second best of any.

    Only kinds that are estimated within a factor of the best one count: the estimate is rough, so what is measured should differ.
    """
    seen: dict[Any, int] = {}
    keyed = []
    for place, visit in enumerate(ranked):
        match = visit.draft.matched[0]
        kind = match.operator, prod(iterator.extent for iterator in match.expression.reduction)
        seen[kind] = seen.get(kind, -1) + 1
        far = visit.estimated_seconds > _PLAUSIBLE * ranked[0].estimated_seconds
        keyed.append(((far, seen[kind], place), visit))
    return [visit for _, visit in sorted(keyed, key=lambda pair: pair[0])]


def explored(
    compute: Compute,
    program_constants: Collection[str],
    limits: SearchLimits,
    excluded_rules: Collection[str],
    report: SearchReport,
    deadline: float | None = None,
) -> Iteration[Visit]:
    """What matches an operator, in the order in which the search comes upon it, while ``report`` counts along."""
    started = time.monotonic()
    report.excluded = frozenset(excluded_rules)
    if factors_of(compute.expression) is None or not varies(compute.expression):
        return
    if 0 in (*compute.output.shape, *(iterator.extent for iterator in compute.expression.reduction)):
        return
    least = inf
    written: frozenset[Named] = frozenset()
    nearest: tuple[tuple[int, int], State] | None = None
    for state, far in _visited(compute.expression, program_constants, limits, report, deadline):
        if state.moves == 0:
            written = as_written(state, compute.output, program_constants)
        if nearest is None or (far, state.moves) < nearest[0]:
            nearest = (far, state.moves), state
        if least_seconds(state.core) > limits.dearer / 2 * least:
            continue  # an operator does all multiplications of its core, so nothing cheap comes of this one
        for draft in drafts_of(state, compute.output, program_constants, excluded_rules, report, written):
            if report.first_goal_seconds is None:
                report.first_goal_seconds = time.monotonic() - started
            seconds = estimated_seconds(draft.statements, program_constants)
            least = min(least, seconds)
            yield Visit(draft, seconds)
    if nearest is not None and report.first_goal_seconds is None:
        report.nearest = what_is_missing(nearest[1], report.excluded)


def _visited(
    start: Scope,
    constants: Collection[str],
    limits: SearchLimits,
    report: SearchReport,
    deadline: float | None,
) -> Iteration[tuple[State, int]]:
    """States in the order of the search, the start first, each with its distance."""
    first = normalised(State(start), report)
    best_depth = {first.key(): 0}
    most = _GROWTH * least_seconds(first.core)
    queue: list[tuple[int, int, int, State]] = [(0, 0, distance(first.core, constants), first)]
    count = 0
    while queue:
        if report.visited == limits.states:
            report.truncated = "states"
            return
        if deadline is not None and time.monotonic() > deadline:
            report.truncated = "time"
            return
        _, _, far, state = heappop(queue)
        report.visited += 1
        yield state, far
        if state.moves == limits.depth:
            continue
        for move in proposals(state.core, constants):
            following = _after(state, move, report)
            if following is None:
                continue
            if least_seconds(following.core) > most:
                continue  # skewed beyond use
            key = following.key()
            if best_depth.get(key, limits.depth + 1) <= following.moves:
                continue
            best_depth[key] = following.moves
            count += 1
            far = distance(following.core, constants)
            heappush(queue, (far * 2 + following.moves, -count, far, following))


def _after(state: State, move: Move, report: SearchReport) -> State | None:
    current = state
    for rule, site in move:
        result = moved(current, rule, site, report)
        if isinstance(result, Refusal):
            return None
        current = result
    return normalised(State(current.root, current.chain, state.moves + 1), report)
