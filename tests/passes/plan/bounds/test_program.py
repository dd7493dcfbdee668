"""Programs mean what their clauses and rows say, and both bounds stay below the least cost of any point."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.plan.bounds.program import FALSE, LARGEST_SUM, TRUE, BinaryProgram, Row
from passes.plan.bounds.relaxation import fewest, integer_bound, linear_bound

SIZES = st.one_of(st.integers(-20, 20), st.integers(-(2**90), 2**90))
VARIABLES = 5

Stated = tuple[BinaryProgram, list[list[int]], list[tuple[list[tuple[int, int]], int]]]
"""A program, and the clauses and rows as they were given to it."""


@st.composite
def programs(draw: st.DrawFn) -> Stated:
    literals = st.integers(-1 - VARIABLES, VARIABLES)
    clauses = draw(st.lists(st.lists(literals, min_size=1, max_size=4), max_size=4))
    rows = draw(st.lists(st.tuples(st.lists(st.tuples(SIZES, literals), max_size=6), SIZES), max_size=4))
    program = BinaryProgram()
    for cost in draw(
        st.lists(st.one_of(st.integers(0, 9), st.integers(0, 2**80)), min_size=VARIABLES, max_size=VARIABLES)
    ):
        program.counted.append(program.boolean(cost))
    for clause in clauses:
        program.clause(*clause)
    for terms, limit in rows:
        program.at_most(terms, limit)
    return program, clauses, rows


def _points(stated: Stated) -> Iterator[tuple[bool, ...]]:
    """The points that satisfy clauses and rows as they were given."""
    program, clauses, rows = stated
    for rest in itertools.product([False, True], repeat=VARIABLES):
        values = (True, *rest)
        if all(any(program.holds(one, values) for one in clause) for clause in clauses) and all(
            sum(size for size, one in terms if program.holds(one, values)) <= limit for terms, limit in rows
        ):
            yield values


def _cost(program: BinaryProgram, values: tuple[bool, ...]) -> int:
    return sum(cost for cost, value in zip(program.costs, values, strict=True) if value)


@settings(max_examples=80)
@given(programs())
def test_no_bound_is_above_the_least_cost(stated: Stated) -> None:
    program = stated[0]
    points = list(_points(stated))
    integer, linear = integer_bound(program, 10, 1), linear_bound(program, 10)
    if integer.infeasible or linear.infeasible:
        assert not points
    if points:
        least = min(_cost(program, values) for values in points)
        assert linear.bound <= least
        assert integer.bound <= least
        if integer.optimal:
            assert integer.bound == least


@settings(max_examples=60)
@given(programs())
def test_small_programs_are_solved_exactly(stated: Stated) -> None:
    program = stated[0]
    if any(abs(one) > 2**40 for row in program.rows for one in row.coefficients) or max(program.costs) > 2**40:
        return
    points = list(_points(stated))
    solved = integer_bound(program, 10, 1)
    assert solved.infeasible == (not points)
    if solved.values is not None:
        least = min(_cost(program, values) for values in points)
        assert solved.optimal
        assert _cost(program, solved.values) == solved.bound == least
        few = fewest(program, solved, 10, 1)
        assert few in points
        assert (least, sum(few)) == min((_cost(program, values), sum(values)) for values in points)


@given(st.lists(st.tuples(SIZES, st.booleans()), min_size=1, max_size=8), SIZES)
def test_a_scaled_row_holds_wherever_the_row_does(terms: list[tuple[int, bool]], limit: int) -> None:
    row = Row(tuple(size for size, _ in terms), tuple(range(1, len(terms) + 1)), limit)
    scaled = row.scaled()
    assert sum(map(abs, scaled.coefficients)) <= LARGEST_SUM + len(terms)
    if sum(size for size, true in terms if true) <= limit:
        assert sum(size for size, (_, true) in zip(scaled.coefficients, terms, strict=True) if true) <= scaled.limit


@pytest.mark.parametrize(("literals", "contradiction"), [((FALSE,), True), ((TRUE, FALSE), False), ((), True)])
def test_constants_leave_clauses(literals: tuple[int, ...], contradiction: bool) -> None:
    program = BinaryProgram()
    program.clause(*literals)
    assert program.clauses == []
    assert program.contradiction == contradiction
    assert integer_bound(program, 1, 1).infeasible == contradiction
