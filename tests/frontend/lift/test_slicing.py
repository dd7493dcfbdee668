"""Slice, Split and Concat agree with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.single_nodes import assert_agrees, model_of, normal, shapes


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@given(shapes(), st.data())
@settings(max_examples=80)
def test_slice(shape: tuple[int, ...], data: st.DataObject) -> None:
    axes = data.draw(
        st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda axis: axis % len(shape), min_size=1)
    )
    steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in axes]
    starts = [data.draw(st.integers(-8, 8)) for _ in axes]
    far = {True: 2**63 - 1, False: -(2**63)}  # all that lies in the direction of the step
    ends = [data.draw(st.integers(-8, 8) | st.just(far[step > 0])) for step in steps]
    inputs = {"x": normal(0, *shape)}
    constants = {"s": ints(*starts), "e": ints(*ends), "a": ints(*axes), "t": ints(*steps)}
    assert_agrees(model_of("Slice", inputs, constants), inputs)


@given(shapes(), st.integers(1, 4), st.data())
@settings(max_examples=40)
def test_concat_and_split(shape: tuple[int, ...], count: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = [data.draw(st.integers(0, 3)) for _ in range(count)]
    sizes[0] += 1
    parts = [
        tuple(size if position == axis % len(shape) else extent for position, extent in enumerate(shape))
        for size in sizes
    ]
    inputs = {f"x{number}": normal(number, *part) for number, part in enumerate(parts)}
    assert_agrees(model_of("Concat", inputs, axis=axis), inputs)
    whole = {"x": np.concatenate(list(inputs.values()), axis=axis)}
    assert_agrees(model_of("Split", whole, {"s": ints(*sizes)}, outputs=count, axis=axis), whole)


@pytest.mark.parametrize(("extent", "parts"), [(6, 3), (7, 3), (5, 3)])
def test_split_evenly(extent: int, parts: int) -> None:
    inputs = {"x": normal(0, extent, 2)}
    assert_agrees(model_of("Split", inputs, outputs=parts, num_outputs=parts), inputs)
