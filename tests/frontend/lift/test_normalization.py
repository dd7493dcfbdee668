"""Every normalisation agrees with ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from tensoropt.frontend import load_program
from tensoropt.ir.interpreter import run_program
from tests.strategies.single_nodes import assert_agrees, model_of, normal


@pytest.mark.parametrize("opset", [7, 8, 9, 14, 15])
def test_batch_normalization(opset: int) -> None:
    inputs = {"x": normal(0, 2, 3, 4, 5)}
    constants = {"s": normal(1, 3), "b": normal(2, 3), "m": normal(3, 3), "v": np.abs(normal(4, 3))}
    program = assert_agrees(model_of("BatchNormalization", inputs, constants, opset=opset, epsilon=1e-3), inputs)
    assert len(program.statements) == 1
    assert sorted(program.constants) == ["y0.scale", "y0.shift"]
    assert_agrees(model_of("BatchNormalization", inputs | constants, opset=opset), inputs | constants)


def test_batch_normalization_by_the_batch() -> None:
    """ONNX Runtime has no kernel for the mode; ONNX's own evaluator has."""
    inputs = {"x": normal(0, 4, 3, 4, 5) * 2 + 1, "s": normal(1, 3), "b": normal(2, 3), "m": normal(3, 3)}
    inputs["v"] = np.abs(normal(4, 3))
    model = model_of("BatchNormalization", inputs, outputs=3, opset=15, training_mode=1, momentum=0.7)
    expected = ReferenceEvaluator(model).run(None, inputs)
    values = run_program(load_program(model).program, inputs)
    for position, wanted in enumerate(expected):
        np.testing.assert_allclose(values[f"y{position}"], wanted, rtol=1e-4, atol=1e-5)


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
