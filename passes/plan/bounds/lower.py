"""Lower bounds on the duration of every plan within a budget, and proofs that there is none.

Budgets are of live bytes. A packed arena is never smaller than the live peak, so all of this holds under both memory models.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from passes.plan.bounds.cuts import loaded, stages
from passes.plan.bounds.gap_cover import gap_cover
from passes.plan.bounds.moments import heaviest_chain, live_values, loads, moments
from passes.plan.bounds.program import BinaryProgram
from passes.plan.bounds.relaxation import Relaxed, integer_bound, linear_bound
from passes.plan.bounds.working_sets import Holds, Infeasible, working_sets
from passes.plan.trace import trace
from tensoropt.plan_types import Bound, Order, Problem

HOLDS: dict[Order, Holds] = {"free": "any order", "input": "input order"}

LARGEST_INTEGER_PROGRAM = 400_000
"""Occurrences of variables in a program beyond which only the linear relaxation is solved: presolve alone takes many seconds."""

MOST_ENTRIES = 100_000
"""In the rows of the gap cover, roughly; with more candidates for moments than that allows the most loaded are taken."""

MOST_STEPS = 5_000
"""Of problems that gap covers are stated for: what can be solved of them in a minute is below the stage bound for larger ones."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A program whose least cost bounds the duration beyond ``fixed``, its origin, and its share of the time that is left."""

    method: str
    program: BinaryProgram
    fixed: int
    share: float


def lower_bounds(
    problem: Problem, budget: int, order: Order, seconds: float, workers: int, known: int | None = None
) -> tuple[Bound, ...] | Infeasible:
    """The best bound of each method for plans of an order, the least first; or a proof that no such plan keeps the budget.

    Within ``seconds`` of wall time, but for the statement of a last program. The sum of all durations is always among them, and
    alone where the order of the input fits as it is. ``known`` is the duration of a plan within the budget, at which a bound ends
    the search for a better one.
    """
    started = time.monotonic()
    proof = working_sets(problem, budget)
    if proof is not None:
        return proof
    best = {"every step once": Bound(problem.duration, "every step once", "any order")}
    if trace(problem, range(len(problem.steps))).peak() <= budget:
        return tuple(best.values())
    for statement in _statements(problem, budget, order):
        left = seconds - (time.monotonic() - started)
        if left <= 0:
            break
        relaxed = _solved(statement.program, left * statement.share, workers)
        if relaxed.infeasible:
            return Infeasible(f"the bound of {statement.method} has no solution", HOLDS[order])
        duration = max(problem.duration, statement.fixed + relaxed.bound)
        if statement.method not in best or duration > best[statement.method].duration:
            best[statement.method] = Bound(duration, statement.method, HOLDS[order])
        if known is not None and duration >= known:
            break
    return tuple(sorted(best.values(), key=lambda bound: bound.duration))


def _statements(problem: Problem, budget: int, order: Order) -> Iterator[Statement]:
    """Programs from the quickest to the largest. None in a free order where all that must be live fits at every step."""
    weights = loads(problem, order)
    excess = [max(0.0, weight - float(budget)) for weight in weights]
    if order == "free" and not any(excess):
        return
    candidates = tuple(range(len(problem.steps)))
    if order == "free":
        candidates = heaviest_chain(problem, [one / max(excess) + 1e-3 for one in excess])
    for step in sorted(loaded(candidates, weights, 3), key=lambda step: -weights[step]):
        cut = stages(problem, budget, moments(problem, order, (step,)))
        yield Statement("stages cut at one step", cut.program, cut.fixed, 0.1)
    cut = stages(problem, budget, moments(problem, order, loaded(candidates, weights, 3)))
    yield Statement("stages cut at a few steps", cut.program, cut.fixed, 0.3)
    if len(problem.steps) > MOST_STEPS:
        return
    watched = moments(problem, order, loaded(candidates, weights, max(10, MOST_ENTRIES // live_values(problem))))
    cover = gap_cover(problem, budget, watched, nesting=0)
    yield Statement("gap cover", cover.program, problem.duration, 0.2)
    for count, share in ((3, 0.4), (10, 1.0)):
        cuts = loaded(range(watched.count), [weights[step] for step in watched.steps], count)
        cover = gap_cover(problem, budget, watched, 1, cuts)
        yield Statement("gap cover with cuts", cover.program, problem.duration, share)


def _solved(program: BinaryProgram, seconds: float, workers: int) -> Relaxed:
    """The better of the linear and the integer bound, the latter where it can be had in the time."""
    started = time.monotonic()
    linear = linear_bound(program, seconds)
    size = sum(len(row.variables) for row in program.rows) + sum(map(len, program.clauses))
    left = seconds - (time.monotonic() - started)
    if linear.infeasible or size > LARGEST_INTEGER_PROGRAM or left <= 0:
        return linear
    integer = integer_bound(program, left, workers)
    return integer if integer.infeasible or integer.bound >= linear.bound else linear
