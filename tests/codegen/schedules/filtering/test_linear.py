"""Combinations with shared sums are the matrix, and need no more operations than the matrix has entries."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.schedules.cpu.filtering.linear import Matrix, combination
from passes.derive.interpolation import interpolation


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    width = draw(st.integers(1, 6))
    entry = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 2.25])
    rows = draw(st.lists(st.tuples(*[entry] * width), min_size=1, max_size=6))
    return tuple(rows)


@settings(max_examples=200, derandomize=True)
@given(matrices())
def test_combinations_are_the_matrix(matrix: Matrix) -> None:
    plan = combination(matrix)
    width = len(matrix[0])
    for column in range(width):
        values = [float(place == column) for place in range(width)]
        for first, second, ratio in plan.shared:
            values.append(values[first] + ratio * values[second])
        found = [sum(values[place] * factor for place, factor in row) for row in plan.rows]
        assert found == [line[column] for line in matrix]


def test_tables_of_interpolation_need_few_operations() -> None:
    tables = interpolation(2, 3)
    inputs = tuple(tuple(map(float, line)) for line in tables.inputs)
    outputs = tuple(tuple(map(float, line)) for line in tables.outputs)
    assert combination(inputs).operations <= 5
    assert combination(outputs).operations <= 5
