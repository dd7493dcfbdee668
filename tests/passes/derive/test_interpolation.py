"""The matrices of interpolation give the correlation, exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.derive.interpolation import MOST_PRODUCTS, interpolation

SIZES = [
    (outputs, taps)
    for outputs in range(1, MOST_PRODUCTS)
    for taps in range(1, MOST_PRODUCTS)
    if 2 <= outputs + taps - 1 <= MOST_PRODUCTS
]
numbers = st.fractions(-9, 9, max_denominator=12)


@settings(max_examples=150, derandomize=True)
@given(st.sampled_from(SIZES), st.data())
def test_it_is_the_correlation(size: tuple[int, int], data: st.DataObject) -> None:
    outputs, taps = size
    products = outputs + taps - 1
    tables = interpolation(outputs, taps)
    signal = data.draw(st.lists(numbers, min_size=products, max_size=products))
    weights = data.draw(st.lists(numbers, min_size=taps, max_size=taps))
    points = [
        sum((a * b for a, b in zip(line, weights, strict=True)), Fraction(0))
        * sum((a * b for a, b in zip(row, signal, strict=True)), Fraction(0))
        for line, row in zip(tables.weights, tables.inputs, strict=True)
    ]
    found = [sum((a * b for a, b in zip(line, points, strict=True)), Fraction(0)) for line in tables.outputs]
    assert found == [sum(signal[place + tap] * weights[tap] for tap in range(taps)) for place in range(outputs)]


@pytest.mark.parametrize(("outputs", "taps"), [(0, 3), (4, 0), (MOST_PRODUCTS, 2)])
def test_sizes_without_points_are_refused(outputs: int, taps: int) -> None:
    with pytest.raises(ValueError, match="no interpolation"):
        interpolation(outputs, taps)
