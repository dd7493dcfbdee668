"""Plans of the stage model are plans, no better than the best, as good where the model has the best, and no worse than a hint."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.sat.python import cp_model

from passes.plan.solvers import exhaustive, stages
from passes.plan.solvers.incumbent import pruned
from passes.plan.solvers.scaling import LARGEST_SUM, scaled
from passes.plan.solvers.stages_model import StageModel
from passes.plan.solvers.stages_window import candidates, staged, whole
from passes.plan.solving import Goal, Outcome
from passes.plan.trace import trace
from tensoropt.plan_types import Problem, Step, Value
from tests.passes.plan.problems import (
    HUGE,
    budgeted,
    keeps_input_order,
    magnified,
    may_be_run,
    problems,
    there_and_back,
)


def _goal(budget: int) -> Goal:
    return Goal(budget, "input", seconds=10.0, workers=1)


def _duration(problem: Problem, sequence: tuple[int, ...]) -> int:
    return trace(problem, sequence).duration()


def _valid(problem: Problem, goal: Goal, outcome: Outcome) -> None:
    """What holds of every outcome."""
    if outcome.sequence is None:
        return
    assert set(outcome.sequence) == set(range(len(problem.steps)))
    assert may_be_run(problem, outcome.sequence)
    assert goal.order == "free" or keeps_input_order(problem, outcome.sequence)
    assert trace(problem, outcome.sequence).peak() <= goal.budget


@settings(max_examples=150)
@given(budgeted(most=8))
def test_no_plan_is_over_the_budget_or_better_than_the_best(drawn: tuple[Problem, int]) -> None:
    problem, budget = drawn
    told: list[tuple[int, ...]] = []
    outcome = stages.solve(problem, _goal(budget), told.append)
    _valid(problem, _goal(budget), outcome)
    assert told[-1:] == ([] if outcome.sequence is None else [outcome.sequence])
    durations = [_duration(problem, sequence) for sequence in told]
    assert durations == sorted(set(durations), reverse=True)
    best = exhaustive.solve(problem, _goal(budget), lambda _: None)
    assert best.complete
    if outcome.sequence is not None:
        assert best.sequence is not None
        assert _duration(problem, outcome.sequence) >= _duration(problem, best.sequence)
        assert all(bound.duration <= _duration(problem, best.sequence) for bound in outcome.bounds)
    else:
        assert not outcome.bounds


def _unequal(problem: Problem, step: Step) -> bool:
    """Whether the step may write in place of values of several sizes."""
    return len({problem.values[source].bytes for _, source in step.in_place}) > 1


@settings(max_examples=150)
@given(budgeted(most=8), st.integers(0, 2), st.randoms(use_true_random=False))
def test_whatever_the_model_allows_is_within_the_budget(drawn: tuple[Problem, int], depth: int, chance: Random) -> None:
    """Under any objective: memory is counted in full in the model, not only where plans are short."""
    problem, budget = drawn
    window = whole(problem, range(len(problem.steps)))
    model = StageModel(problem, window, scaled(problem, budget), candidates(problem, window, depth))
    booleans = [*model.recompute.values(), *model.retain.values()]
    model.model.minimize(sum(chance.randint(-3, 3) * boolean for boolean in booleans))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    status = solver.solve(model.model)
    if status == cp_model.OPTIMAL:
        sequence = tuple(model.sequence(solver.value))
        assert may_be_run(problem, sequence)
        assert trace(problem, sequence).peak() <= budget
    else:
        assert status == cp_model.INFEASIBLE
        # Of pairs of unequal sizes the least is counted on, so that memory may be counted in excess.
        assert trace(problem, window.order).peak() > budget or any(_unequal(problem, step) for step in problem.steps)


@settings(max_examples=100)
@given(budgeted(most=8))
def test_the_best_plan_as_a_hint_is_recognised_and_kept(drawn: tuple[Problem, int]) -> None:
    problem, budget = drawn
    best = exhaustive.solve(problem, Goal(budget, "free"), lambda _: None).sequence
    if best is None:
        return
    goal = Goal(budget, "free", seconds=10.0, workers=1)
    outcome = stages.solve(problem, goal, lambda _: None, best)
    _valid(problem, goal, outcome)
    assert outcome.sequence is not None
    assert _duration(problem, outcome.sequence) == _duration(problem, best)
    assert staged(outcome.sequence).order == staged(best).order


@settings(max_examples=100)
@given(budgeted(most=7, fewest=3), st.data())
def test_a_window_changes_nothing_outside_of_it(drawn: tuple[Problem, int], data: st.DataObject) -> None:
    problem, budget = drawn
    sequence = _with_superfluous(problem, data)
    count = len(problem.steps)
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first, count - 1))
    goal = Goal(max(budget, trace(problem, sequence).peak()), "free", seconds=10.0, workers=1)
    outcome = stages.polish(problem, sequence, goal, first, last)
    _valid(problem, goal, outcome)
    assert outcome.sequence is not None
    assert _duration(problem, outcome.sequence) <= _duration(problem, pruned(problem, sequence, goal.budget))
    before, after = staged(sequence), staged(outcome.sequence)
    assert after.order == before.order
    for stage in range(count + 1):
        if stage < first or (stage > last + 1 and last + 1 < count):
            assert set(after.again[stage]) <= set(before.again[stage])


def _with_superfluous(problem: Problem, data: st.DataObject) -> tuple[int, ...]:
    """The input order with recomputations anywhere."""
    found: list[int] = []
    for number in range(len(problem.steps)):
        again = [earlier for earlier in range(number) if problem.steps[earlier].recomputable]
        if again:
            found += data.draw(st.lists(st.sampled_from(again), max_size=2))
        found.append(number)
    return tuple(found)


def test_a_chain_is_planned_as_well_as_can_be() -> None:
    problem = there_and_back(6)
    for budget in range(3, 8):
        best = exhaustive.solve(problem, _goal(budget), lambda _: None).sequence
        found = stages.solve(problem, _goal(budget), lambda _: None).sequence
        assert best is not None
        assert found is not None
        assert _duration(problem, found) == _duration(problem, best)


def test_a_window_mends_a_plan_that_is_over_the_budget() -> None:
    problem = there_and_back(6)
    plain = tuple(range(12))
    budget = trace(problem, plain).peak() - 1
    outcome = stages.polish(problem, plain, _goal(budget), 0, 11)
    assert outcome.sequence is not None
    assert trace(problem, outcome.sequence).peak() <= budget
    assert stages.polish(problem, plain, _goal(budget), 11, 11).sequence is None


def test_what_is_kept_may_be_recomputed_at_the_end() -> None:
    """A large kept value is in the way of a larger step, and nothing reads it afterwards."""
    values = (Value("kept", 5, kept=True), Value("large", 9), Value("small", 1, kept=True))
    steps = (Step("k", 1, (), (0,)), Step("l", 1, (), (1,)), Step("s", 1, (1,), (2,)))
    problem = Problem("kept", values, steps).check()
    assert stages.solve(problem, _goal(10), lambda _: None).sequence == (0, 1, 2, 0)


def test_of_several_pairs_only_the_first_that_can_be_had_is_counted() -> None:
    """A value of 1 and then one of 5 may be written over: where both are dead, it is the former, which saves 1 of 12 bytes."""
    values = (Value("small", 1), Value("large", 5), Value("over small", 1), Value("over large", 5), Value("end", 0))
    join = Step("join", 1, (0, 1), (2, 3), in_place=((2, 0), (3, 1)))
    steps = (Step("s", 1, (), (0,)), Step("l", 1, (), (1,)), join)
    window = whole(alone := Problem("alone", values[:4], steps).check(), range(3))
    peaks = {budget: StageModel(alone, window, scaled(alone, budget), [set()] * 3) for budget in (10, 11)}
    assert [cp_model.CpSolver().solve(model.model) for model in peaks.values()] == [
        cp_model.INFEASIBLE,
        cp_model.OPTIMAL,
    ]


def test_a_chain_written_in_place_takes_the_bytes_of_one_value_also_when_it_is_recomputed() -> None:
    """Values a and b (over a) are needed again when c is done; a budget of their size and c's is enough."""
    values = (Value("a", 4), Value("b", 4), Value("c", 3), Value("d", 0))
    steps = (
        Step("a", 1, (), (0,)),
        Step("b", 1, (0,), (1,), in_place=((1, 0),)),
        Step("c", 1, (1,), (2,), workspace=2),
        Step("d", 1, (2, 1), (3,)),
    )
    assert stages.solve(Problem("in place", values, steps).check(), _goal(9), lambda _: None).sequence == (0, 1, 2, 3)
    between = Step("e", 1, (), (4,), workspace=9)
    problem = Problem("again", (*values, Value("e", 0)), (*steps[:3], between, steps[3])).check()
    # While the step between runs only c can be there, and a and b are recomputed after it.
    assert stages.solve(problem, _goal(12), lambda _: None).sequence == (0, 1, 2, 3, 0, 1, 4)


@settings(max_examples=30)
@given(budgeted(most=6), st.sampled_from([HUGE, HUGE + 1]))
def test_huge_integers_are_planned_within_the_budget_and_proved_only_where_they_divide(
    drawn: tuple[Problem, int], factor: int
) -> None:
    problem, budget = drawn
    large = magnified(problem, factor)
    goal = _goal(budget * factor)
    outcome = stages.solve(large, goal, lambda _: None)
    _valid(large, goal, outcome)
    best = exhaustive.solve(large, goal, lambda _: None)
    assert best.complete
    if outcome.sequence is not None:
        assert best.sequence is not None
        assert _duration(large, outcome.sequence) >= _duration(large, best.sequence)
    elif outcome.complete:
        assert scaled(large, goal.budget).sizes_exact


@given(problems(sizes=st.integers(0, 2**100)), st.integers(-5, 2**102))
def test_rounded_integers_are_sound_and_in_range(problem: Problem, budget: int) -> None:
    found = scaled(problem, budget)
    assert all(size * found.size_unit >= value.bytes for size, value in zip(found.sizes, problem.values, strict=True))
    assert found.budget * found.size_unit <= budget or budget < 0
    assert sum(found.sizes) + sum(found.workspaces) <= LARGEST_SUM + len(problem.values) + len(problem.steps)
    assert sum(found.durations) * found.time_unit <= problem.duration
    exact = all(size * found.size_unit == value.bytes for size, value in zip(found.sizes, problem.values, strict=True))
    assert exact or not found.sizes_exact


def test_nothing_and_almost_nothing() -> None:
    empty = Problem("empty", (), ())
    assert stages.solve(empty, _goal(0), lambda _: None).sequence == ()
    assert stages.solve(empty, _goal(-1), lambda _: None).sequence is None
    one = Problem("one", (Value("v", 3),), (Step("s", 0, (), (0,)),)).check()
    assert stages.solve(one, _goal(3), lambda _: None).sequence == (0,)
    assert stages.solve(one, _goal(2), lambda _: None).sequence is None


def test_what_does_not_fit_the_question_is_refused() -> None:
    problem = Problem("two", (Value("v", 1), Value("w", 1)), (Step("v", 1, (), (0,)), Step("w", 1, (), (1,)))).check()
    with pytest.raises(ValueError, match="order of the input"):
        stages.solve(problem, _goal(2), lambda _: None, (1, 0))
    with pytest.raises(ValueError, match="no stages 1 to 2"):
        stages.polish(problem, (0, 1), _goal(2), 1, 2)


def test_the_same_work_gives_the_same_outcome() -> None:
    problem = there_and_back(9)
    goal = Goal(5, "input", seconds=100.0, work=100, workers=2, seed=3)
    first = stages.solve(problem, goal, lambda _: None)
    assert first == stages.solve(problem, goal, lambda _: None)


def test_plans_with_fetches_are_refused() -> None:
    problem = replace(there_and_back(3), transfers=(1,) * 6)
    fetching = (0, 1, 2, 3, 6, 4, 5)
    with pytest.raises(ValueError, match="no fetches"):
        stages.solve(problem, Goal(9), lambda sequence: None, fetching)
    with pytest.raises(ValueError, match="no fetches"):
        stages.polish(problem, fetching, Goal(9), 0, 1)
    outcome = stages.solve(problem, _goal(trace(problem, range(6)).peak() - 1), lambda sequence: None)
    assert not outcome.complete or "without paging" in outcome.claim
