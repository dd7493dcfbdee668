"""No bound is above what the exhaustive search finds, in either order, and nothing that has a plan is called infeasible."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.plan.bounds.cuts import loaded, stages
from passes.plan.bounds.gap_cover import gap_cover
from passes.plan.bounds.lower import lower_bounds
from passes.plan.bounds.moments import heaviest_chain, moments, relatives
from passes.plan.bounds.program import BinaryProgram
from passes.plan.bounds.relaxation import integer_bound, linear_bound
from passes.plan.bounds.working_sets import Infeasible, working_sets
from passes.plan.solvers import exhaustive
from passes.plan.solving import Goal
from passes.plan.trace import trace
from tensoropt.plan_types import Order, Problem, Step, Value
from tests.passes.plan.problems import HUGE, budgeted, keeps_input_order, magnified, problems, sequences

ORDERS = st.sampled_from(["free", "input"])


def _shortest(problem: Problem, budget: int, order: Order) -> int | None:
    """The duration of the best plan; None where there is no plan."""
    outcome = exhaustive.solve(problem, Goal(budget, order), lambda sequence: None)
    assert outcome.complete
    return None if outcome.sequence is None else trace(problem, outcome.sequence).duration()


def _below(program: BinaryProgram, fixed: int, shortest: int | None) -> None:
    """Neither bound of a program contradicts the best plan."""
    for relaxed in (linear_bound(program, 10), integer_bound(program, 10, 1)):
        if shortest is not None:
            assert not relaxed.infeasible
            assert fixed + relaxed.bound <= shortest


@st.composite
def watched(draw: st.DrawFn, problem: Problem, order: Order) -> tuple[int, ...]:
    """Steps whose first computations follow one another in every plan of an order."""
    steps = draw(st.lists(st.integers(0, len(problem.steps) - 1), unique=True).map(sorted))
    if order == "input":
        return tuple(steps)
    earlier, _ = relatives(problem)
    chain: list[int] = []
    for step in steps:
        if not chain or earlier[step] >> chain[-1] & 1:
            chain.append(step)
    return tuple(chain)


@settings(max_examples=150)
@given(budgeted(most=6, paging=True), ORDERS, st.integers(0, 4), st.data())
def test_gap_covers_bound_every_plan(
    drawn: tuple[Problem, int], order: Order, nesting: int, data: st.DataObject
) -> None:
    problem, budget = drawn
    chosen = moments(problem, order, data.draw(watched(problem, order)))
    cuts = data.draw(st.lists(st.integers(0, max(0, chosen.count - 1)), max_size=3, unique=True))
    cover = gap_cover(problem, budget, chosen, nesting, tuple(cuts))
    _below(cover.program, problem.duration, _shortest(problem, budget, order))


@settings(max_examples=150)
@given(budgeted(most=6, paging=True), ORDERS, st.data())
def test_stages_bound_every_plan(drawn: tuple[Problem, int], order: Order, data: st.DataObject) -> None:
    problem, budget = drawn
    cut = stages(problem, budget, moments(problem, order, data.draw(watched(problem, order))))
    _below(cut.program, cut.fixed, _shortest(problem, budget, order))


@settings(max_examples=60)
@given(budgeted(most=6, paging=True), ORDERS, st.sampled_from([1, HUGE]))
def test_all_bounds_together_bound_every_plan(drawn: tuple[Problem, int], order: Order, factor: int) -> None:
    problem, budget = magnified(drawn[0], factor), drawn[1] * factor
    found = lower_bounds(problem, budget, order, 10, 1)
    shortest = _shortest(problem, budget, order)
    if isinstance(found, Infeasible):
        assert shortest is None
    else:
        assert found[0].duration == problem.duration
        assert shortest is None or found[-1].duration <= shortest
        assert {bound.holds_for for bound in found} <= {"any order", f"{order} order"}


@settings(max_examples=60)
@given(budgeted(most=4, paging=True), ORDERS)
def test_no_listed_sequence_is_below_the_bounds(drawn: tuple[Problem, int], order: Order) -> None:
    """The same without the search: over a list of all sequences up to a length."""
    problem, budget = drawn
    found = lower_bounds(problem, budget, order, 10, 1)
    for sequence in sequences(problem, min(7, 2 * len(problem.steps) + 1)):
        plan = trace(problem, sequence)
        if plan.peak() <= budget and (order == "free" or keeps_input_order(problem, sequence)):
            assert not isinstance(found, Infeasible)
            assert found[-1].duration <= plan.duration()


@settings(max_examples=100)
@given(problems(most=6))
def test_working_sets_prove_only_what_is_so(problem: Problem) -> None:
    peak = trace(problem, range(len(problem.steps))).peak()
    least = next(budget for budget in range(-1, peak + 1) if working_sets(problem, budget) is None)
    assert _shortest(problem, least - 1, "free") is None


def test_what_must_not_be_recomputed_is_held_for_its_reader() -> None:
    values = (Value("once", 5), Value("a", 4), Value("b", 4), Value("c", 1))
    steps = (
        Step("once", 1, (), (0,), recomputable=False),
        Step("a", 1, (0,), (1,)),
        Step("b", 1, (1,), (2,)),
        Step("c", 1, (0, 2), (3,)),
    )
    problem = Problem("held", values, steps).check()
    proof = working_sets(problem, 12)
    assert proof == Infeasible("b needs 13 bytes while it runs", "any order")
    assert working_sets(problem, 13) is None


def test_kept_values_are_there_together_at_the_end() -> None:
    values = tuple(Value(str(number), 4, kept=True) for number in range(3))
    problem = Problem("kept", values, tuple(Step(str(number), 1, (), (number,)) for number in range(3))).check()
    assert isinstance(working_sets(problem, 11), Infeasible)
    assert working_sets(problem, 12) is None


@pytest.mark.parametrize("order", ["free", "input"])
def test_an_empty_problem_takes_no_time(order: Order) -> None:
    found = lower_bounds(Problem("empty", (), ()), 0, order, 1, 1)
    assert not isinstance(found, Infeasible)
    assert [bound.duration for bound in found] == [0]


def training_chain(length: int, size: int = 10) -> Problem:
    """A chain forward and back, where the step back number i reads the value of the step forward number i."""
    values = tuple(Value(f"v{number}", size) for number in range(2 * length))
    forward = [Step(f"f{i}", 3, (i - 1,) if i else (), (i,)) for i in range(length)]
    back = [
        Step(f"b{i}", 6, (i, 2 * length - i - 2) if i < length - 1 else (i,), (2 * length - 1 - i,))
        for i in range(length - 1, -1, -1)
    ]
    return Problem("chain", values, (*forward, *back)).check()


@pytest.mark.parametrize("order", ["free", "input"])
def test_the_bound_is_the_optimum_of_a_training_chain(order: Order) -> None:
    """Each of the values beside those at the turn that does not fit has to be recomputed, in any order."""
    problem = training_chain(5)
    assert trace(problem, range(10)).peak() == 60
    for budget in (60, 50, 40):
        found = lower_bounds(problem, budget, order, 10, 1)
        assert not isinstance(found, Infeasible)
        assert found[-1].duration == _shortest(problem, budget, order)


def test_a_free_order_needs_a_chain() -> None:
    problem = Problem("apart", (Value("a", 1), Value("b", 1)), (Step("a", 1, (), (0,)), Step("b", 1, (), (1,)))).check()
    assert moments(problem, "input", (0, 1)).count == 2
    with pytest.raises(ValueError, match="chain"):
        moments(problem, "free", (0, 1))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 40))
def test_the_most_loaded_step_is_always_chosen(weights: list[int], count: int) -> None:
    candidates = tuple(range(len(weights)))
    chosen = loaded(candidates, weights, count)
    assert list(chosen) == sorted(set(chosen))
    assert 1 <= len(chosen) <= count
    assert max(weights[step] for step in chosen) == max(weights)
    assert count < len(weights) or chosen == candidates


@given(budgeted(most=7, paging=True))
def test_the_heaviest_chain_is_a_chain(drawn: tuple[Problem, int]) -> None:
    problem, _ = drawn
    chain = heaviest_chain(problem, [step.duration + 1 for step in problem.steps])
    assert moments(problem, "free", chain).steps == chain
