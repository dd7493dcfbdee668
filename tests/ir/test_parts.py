"""Concatenations and slices that are contiguous are recognized with the right places, and no others."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tensoropt.frontend import load_program
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.parts import parts_of, range_of
from tensoropt.ir.program import Compute
from tests.strategies.single_nodes import model_of, normal


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4), st.lists(st.integers(1, 3), min_size=2, max_size=4), st.data()
)
def test_parts_of_a_concatenation(shape: list[int], sizes: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    inputs = {f"x{place}": normal(place, *shape[:axis], size, *shape[axis + 1 :]) for place, size in enumerate(sizes)}
    (statement,) = load_program(model_of("Concat", inputs, axis=axis)).program.statements
    assert isinstance(statement, Compute)
    found = parts_of(statement.expression)
    flat = evaluate(statement.expression, inputs).reshape(-1)
    for part in found:
        assert (part.strides is None) == (prod(shape[:axis]) == 1)
        values = inputs[part.tensor.name]
        if part.strides is None:
            shown = flat[part.start : part.start + values.size].reshape(values.shape)
        else:
            steps = [stride * flat.itemsize for stride in part.strides]
            shown = np.lib.stride_tricks.as_strided(flat[part.start :], values.shape, steps)
        np.testing.assert_array_equal(shown, values)
    assert sum(part.tensor.type.elements for part in found) == flat.size


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_ranges_are_slices_without_gaps(shape: list[int], data: st.DataObject) -> None:
    starts = [data.draw(st.integers(0, extent - 1)) for extent in shape]
    ends = [data.draw(st.integers(start + 1, extent)) for start, extent in zip(starts, shape, strict=True)]
    inputs = {"x": normal(0, *shape)}
    constants = {"s": np.array(starts), "e": np.array(ends)}
    (statement,) = load_program(model_of("Slice", inputs, constants)).program.statements
    assert isinstance(statement, Compute)
    found = range_of(statement.expression)
    result = evaluate(statement.expression, inputs).reshape(-1)
    places = (
        np.arange(prod(shape)).reshape(shape)[tuple(slice(*cut) for cut in zip(starts, ends, strict=True))].reshape(-1)
    )
    assert (found is not None) == bool((np.diff(places) == 1).all())
    if found is not None:
        np.testing.assert_array_equal(inputs["x"].reshape(-1)[found.start : found.start + result.size], result)


def test_parts_are_whole_and_distinct() -> None:
    inputs = {"x": normal(0, 2, 3)}
    (statement,) = load_program(model_of("Concat", inputs, order=["x", "x"], axis=0)).program.statements
    assert isinstance(statement, Compute)
    assert parts_of(statement.expression) == ()
