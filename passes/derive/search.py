"""The search: from one contraction to the statements that library operators and generated kernels compute it with.

Best first by the distance to library operators, over moves that coefficients suggest, with an exact visited set. It does not
stop at the first goal: every state that matches gives candidates, they are ranked by estimated cost, and those that are kept
are checked exactly. Deterministic: work is limited in states, not in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from heapq import heappop, heappush
from math import inf, prod
from typing import Any

from passes.derive.candidate import Candidate, SearchLimits, SearchReport
from passes.derive.certificate import Checker
from passes.derive.cost import estimated_seconds, least_seconds
from passes.derive.drafts import Draft, drafts_of
from passes.derive.patterns import factor_accesses
from passes.derive.proposals import distance, proposals
from passes.derive.rules import RULES_BY_NAME
from passes.derive.state import State, moved, normalised, varies
from tensoropt.ir.expression import Scope
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import derive_along
from tensoropt.rewrite.rule import Refusal

_PLAUSIBLE = 1.6
"""How much dearer than the best estimate another kind of candidate may be and still be worth measuring early."""


def derive(
    compute: Compute,
    program_constants: Collection[str] = (),
    limits: SearchLimits | None = None,
    excluded_rules: Collection[str] = (),
    report: SearchReport | None = None,
) -> list[Candidate]:
    """Checked candidates for a statement that is a sum of products of two tensors, cheapest estimate first; else none."""
    limits = limits or SearchLimits()
    report = report or SearchReport()
    factors = factor_accesses(compute.expression)
    if factors is None or any(isinstance(access.source, Scope) for access in factors) or not varies(compute.expression):
        return []
    if 0 in (*compute.output.shape, *(iterator.extent for iterator in compute.expression.reduction)):
        return []
    drafts: dict[str, tuple[tuple[float, int], int, Draft]] = {}  # for each operator the cheapest, then shortest
    least = inf
    original = estimated_seconds((compute,), program_constants)
    for state in _visited(compute.expression, limits, excluded_rules, report):
        if least_seconds(state.core) > limits.dearer / 2 * least:
            continue  # an operator does all multiplications of its core, so nothing cheap comes of this one
        for draft in drafts_of(state, compute.output, program_constants, excluded_rules):
            seconds = estimated_seconds(draft.statements, program_constants)
            least = min(least, seconds)
            key = str(draft.matched[0])
            rank = seconds, len(draft.chain)
            if key not in drafts or rank < drafts[key][0]:
                drafts[key] = rank, len(drafts), draft
    report.goals = len(drafts)
    checker = Checker()
    kept: list[Candidate] = []
    for (seconds, _), _, draft in _varied(sorted(drafts.values(), key=lambda entry: entry[:2])):
        if len(kept) == limits.candidates:
            break
        if seconds > limits.dearer * min(original, least):
            continue
        derivation = derive_along(compute.expression, list(draft.chain), RULES_BY_NAME)
        verdict = checker.check(derivation, compute, draft.statements)
        if isinstance(verdict, Refusal):
            report.rejected.append(verdict.reason)
        else:
            statements = tuple(Compute(made.output, made.expression, compute.origin) for made in draft.statements)
            kept.append(Candidate(statements, derivation, draft.matched, seconds, verdict))
    return kept


def _varied(ranked: list[Any]) -> list[Any]:
    """The drafts so that the best of each kind (operator and length of its sums) comes before the second best of any.

    Only kinds that are estimated within a factor of the best one count: the estimate is rough, so what is measured should differ.
    """
    seen: dict[Any, int] = {}
    keyed = []
    for place, entry in enumerate(ranked):
        (seconds, _), _, draft = entry
        match = draft.matched[0]
        kind = match.operator, prod(iterator.extent for iterator in match.expression.reduction)
        seen[kind] = seen.get(kind, -1) + 1
        far = seconds > _PLAUSIBLE * ranked[0][0][0]
        keyed.append(((far, seen[kind], place), entry))
    return [entry for _, entry in sorted(keyed, key=lambda pair: pair[0])]


def _visited(start: Scope, limits: SearchLimits, excluded: Collection[str], report: SearchReport) -> list[State]:
    """States in the order of the search, the start first."""
    first = normalised(State(start))
    best_depth = {first.key(): 0}
    queue: list[tuple[int, int, State]] = [(distance(first.core), 0, first)]
    order: list[State] = []
    count = 0
    while queue and len(order) < limits.states:
        _, _, state = heappop(queue)
        order.append(state)
        if state.moves == limits.depth:
            continue
        for move in proposals(state.core):
            following = _after(state, move, excluded, report)
            if following is None:
                continue
            key = following.key()
            if best_depth.get(key, limits.depth + 1) <= following.moves:
                continue
            best_depth[key] = following.moves
            count += 1
            heappush(queue, (distance(following.core) * 2 + following.moves, count, following))
    report.visited = len(order)
    return order


def _after(state: State, move: Any, excluded: Collection[str], report: SearchReport) -> State | None:
    current = state
    for rule, site in move:
        if rule in excluded:
            return None
        counts = report.of_rule(rule)
        started = time.perf_counter()
        result = moved(current, rule, site)
        counts.seconds += time.perf_counter() - started
        counts.tried += 1
        if isinstance(result, Refusal):
            counts.refused[result.reason] += 1
            return None
        counts.applied += 1
        current = result
    return normalised(State(current.root, current.chain, state.moves + 1))
