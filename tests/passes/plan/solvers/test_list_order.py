"""List scheduling gives every step once, in a topological order, and finds the obvious."""

from hypothesis import given

from passes.plan.solvers.list_order import listed
from passes.plan.trace import trace
from tensoropt.plan_types import Problem, Step, Value
from tests.passes.plan.problems import may_be_run, problems


@given(problems())
def test_every_step_once_in_an_order_that_runs(problem: Problem) -> None:
    order = listed(problem)
    assert sorted(order) == list(range(len(problem.steps)))
    assert may_be_run(problem, order)


def test_branches_are_finished_one_by_one() -> None:
    """Four sources first would hold four large values; a branch at a time holds one of them."""
    sources = tuple(Step(f"source{n}", 1, (), (n,)) for n in range(4))
    sums = tuple(Step(f"sum{n}", 1, (n,), (4 + n,)) for n in range(4))
    problem = Problem(
        "branches", (*(Value(f"v{n}", 100) for n in range(4)), *(Value(f"s{n}", 1) for n in range(4))), sources + sums
    )
    assert trace(problem, range(8)).peak() == 401
    assert trace(problem, listed(problem)).peak() == 101
