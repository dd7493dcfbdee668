"""Reductions, softmax and normalisation agree with ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
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
@settings(max_examples=100, deadline=None)
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
@settings(max_examples=40, deadline=None)
def test_arg_extreme(operator: str, shape: tuple[int, ...], keep: int, last: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    inputs = {"x": np.round(normal(0, *shape) * 2)}
    assert_agrees(model_of(operator, inputs, axis=axis, keepdims=keep, select_last_index=last), inputs)


@given(st.sampled_from(["Softmax", "LogSoftmax", "Hardmax"]), shapes(), st.sampled_from([11, 13]), st.data())
@settings(max_examples=60, deadline=None)
def test_softmax(operator: str, shape: tuple[int, ...], opset: int, data: st.DataObject) -> None:
    attributes: dict[str, Any] = {"axis": data.draw(st.integers(-len(shape), len(shape) - 1))}
    if data.draw(st.booleans()) and len(shape) > 1:
        attributes = {}
    inputs = {"x": normal(0, *shape) * 10}
    program = assert_agrees(model_of(operator, inputs, opset=opset, **attributes), inputs)
    assert len(program.statements) == {"Softmax": 4, "LogSoftmax": 3, "Hardmax": 3}[operator]


@pytest.mark.parametrize("opset", [7, 8, 9, 14, 15])
def test_batch_normalization(opset: int) -> None:
    inputs = {"x": normal(0, 2, 3, 4, 5)}
    constants = {"s": normal(1, 3), "b": normal(2, 3), "m": normal(3, 3), "v": np.abs(normal(4, 3))}
    program = assert_agrees(model_of("BatchNormalization", inputs, constants, opset=opset, epsilon=1e-3), inputs)
    assert len(program.statements) == 1
    assert sorted(program.constants) == ["y0.scale", "y0.shift"]
    assert_agrees(model_of("BatchNormalization", inputs | constants, opset=opset), inputs | constants)


@pytest.mark.parametrize("axis", [-1, 1, 2, 3])
@pytest.mark.parametrize("biased", [True, False])
def test_layer_normalization(axis: int, biased: bool) -> None:
    inputs = {"x": normal(0, 2, 3, 4, 5) * 3 + 1}
    tail = inputs["x"].shape[axis:] if axis != -1 else (5,)
    constants = {"s": normal(1, *tail)} | ({"b": normal(2, *tail)} if biased else {})
    assert_agrees(model_of("LayerNormalization", inputs, constants, outputs=3, axis=axis, opset=17), inputs)


def test_instance_normalization() -> None:
    inputs, constants = {"x": normal(0, 2, 3, 4, 5)}, {"s": normal(1, 3), "b": normal(2, 3)}
    assert_agrees(model_of("InstanceNormalization", inputs, constants), inputs)


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization(opset: int) -> None:
    inputs, parameters = {"x": normal(0, 2, 6, 4, 5)}, 2 if opset == 18 else 6
    constants = {"s": normal(1, parameters), "b": normal(2, parameters)}
    assert_agrees(model_of("GroupNormalization", inputs, constants, num_groups=2, opset=opset), inputs)


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_normalization(axis: int) -> None:
    inputs = {"x": normal(0, 2, 3, 4)}
    constants = {"s": normal(1, *inputs["x"].shape[axis:])}
    assert_agrees(model_of("RMSNormalization", inputs, constants, axis=axis, opset=23), inputs)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("axis", [0, -1])
def test_lp_normalization(order: int, axis: int) -> None:
    inputs = {"x": normal(0, 3, 4)}
    assert_agrees(model_of("LpNormalization", inputs, p=order, axis=axis), inputs)


@pytest.mark.parametrize("axes", [None, [0, 1], [2, 3]])
def test_mean_variance_normalization(axes: list[int] | None) -> None:
    inputs = {"x": normal(0, 2, 3, 4, 5)}
    attributes: dict[str, Any] = {} if axes is None else {"axes": axes}
    assert_agrees(
        model_of("MeanVarianceNormalization", inputs, opset=13, **attributes),
        inputs,
        rtol=1e-3,
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_local_response_normalization(size: int) -> None:
    inputs = {"x": normal(0, 2, 7, 3, 3) * 10}
    if size % 2:  # ONNX Runtime takes odd sizes only
        assert_agrees(model_of("LRN", inputs, size=size, alpha=0.3, beta=0.6, bias=2.0), inputs)
