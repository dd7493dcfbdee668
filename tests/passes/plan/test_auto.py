"""The planner as a whole, against exhaustive search, under both memory models and orders."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from passes.plan.auto import Settings, plan
from passes.plan.solvers import exhaustive
from passes.plan.solving import Goal
from passes.plan.trace import trace
from passes.plan.validator import problems as defects
from tensoropt.errors import ModelError
from tensoropt.plan_types import MemoryModel, Order, Problem, Step, Value, in_input_order
from tests.passes.plan.problems import HUGE, budgeted, magnified, mirrored

MODELS: tuple[MemoryModel, ...] = ("live", "packed")


def nothing(sequence: tuple[int, ...]) -> None:
    """For whom nobody wants to know."""


@given(budgeted(most=6, paging=True), st.sampled_from(["input", "free"]), st.booleans())
@settings(max_examples=25)
@example((Problem("one", (Value("a", 0),), (Step("s", 0, (), (0,)),)), 0), "free", True)
def test_small_problems_are_planned_as_well_as_can_be(case: tuple[Problem, int], order: Order, large: bool) -> None:
    problem, budget = case
    if large:
        problem, budget = magnified(problem, HUGE), budget * HUGE
    best = exhaustive.solve(problem, Goal(budget, order), nothing)
    assert best.complete
    for model in MODELS:
        found = plan(problem, Settings(budget, model, order, seconds=2.0, work=20_000, workers=1))
        if best.sequence is None:
            assert found.status == "infeasible"
            assert found.plan is None
        elif found.plan is None:
            assert (found.status, model) == ("unknown", "packed")
        else:
            assert defects(problem, found.plan, budget, model, order) == []
            least = trace(problem, best.sequence).duration()
            assert found.plan.duration >= least
            assert model == "packed" or found.plan.duration == least
            assert found.status == "feasible" or found.plan.duration == least
            assert all(
                bound.duration <= least for bound in found.bounds if bound.holds_for == "any order" or order == "input"
            )


def test_more_memory_than_is_needed() -> None:
    problem = mirrored(20)
    found = plan(problem, Settings(trace(problem, range(40)).peak()))
    assert (found.status, found.plan and found.plan.duration) == ("optimal", problem.duration)


@pytest.mark.parametrize("model", MODELS)
def test_a_training_chain_in_less_memory(model: MemoryModel) -> None:
    problem = mirrored(20)
    budget = trace(problem, range(40)).peak() * 6 // 10
    found = plan(problem, Settings(budget, model, "input", seconds=20.0))
    assert found.plan is not None
    assert found.plan.used_bytes(model) <= budget
    assert problem.duration < found.plan.duration <= 2 * problem.duration


def test_the_same_plan_for_the_same_seed_and_work() -> None:
    problem = mirrored(16)
    budget = trace(problem, range(32)).peak() // 2
    settings = Settings(budget, "packed", "free", seconds=300.0, work=100_000, seed=5)
    first = plan(problem, settings)
    again = plan(problem, settings)
    assert first.plan is not None
    assert first.plan == again.plan


def test_too_little_memory_is_proved_and_the_smallest_known_budget_is_told() -> None:
    problem = mirrored(8)
    found = plan(problem, Settings(23, "packed", "free"))
    assert found.plan is None
    assert found.status == "infeasible"
    assert "needs 24 bytes" in found.reason
    fits = plan(problem, Settings(found.smallest.arena_bytes, "packed", "free", seconds=5.0))
    assert fits.plan is not None


def test_graphs_in_parts_and_without_steps() -> None:
    steps = tuple(
        Step(f"s{part}{number}", 1, (2 * part,) if number else (), (2 * part + number,))
        for part in (0, 1)
        for number in (0, 1)
    )
    problem = Problem("parts", tuple(Value(f"v{value}", 4) for value in range(4)), steps).check()
    assert plan(problem, Settings(8)).status == "optimal"
    assert plan(Problem("none", (), ()), Settings(0)).status == "optimal"


def test_a_cycle_is_refused_with_its_steps() -> None:
    steps = (Step("a", 1, (1,), (0,)), Step("b", 1, (0,), (1,)))
    with pytest.raises(ModelError, match="the steps form a cycle"):
        in_input_order("ring", (Value("x", 1), Value("y", 1)), steps)


@pytest.mark.parametrize("order", ["input", "free"])
def test_a_step_may_be_had_more_often_than_moves_would_have_it(order: Order) -> None:
    """What every reader has again, since nothing else leaves room for the reader's other input."""
    values, steps = [Value("a", 50)], [Step("a", 1, (), (0,))]
    for number in range(16):
        large, small, use = (len(values) + index for index in range(3))
        values += [Value(f"large{number}", 100), Value(f"small{number}", 1), Value(f"use{number}", 1)]
        steps.append(Step(f"large{number}", 1, (large - 1,) if number else (), (large,)))
        steps.append(Step(f"small{number}", 1, (large,), (small,)))
        steps.append(Step(f"use{number}", 1, (0, small), (use,)))
    problem = Problem("often", tuple(values), tuple(steps)).check()
    found = plan(problem, Settings(110, "live", order, seconds=5.0, work=20_000, workers=1))
    assert found.plan is not None
    assert defects(problem, found.plan, 110, "live", order) == []


def test_transfers_of_any_size() -> None:
    problem = replace(mirrored(8), transfers=(10**400,) * 16)
    budget = trace(problem, range(16)).peak() * 7 // 10
    found = plan(problem, Settings(budget, "live", "free", seconds=2.0, work=5_000, workers=1))
    assert found.plan is not None
    assert max(found.plan.sequence) < 16
