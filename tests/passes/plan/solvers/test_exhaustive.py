"""The uniform-cost search agrees with a list of all sequences, and says no more than it has shown."""

from hypothesis import given, settings
from hypothesis import strategies as st

from passes.plan.solvers import exhaustive
from passes.plan.solving import Goal, Outcome
from passes.plan.trace import trace
from tensoropt.plan_types import Order, Problem, Step, Value
from tests.passes.plan.problems import budgeted, keeps_input_order, may_be_run, sequences

ORDERS: list[Order] = ["free", "input"]
LONGEST = {0: 0, 1: 4, 2: 6, 3: 6, 4: 7, 5: 7, 6: 6, 8: 5}
"""The positions that the list of all sequences of so many actions goes to."""


def _solve(problem: Problem, goal: Goal) -> Outcome:
    """The outcome, after what holds of every one."""
    told: list[tuple[int, ...]] = []
    outcome = exhaustive.solve(problem, goal, told.append)
    assert told == ([] if outcome.sequence is None else [outcome.sequence])
    if outcome.sequence is not None:
        assert set(outcome.sequence) >= set(range(len(problem.steps)))
        assert may_be_run(problem, outcome.sequence)
        assert goal.order == "free" or keeps_input_order(problem, outcome.sequence)
        assert trace(problem, outcome.sequence).peak() <= goal.budget
    return outcome


def _shortest(problem: Problem, goal: Goal, length: int) -> int | None:
    """The duration of the best of all sequences up to a length."""
    return min(
        (
            trace(problem, sequence).duration()
            for sequence in sequences(problem, length)
            if (goal.order == "free" or keeps_input_order(problem, sequence))
            and trace(problem, sequence).peak() <= goal.budget
        ),
        default=None,
    )


@settings(max_examples=60)
@given(budgeted(most=4, paging=True), st.sampled_from(ORDERS))
def test_no_sequence_is_shorter_than_the_one_that_is_found(drawn: tuple[Problem, int], order: Order) -> None:
    problem, budget = drawn
    goal = Goal(budget, order)
    outcome = _solve(problem, goal)
    assert outcome.complete
    listed = _shortest(problem, goal, LONGEST[len(problem.actions)])
    if outcome.sequence is None:
        assert listed is None
    else:
        found = trace(problem, outcome.sequence).duration()
        assert [bound.duration for bound in outcome.bounds] == [found]
        assert listed is None or listed >= found
        if len(outcome.sequence) <= LONGEST[len(problem.actions)]:
            assert listed == found


def test_an_empty_problem_has_the_empty_plan() -> None:
    problem = Problem("empty", (), ())
    assert _solve(problem, Goal(0)).sequence == ()
    assert _solve(problem, Goal(-1)).sequence is None


def test_a_step_that_does_not_fit_makes_every_plan_impossible() -> None:
    problem = Problem("one", (Value("v", 2**90),), (Step("s", 2**70, (), (0,), workspace=1),))
    assert _solve(problem, Goal(2**90 + 1)).sequence == (0,)
    outcome = _solve(problem, Goal(2**90))
    assert (outcome.sequence, outcome.complete, outcome.claim) == (None, True, "any plan")


def test_a_later_pair_is_had_only_where_the_earlier_value_still_serves() -> None:
    """Either the step writes over the small value, or the small one is read again and the step writes over the large one."""
    values = (Value("small", 1), Value("large", 5), Value("over small", 1), Value("over large", 5), Value("end", 0))
    join = Step("join", 1, (0, 1), (2, 3), in_place=((2, 0), (3, 1)))
    first = (Step("s", 1, (), (0,)), Step("l", 1, (), (1,)), join)
    alone = Problem("alone", values[:4], first).check()
    assert _solve(alone, Goal(10)).sequence is None
    assert _solve(alone, Goal(11)).sequence == (0, 1, 2)
    read_again = Problem("again", values, (*first, Step("end", 1, (0,), (4,)))).check()
    assert _solve(read_again, Goal(6)).sequence is None
    assert _solve(read_again, Goal(7)).sequence == (0, 1, 2, 3)


def test_a_pledge_is_redeemed_by_a_recomputation_that_does_nothing_else() -> None:
    """The small value cannot stay over the large workspace; to have served after the join, a reader of it has to run again."""
    values = (Value("small", 1), Value("seen", 0), Value("large", 5), Value("over small", 1), Value("over large", 5))
    steps = (
        Step("s", 1, (), (0,)),
        Step("see", 1, (0,), (1,)),
        Step("l", 1, (), (2,)),
        Step("join", 1, (0, 2), (3, 4), in_place=((3, 0), (4, 2))),
        Step("work", 1, (), (), workspace=7),
        Step("end", 1, (0,), ()),
    )
    goal = Goal(7, "input")
    assert _solve(Problem("seen", values, steps).check(), goal).sequence == (0, 1, 2, 3, 1, 4, 0, 5)
    once = (steps[0], Step("see", 1, (0,), (1,), recomputable=False), *steps[2:])
    assert _solve(Problem("seen once", values, once).check(), goal).sequence is None


def test_a_value_that_is_written_again_has_not_served() -> None:
    """The step that writes the small value runs again for its other value, and what is read afterwards is the new small one."""
    values = (Value("small", 1), Value("other", 3), Value("large", 5), Value("over small", 1), Value("over large", 5))
    steps = (
        Step("s", 1, (), (0, 1)),
        Step("l", 1, (), (2,)),
        Step("join", 1, (0, 2), (3, 4), in_place=((3, 0), (4, 2))),
        Step("end", 1, (0, 1), ()),
    )
    problem = Problem("again", values, steps).check()
    assert trace(problem, (0, 1, 2, 0, 3)).peak() == 11
    assert [_solve(problem, Goal(budget)).sequence for budget in (9, 10, 11)] == [None, (0, 1, 2, 3), (0, 1, 2, 3)]


def test_a_limit_of_work_leaves_a_bound_and_no_claim() -> None:
    problem = _chain(9)
    whole = _solve(problem, Goal(3, "input"))
    assert whole.complete
    assert whole.sequence is not None
    for work in (0, 1, 10, 50):
        outcome = _solve(problem, Goal(3, "input", work=work))
        assert outcome == _solve(problem, Goal(3, "input", work=work))
        if not outcome.complete:
            assert outcome.sequence is None
            assert all(bound.duration <= trace(problem, whole.sequence).duration() for bound in outcome.bounds)
            assert outcome.bounds


def _chain(length: int) -> Problem:
    """A chain and its way back, each step of which reads the step that it mirrors: recomputation in its purest form."""
    values = tuple(Value(f"v{number}", 1) for number in range(2 * length))
    forward = [Step(f"f{number}", 1, (number - 1,) if number else (), (number,)) for number in range(length)]
    back = [
        Step(f"b{number}", 1, (number - 1, 2 * length - 1 - number), (number,)) for number in range(length, 2 * length)
    ]
    return Problem("chain", values, (*forward, *back)).check()


def test_more_memory_is_never_slower_and_a_free_order_never_slower_than_the_input_order() -> None:
    problem = _chain(6)
    before = None
    for budget in range(1, 9):
        free, fixed = (_solve(problem, Goal(budget, order)) for order in ORDERS)
        assert free.complete
        assert fixed.complete
        if fixed.sequence is None or free.sequence is None:
            assert before is None
            continue
        duration = trace(problem, fixed.sequence).duration()
        assert trace(problem, free.sequence).duration() <= duration
        assert before is None or duration <= before
        before = duration
    assert before == problem.duration
