"""Features add up, and coefficients turn them into costs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tensoropt.features import NAMES, Coefficients, Features, of_expression
from tensoropt.ir.expression import Access, Apply, Scope
from tensoropt.ir.index import Iterator
from tests.strategies.networks import tensor

numbers = st.integers(0, 1000).map(float)
found = st.builds(Features, **dict.fromkeys(NAMES, numbers))
UNITS = Coefficients(**dict.fromkeys(NAMES, 1.0))


@given(found, found, st.integers(0, 9))
def test_counts_add_up(one: Features, other: Features, count: int) -> None:
    both = one + other * count
    assert all(getattr(both, name) == getattr(one, name) + count * getattr(other, name) for name in NAMES)


@given(found, found)
def test_work_done_together_costs_no_more_than_one_after_the_other(one: Features, other: Features) -> None:
    assert UNITS.cost(one + other) <= UNITS.total([(1, one), (1, other)])
    assert UNITS.cost(one + other) >= max(UNITS.cost(one), UNITS.cost(other))


def test_the_dearest_of_what_overlaps_counts() -> None:
    assert UNITS.cost(Features(multiply_adds=3, shuffles=2, loads=4, far_bytes=1, steps=2)) == 5
    assert UNITS.cost(Features(multiply_adds=3, loads=9, stores=2, starts=1)) == 12


def test_a_statement_moves_its_tensors_once() -> None:
    i, j = Iterator("i", 4), Iterator("j", 8)
    read = Access(tensor("A", 4, 8), [i, j])
    counted = of_expression(Scope([i], Apply("mul", read, read), [j]), 32.0, 0.0)
    assert counted.far_bytes == 4 * (4 * 8 + 4)
    assert (counted.multiply_adds, counted.starts) == (32.0, 1.0)
