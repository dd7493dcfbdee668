"""Recomputation for a given order, as the sparse stage model that CP-SAT solves: whole problems, and windows of a plan.

Any number of computations of a step, but only before its readers or before their recomputations, so that an optimum of the model is
one of these plans. Nothing is fetched. Everything that is returned was judged by `passes.plan.trace`. Formulation and what it is
after: `stages_model`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ortools.sat.python import cp_model

from passes.plan.solvers.cp_sat import search, work_done
from passes.plan.solvers.incumbent import Incumbent
from passes.plan.solvers.scaling import Scaled, scaled
from passes.plan.solvers.stages_model import StageModel
from passes.plan.solvers.stages_window import Staged, Window, candidates, staged, whole, within
from passes.plan.solving import Better, Goal, Outcome
from tensoropt.plan_types import Bound, Problem

SUBSOLVERS = ("quick_restart_no_lp", "default_lp")
"""Of CP-SAT: clause learning with frequent restarts finds first plans (250 steps: within 5 s, where the default finds none in a
minute, its time spent on the linear relaxation), the relaxation proves."""


def solve(problem: Problem, goal: Goal, better: Better, hint: Sequence[int] | None = None) -> Outcome:
    """The best plan of the stage model. ``hint`` is a sequence to start from, which need not be within the budget.

    First computations keep the order of the hint's where there is one, else that of the input. Recomputations for recomputations
    are offered one deep at first; where the optimum of that is found and time is left, two deep, then four, until all are offered.
    ValueError for a hint with fetches, or one that does not keep the order of the input where the goal asks for that.
    """
    _require_no_fetches(problem, hint or ())
    order = tuple(range(len(problem.steps))) if hint is None else staged(hint).order
    if goal.order == "input" and order != tuple(range(len(problem.steps))):
        raise ValueError("the hint does not keep the order of the input")
    incumbent = Incumbent(problem, goal.budget, better)
    for sequence in (order, hint):
        if sequence is not None:
            incumbent.offer(sequence)
    window = whole(problem, order)
    run = _Run(problem, goal, incumbent, window, None if hint is None else staged(hint))
    claim, depth, offered = "", 1, candidates(problem, window, 1)
    while not _at_best(problem, incumbent) and run.search(offered):
        if run.numbers.sizes_exact and run.numbers.durations_exact:
            claim = f"plans of the stage model, with recomputations for recomputations up to {depth} deep"
            claim += ", without paging" if problem.transfers else ""
        deeper = candidates(problem, window, 2 * depth)
        if deeper == offered:
            break
        depth, offered = 2 * depth, deeper
    if _at_best(problem, incumbent):
        bound = Bound(problem.duration, "every step once", "any order")
        return Outcome(incumbent.sequence, True, "any plan", (bound,))
    return Outcome(incumbent.sequence, bool(claim), claim)


def polish(problem: Problem, sequence: Sequence[int], goal: Goal, first_stage: int, last_stage: int) -> Outcome:
    """The sequence with better recomputations in one window, and the rest as it is, so that the outcome is never complete.

    The window is from the recomputations before the first computation of stage ``first_stage`` to the first computation of
    ``last_stage``, or to the end where that is the last; stages count first computations from 0. The sequence may be over the
    budget within the window, and None is returned if that cannot be mended. ValueError for stages that do not exist, and for a
    plan with fetches.
    """
    _require_no_fetches(problem, sequence)
    plan = staged(sequence)
    if not 0 <= first_stage <= last_stage < len(plan.order):
        raise ValueError(f"there are no stages {first_stage} to {last_stage} in a plan of {len(plan.order)} steps")
    incumbent = Incumbent(problem, goal.budget, lambda _: None)
    incumbent.offer(sequence)
    if incumbent.sequence is not None:
        plan = staged(incumbent.sequence)
    window = within(problem, plan, first_stage, last_stage)
    _Run(problem, goal, incumbent, window, plan).search(candidates(problem, window, 1))
    return Outcome(incumbent.sequence)


def _require_no_fetches(problem: Problem, sequence: Sequence[int]) -> None:
    if any(action >= len(problem.steps) for action in sequence):
        raise ValueError(f"{problem.name}: the stage model has no fetches from the host")


def _at_best(problem: Problem, incumbent: Incumbent) -> bool:
    """Whether a plan was found that recomputes nothing that takes time."""
    return incumbent.sequence is not None and incumbent.duration == problem.duration


@dataclass(slots=True)
class _Run:
    """Searches of one window under the limits of one goal. ``plan`` is what surrounds the window, and where to begin."""

    problem: Problem
    goal: Goal
    incumbent: Incumbent
    window: Window
    plan: Staged | None
    numbers: Scaled = field(init=False)
    until: float = field(init=False)
    work_left: float | None = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = scaled(self.problem, self.goal.budget)
        self.until = time.monotonic() + self.goal.seconds
        self.work_left = self.goal.work

    def search(self, offered: Sequence[set[int]]) -> bool:
        """Offers what the model has to the incumbent; whether nothing better is left in the model, as rounded.

        What the plan recomputes is among the choices, so that the plan can be told to the solver.
        """
        problem, window, incumbent = self.problem, self.window, self.incumbent
        plan = self.plan if incumbent.sequence is None else staged(incumbent.sequence)
        choices = [set(stages) for stages in offered]
        inside: list[int] = []
        for stage in range(window.first, window.last + (2 if window.ends else 1)):
            for number in plan.again[stage] if plan is not None else ():
                choices[number].add(stage)
                inside.append(number)
        model = StageModel(problem, window, self.numbers, choices)
        before: tuple[int, ...] = ()
        after: tuple[int, ...] = ()
        if plan is not None:
            model.hint(plan.sequence)
            before = plan.between(0, window.first - 1)
            after = () if window.ends else plan.sequence[len(plan.between(0, window.last)) :]
        if incumbent.sequence is not None:
            # A plan as good as the incumbent is allowed: to exclude it would take the solver its start.
            model.at_most(sum(problem.steps[number].duration for number in inside) // self.numbers.time_unit)
        solver, status = search(
            model.model,
            self.goal,
            self.until,
            self.work_left,
            incumbent,
            lambda value_of: (*before, *model.sequence(value_of), *after),
            SUBSOLVERS,
        )
        if self.work_left is not None:
            self.work_left = max(0.0, self.work_left - work_done(solver))
        return status in (cp_model.OPTIMAL, cp_model.INFEASIBLE)
