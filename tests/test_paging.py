"""Rates as people write them, and the transfer times that follow."""

from fractions import Fraction

import pytest

from tensoropt.errors import ModelError, UsageError
from tensoropt.paging import bytes_per_unit, paged, require_rate
from tensoropt.plan_types import Problem, Step, Value


@pytest.mark.parametrize(
    ("text", "timed", "rate"),
    [
        ("25GB/s", True, Fraction(25)),
        ("1.5 gib/s", True, Fraction(3 << 29, 10**9)),
        ("target", True, Fraction(8)),
        ("12", False, Fraction(12)),
        ("0.25", False, Fraction(1, 4)),
    ],
)
def test_rates(text: str, timed: bool, rate: Fraction) -> None:
    require_rate(text, timed)
    assert bytes_per_unit(text, timed, 8e9) == rate


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("text", ["0", "fast", "-1", "0GB/s", "5 potatoes/s", "1e9", ""])
def test_nonsense_is_refused(text: str, timed: bool) -> None:
    with pytest.raises(UsageError, match="--paging"):
        require_rate(text, timed)


@pytest.mark.parametrize(("text", "timed"), [("25", True), ("25Gb/s", True), ("3GB/s", False), ("target", False)])
def test_units_and_bits_are_not_mixed_up(text: str, timed: bool) -> None:
    with pytest.raises(UsageError, match="--paging"):
        require_rate(text, timed)


def test_transfers_are_of_all_that_a_step_writes_and_rounded_up() -> None:
    values = (Value("a", 5), Value("b", 2), Value("c", 2**90))
    steps = (Step("s0", 1, (), (0, 1)), Step("s1", 1, (0,), (2,)), Step("s2", 1, (1,), ()))
    problem = paged(Problem("three", values, steps), Fraction(2))
    assert problem.transfers == (4, 2**89, 0)
    assert [action.name for action in problem.actions[3:]] == ["fetch s0", "fetch s1", "fetch s2"]
    # two fetches of s0 and one copy to the host, each 4
    assert problem.duration_of([0, 1, 3, 2, 3]) == 3 + 3 * 4


def test_a_step_that_is_called_like_a_fetch() -> None:
    steps = (Step("s", 1, (), (0,)), Step("fetch s", 1, (0,), (1,)))
    problem = Problem("named", (Value("a", 1), Value("b", 1)), steps)
    with pytest.raises(ModelError, match="fetch s"):
        paged(problem.check(), Fraction(1))
