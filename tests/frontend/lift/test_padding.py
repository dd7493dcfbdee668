"""Pad in every mode agrees with ONNX Runtime."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.single_nodes import assert_agrees, model_of, normal, shapes


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@given(st.sampled_from(["constant", "edge", "reflect", "wrap"]), shapes(largest=4), st.data())
@settings(max_examples=80)
def test_pad(mode: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    shape = tuple(extent + 2 for extent in shape)
    least = -1 if mode == "constant" else 0
    pads = [data.draw(st.integers(least, min(3, shape[axis % len(shape)] - 1))) for axis in range(2 * len(shape))]
    inputs = {"x": normal(0, *shape)}
    constants = {"p": ints(*pads)}
    if mode == "constant" and data.draw(st.booleans()):
        constants["v"] = np.array(1.5, np.float32)
    assert_agrees(model_of("Pad", inputs, constants, mode=mode, opset=19), inputs)


def test_pad_by_a_value_at_run_time() -> None:
    inputs = {"x": normal(0, 2, 3), "v": np.array(7, np.float32)}
    assert_agrees(model_of("Pad", inputs, {"p": ints(1, 0, 0, 2)}, order=["x", "p", "v"]), inputs)


def test_pad_some_axes() -> None:
    inputs = {"x": normal(0, 2, 3, 4)}
    assert_agrees(model_of("Pad", inputs, {"p": ints(1, 2), "a": ints(-1)}, order=["x", "p", "", "a"]), inputs)
