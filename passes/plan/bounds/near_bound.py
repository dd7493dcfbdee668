"""A plan in the input order that takes as long as the gap-cover bound or little longer: optimal, or what a search starts from."""

from __future__ import annotations

import time
from dataclasses import dataclass

from passes.plan.bounds.cuts import loaded
from passes.plan.bounds.gap_cover import gap_cover
from passes.plan.bounds.moments import live_values, loads, moments
from passes.plan.bounds.relaxation import fewest, integer_bound
from passes.plan.bounds.rounding import Rounded, rounded
from passes.plan.bounds.working_sets import Infeasible, working_sets
from tensoropt.plan_types import Bound, Problem

CUTS = (0, 3, 10, 3, 3, 3)
"""How many cuts the program has at each attempt. From the fourth on it is solved for a lower budget than the plan has to keep."""

MOST_ENTRIES = 1_000_000
"""In the rows of the program, roughly; larger ones are not attempted, for they would not be solved in minutes."""


@dataclass(frozen=True, slots=True)
class NearBound:
    """``plan``: within the budget if any such was found, and then the shortest; else the one least over it; None for none.

    ``bound`` holds for every plan in the input order. A plan within the budget that takes no longer is optimal among those.
    """

    plan: Rounded | None
    bound: Bound


def near_bound(problem: Problem, budget: int, seconds: float, workers: int) -> NearBound | Infeasible:
    """Rounds solutions for the budget, then for lower ones while plans are over it or longer than the bound, up to ``seconds``."""
    until = time.monotonic() + seconds
    proof = working_sets(problem, budget)
    if proof is not None:
        return proof
    best: Rounded | None = None
    least = problem.duration
    if live_values(problem) * len(problem.steps) > MOST_ENTRIES:
        return NearBound(best, Bound(least, "gap cover", "input order"))
    every = moments(problem, "input", range(len(problem.steps)))
    weights = loads(problem, "input")
    target = budget
    for attempt, count in enumerate(CUTS):
        cover = gap_cover(problem, target, every, 1, loaded(every.steps, weights, count) if count else ())
        started = time.monotonic()
        if started >= until:
            break
        solved = integer_bound(cover.program, (until - started) / 2, workers)
        if target == budget:
            if solved.infeasible:
                return Infeasible("the bound of the gap cover has no solution", "input order")
            least = max(least, problem.duration + solved.bound)
        if solved.values is None:
            continue
        # Fewer recomputations are a refinement, on which no more time is spent than on the bound itself.
        values, left = solved.values, until - time.monotonic()
        if left > 0:
            spent = time.monotonic() - started
            values = fewest(cover.program, solved, min(left, max(0.2, spent)), workers)
        plan = rounded(cover, values)
        if best is None or _rank(plan, budget) < _rank(best, budget):
            best = plan
        if best.peak_bytes <= budget and best.duration <= least:
            break
        if attempt >= 2 and plan.peak_bytes > budget:
            # What recomputations take beside one another hardly depends on the budget, so that room is left for it.
            target -= max(1, min((plan.peak_bytes - budget) // 2, budget // 10))
    return NearBound(best, Bound(least, "gap cover", "input order"))


def _rank(plan: Rounded, budget: int) -> tuple[int, int]:
    """Plans by what they are over the budget, then by duration."""
    return max(0, plan.peak_bytes - budget), plan.duration
