"""Annealing: valid plans, as good as exhaustive search on small problems, and the same for the same seed."""

from hypothesis import given, settings

from passes.plan.solvers import annealing, exhaustive
from passes.plan.solving import Goal
from passes.plan.trace import trace
from tensoropt.plan_types import Order, Problem, Step, Value
from tests.passes.plan.problems import budgeted, keeps_input_order, may_be_run, mirrored

ORDERS: tuple[Order, ...] = ("input", "free")


def nothing(sequence: tuple[int, ...]) -> None:
    """For whom nobody wants to know."""


@given(budgeted(paging=True))
@settings(max_examples=25)
def test_plans_are_within_the_budget_and_no_shorter_than_the_shortest(case: tuple[Problem, int]) -> None:
    problem, budget = case
    for order in ORDERS:
        goal = Goal(budget, order, work=20_000, workers=1)
        found = annealing.solve(problem, goal, nothing).sequence
        best = exhaustive.solve(problem, goal, nothing).sequence
        if found is None:
            continue
        assert best is not None
        traced = trace(problem, found)
        assert traced.peak() <= budget
        assert may_be_run(problem, found)
        assert order == "free" or keeps_input_order(problem, found)
        assert traced.duration() >= trace(problem, best).duration()


def test_a_training_chain_in_half_the_memory() -> None:
    problem = mirrored(12)
    budget = trace(problem, range(24)).peak() // 2
    better: list[tuple[int, ...]] = []
    goal = Goal(budget, "input", seconds=120, work=200_000, seed=3, workers=2)
    found = annealing.solve(problem, goal, better.append).sequence
    assert found is not None
    assert trace(problem, found).peak() <= budget
    assert better[-1] == found
    assert annealing.solve(problem, goal, nothing).sequence == found


def test_one_step_and_none() -> None:
    one = Problem("one", (Value("a", 3),), (Step("s", 1, (), (0,)),))
    assert annealing.solve(one, Goal(3, work=1, workers=1), nothing).sequence == (0,)
    assert annealing.solve(one, Goal(2, work=1, workers=1), nothing).sequence is None
    assert annealing.solve(Problem("none", (), ()), Goal(0, work=1), nothing).sequence == ()
