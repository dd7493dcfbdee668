"""Reductions and ArgMax agree with ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.single_nodes import assert_agrees, model_of, normal, shapes

SUMS = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
]


@given(st.sampled_from(SUMS), shapes(), st.data())
@settings(max_examples=100)
def test_reduction(operator: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda axis: axis % len(shape)))
    keep = data.draw(st.integers(0, 1))
    inputs = {"x": np.abs(normal(0, *shape)) + np.float32(0.1)}
    if data.draw(st.booleans()):
        fixed = {"axes": np.array(axes, np.int64)} if axes else None
        assert_agrees(model_of(operator, inputs, fixed, keepdims=keep), inputs, rtol=1e-3)
    else:
        attributes: dict[str, Any] = {"axes": axes} if axes else {}
        model = model_of(operator, inputs, opset=11, keepdims=keep, **attributes)
        assert_agrees(model, inputs, rtol=1e-3)


def test_reduction_over_nothing() -> None:
    inputs, axes = {"x": normal(0, 2, 3)}, {"axes": np.zeros(0, np.int64)}
    assert_agrees(model_of("ReduceSum", inputs, axes, noop_with_empty_axes=1), inputs)
    assert_agrees(model_of("ReduceSum", inputs, axes, noop_with_empty_axes=0), inputs)


@given(st.sampled_from(["ArgMax", "ArgMin"]), shapes(), st.integers(0, 1), st.integers(0, 1), st.data())
@settings(max_examples=40)
def test_arg_extreme(operator: str, shape: tuple[int, ...], keep: int, last: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    inputs = {"x": np.round(normal(0, *shape) * 2)}
    assert_agrees(model_of(operator, inputs, axis=axis, keepdims=keep, select_last_index=last), inputs)
