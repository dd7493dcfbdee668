"""Rounded solutions are plans in the input order that take what the program says, and optimal ones where they fit."""

from __future__ import annotations

from hypothesis import given, settings

from passes.plan.bounds.gap_cover import gap_cover
from passes.plan.bounds.moments import moments
from passes.plan.bounds.near_bound import near_bound
from passes.plan.bounds.relaxation import integer_bound
from passes.plan.bounds.rounding import rounded
from passes.plan.bounds.working_sets import Infeasible
from passes.plan.solvers import exhaustive
from passes.plan.solving import Goal
from passes.plan.trace import trace
from tensoropt.plan_types import Problem
from tests.passes.plan.problems import budgeted, keeps_input_order, may_be_run


@settings(max_examples=100)
@given(budgeted(most=6, paging=True))
def test_rounded_solutions_are_plans_of_the_program_s_duration(drawn: tuple[Problem, int]) -> None:
    problem, budget = drawn
    cover = gap_cover(problem, budget, moments(problem, "input", range(len(problem.steps))))
    solved = integer_bound(cover.program, 10, 1)
    if solved.values is None:
        return
    plan = rounded(cover, solved.values)
    assert set(plan.sequence) >= set(range(len(problem.steps)))
    assert keeps_input_order(problem, plan.sequence)
    assert may_be_run(problem, plan.sequence)
    assert plan.duration == trace(problem, plan.sequence).duration() <= problem.duration + solved.bound
    assert plan.peak_bytes == trace(problem, plan.sequence).peak()
    if plan.peak_bytes <= budget:
        outcome = exhaustive.solve(problem, Goal(budget, "input"), lambda sequence: None)
        assert outcome.sequence is not None
        assert trace(problem, outcome.sequence).duration() == plan.duration


@settings(max_examples=60)
@given(budgeted(most=6, paging=True))
def test_what_is_near_the_bound_is_judged_as_it_is(drawn: tuple[Problem, int]) -> None:
    problem, budget = drawn
    outcome = exhaustive.solve(problem, Goal(budget, "input"), lambda sequence: None)
    found = near_bound(problem, budget, 10, 1)
    if isinstance(found, Infeasible):
        assert outcome.sequence is None
        return
    shortest = None if outcome.sequence is None else trace(problem, outcome.sequence).duration()
    assert problem.duration <= found.bound.duration
    assert shortest is None or found.bound.duration <= shortest
    if found.plan is not None:
        plan = trace(problem, found.plan.sequence)
        assert (plan.duration(), plan.peak()) == (found.plan.duration, found.plan.peak_bytes)
        assert found.plan.peak_bytes > budget or (shortest is not None and shortest <= found.plan.duration)
