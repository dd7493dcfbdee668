"""The published constraint model of recomputation, for comparison: retention intervals, two phases, the input's order.

Bartan et al., "Moccasin: Efficient Tensor Rematerialization for Neural Networks" (ICML 2023), section 2: the first phase reduces
the memory from a plan that always exists, without a budget; the second starts from what the first found and reduces the duration
within the budget. The model is `published_model`'s.
"""

from __future__ import annotations

import time

from ortools.sat.python import cp_model

from passes.plan.solvers.cp_sat import search
from passes.plan.solvers.incumbent import Incumbent
from passes.plan.solvers.published_model import PublishedModel
from passes.plan.solvers.scaling import scaled
from passes.plan.solving import Better, Goal, Outcome
from tensoropt.plan_types import Bound, Problem

COMPUTATIONS = 2
"""Of a step at most, as in the published experiments."""


def solve(problem: Problem, goal: Goal, better: Better, computations: int = COMPUTATIONS) -> Outcome:
    """The best plan with so many computations of a step. The first phase has half of the limits, the second what is left.

    ValueError for a goal of free order: the formulation fixes the first computations.
    """
    if goal.order != "input":
        raise ValueError("the published formulation keeps the order of the input; it cannot plan in a free order")
    until = time.monotonic() + goal.seconds
    incumbent = Incumbent(problem, goal.budget, better)
    incumbent.offer(range(len(problem.steps)))
    if incumbent.sequence is not None or not problem.steps:
        return _outcome(problem, incumbent, False, "")
    numbers = scaled(problem, goal.budget)
    model = PublishedModel(problem, numbers, computations)
    claim = _claim(problem, computations)

    reached = model.model.new_int_var(0, max(0, numbers.budget, model.most_memory), "reached")
    model.model.add(reached >= model.footprint)
    model.model.add(reached >= numbers.budget)
    model.model.minimize(reached)
    half = (time.monotonic() + until) / 2
    work = None if goal.work is None else goal.work / 2
    solver, status = search(model.model, goal, half, work, incumbent, model.sequence)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return _outcome(problem, incumbent, False, "")
    if solver.value(model.footprint) > numbers.budget and status == cp_model.OPTIMAL:
        return _outcome(problem, incumbent, numbers.sizes_exact, claim)

    for variable in model.variables:
        model.model.add_hint(variable, solver.value(variable))
    model.model.clear_objective()
    model.model.add(model.footprint <= numbers.budget)
    model.model.minimize(model.duration())
    _, status = search(model.model, goal, until, work, incumbent, model.sequence)
    proved = (status == cp_model.OPTIMAL and numbers.durations_exact) or status == cp_model.INFEASIBLE
    return _outcome(problem, incumbent, bool(proved and numbers.sizes_exact), claim)


def _claim(problem: Problem, computations: int) -> str:
    """Among which plans an optimum of the model is one."""
    claim = f"plans in the input order, recomputations in each stage included, with at most {computations} computations of a step"
    if any(step.in_place for step in problem.steps):
        claim += ", nothing written in place"
    if problem.transfers:
        claim += ", without paging"
    return claim


def _outcome(problem: Problem, incumbent: Incumbent, complete: bool, claim: str) -> Outcome:
    """An outcome that claims no more than it knows; a plan that recomputes nothing is the best of all."""
    if incumbent.sequence is not None and incumbent.duration == problem.duration:
        bound = Bound(problem.duration, "every step once", "any order")
        return Outcome(incumbent.sequence, True, "any plan", (bound,))
    return Outcome(incumbent.sequence, complete, claim if complete else "")
