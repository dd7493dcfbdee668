"""Plans of the published model are plans, no better than the best, and the best where the model has it."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.sat.python import cp_model

from passes.plan.solvers import exhaustive, published
from passes.plan.solvers.published_model import PublishedModel, event
from passes.plan.solvers.scaling import scaled
from passes.plan.solving import Goal
from passes.plan.trace import trace
from tensoropt.plan_types import Problem, Step, Value
from tests.passes.plan.problems import HUGE, budgeted, keeps_input_order, magnified, may_be_run, there_and_back


def _goal(budget: int) -> Goal:
    return Goal(budget, "input", seconds=10.0, workers=1)


@settings(max_examples=100)
@given(budgeted(most=6))
def test_no_plan_is_over_the_budget_or_better_than_the_best(drawn: tuple[Problem, int]) -> None:
    problem, budget = drawn
    told: list[tuple[int, ...]] = []
    outcome = published.solve(problem, _goal(budget), told.append)
    assert told[-1:] == ([] if outcome.sequence is None else [outcome.sequence])
    best = exhaustive.solve(problem, _goal(budget), lambda _: None)
    assert best.complete
    if outcome.sequence is None:
        assert not outcome.bounds
        return
    assert set(outcome.sequence) == set(range(len(problem.steps)))
    assert may_be_run(problem, outcome.sequence)
    assert keeps_input_order(problem, outcome.sequence)
    assert max(Counter(outcome.sequence).values(), default=0) <= published.COMPUTATIONS
    found = trace(problem, outcome.sequence)
    assert found.peak() <= budget
    assert best.sequence is not None
    assert found.duration() >= trace(problem, best.sequence).duration()


@settings(max_examples=100)
@given(budgeted(most=6), st.randoms(use_true_random=False))
def test_whatever_the_model_allows_is_within_the_budget(drawn: tuple[Problem, int], chance: Random) -> None:
    """Under any objective: memory is counted in full in the model, not only where plans are short."""
    problem, budget = drawn
    published_model = PublishedModel(problem, scaled(problem, budget), 3)
    model = published_model.model
    model.add(published_model.footprint <= scaled(problem, budget).budget)
    model.minimize(sum(chance.randint(-3, 3) * variable for variable in published_model.variables))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_deterministic_time = 1.0
    status = solver.solve(model)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        sequence = published_model.sequence(solver.value)
        assert may_be_run(problem, sequence)
        assert trace(problem, sequence).peak() <= budget
    elif status == cp_model.INFEASIBLE and not any(step.in_place for step in problem.steps):
        assert trace(problem, range(len(problem.steps))).peak() > budget


def test_a_chain_is_planned_as_well_as_two_computations_of_a_step_allow() -> None:
    problem = there_and_back(4)
    for budget in (4, 5):
        best = exhaustive.solve(problem, _goal(budget), lambda _: None).sequence
        outcome = published.solve(problem, _goal(budget), lambda _: None)
        assert best is not None
        assert max(Counter(best).values()) <= 2
        assert outcome.sequence is not None
        assert trace(problem, outcome.sequence).duration() == trace(problem, best).duration()
        assert outcome.complete


def test_more_computations_of_a_step_find_what_two_do_not() -> None:
    """A cheap value is in the way of two large steps, and is read before, between and after them."""
    large = [Value(f"large {number}", 9) for number in range(2)]
    values = (Value("cheap", 2), *large, *(Value(f"out {number}", 0) for number in range(3)))
    steps = (
        Step("cheap", 1, (), (0,)),
        Step("first", 1, (0,), (3,)),
        Step("large 0", 1, (), (1,)),
        Step("second", 1, (0,), (4,)),
        Step("large 1", 1, (), (2,)),
        Step("third", 1, (0,), (5,)),
    )
    problem = Problem("three", values, steps).check()
    assert published.solve(problem, _goal(9), lambda _: None).sequence is None
    assert published.solve(problem, _goal(9), lambda _: None, 3).sequence == (0, 1, 2, 0, 3, 4, 0, 5)


def test_kept_values_stay_and_a_large_workspace_is_counted() -> None:
    values = (Value("a", 2, kept=True), Value("b", 1, kept=True))
    problem = Problem("kept", values, (Step("a", 1, (), (0,)), Step("b", 1, (), (1,), workspace=3))).check()
    assert published.solve(problem, _goal(6), lambda _: None).sequence == (0, 1)
    assert published.solve(problem, _goal(5), lambda _: None).sequence is None


@settings(max_examples=20)
@given(budgeted(most=5))
def test_huge_integers_stay_within_the_budget(drawn: tuple[Problem, int]) -> None:
    problem, budget = drawn
    large = magnified(problem, HUGE + 1)
    outcome = published.solve(large, _goal(budget * (HUGE + 1)), lambda _: None)
    if outcome.sequence is not None:
        assert trace(large, outcome.sequence).peak() <= budget * (HUGE + 1)


def test_nothing_and_almost_nothing() -> None:
    empty = Problem("empty", (), ())
    assert published.solve(empty, _goal(0), lambda _: None).sequence == ()
    assert published.solve(empty, _goal(-1), lambda _: None).sequence is None
    one = Problem("one", (Value("v", 3),), (Step("s", 0, (), (0,)),)).check()
    assert published.solve(one, _goal(3), lambda _: None).sequence == (0,)
    outcome = published.solve(one, _goal(2), lambda _: None)
    assert outcome.sequence is None
    assert outcome.complete


def test_a_free_order_is_refused() -> None:
    with pytest.raises(ValueError, match="order of the input"):
        published.solve(Problem("empty", (), ()), Goal(1, "free"), lambda _: None)


def test_events_are_numbered_without_gaps() -> None:
    assert [event(stage, place) for stage in range(4) for place in range(stage + 1)] == list(range(10))
