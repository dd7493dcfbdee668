"""Integer operators agree with ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.strategies.single_nodes import Array, assert_agrees, model_of, normal


def integers(seed: int, dtype: Any, *shape: int) -> Array:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("axis", [None, 1, -1])
def test_quantize_and_dequantize(dtype: Any, axis: int | None) -> None:
    inputs = {"x": normal(0, 2, 3, 4) * 50}
    lines = [] if axis is None else [inputs["x"].shape[axis]]
    constants = {"s": np.abs(normal(1, *lines)) + np.float32(0.1), "z": integers(2, dtype, *lines)}
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    constants = {name: np.asarray(array) for name, array in constants.items()}
    assert_agrees(model_of("QuantizeLinear", inputs, constants, **attributes), inputs)
    narrow = {"x": integers(3, dtype, 2, 3, 4)}
    assert_agrees(model_of("DequantizeLinear", narrow, constants, **attributes), narrow)


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_matmul_integer(zeros: int) -> None:
    inputs = {"a": integers(0, np.uint8, 3, 4), "b": integers(1, np.uint8, 4, 5)}
    points: dict[str, Array] = {"p": np.array(7, np.uint8), "q": integers(2, np.uint8, 5)}
    constants = dict(list(points.items())[:zeros])
    assert_agrees(model_of("MatMulInteger", inputs, constants), inputs)


def test_conv_integer() -> None:
    inputs = {"x": integers(0, np.uint8, 1, 4, 5, 5)}
    constants = {"w": integers(1, np.uint8, 6, 2, 3, 3), "z": np.array(9, np.uint8)}
    model = model_of("ConvInteger", inputs, constants, group=2, pads=[1, 1, 1, 1], strides=[2, 1])
    assert_agrees(model, inputs)


def test_qlinear_matmul() -> None:
    inputs = {"a": integers(0, np.uint8, 3, 4)}
    constants: dict[str, Array] = {
        "as": np.array(0.02, np.float32), "az": np.array(120, np.uint8), "b": integers(1, np.uint8, 4, 5),
        "bs": np.array(0.03, np.float32), "bz": np.array(130, np.uint8), "ys": np.array(0.05, np.float32),
        "yz": np.array(100, np.uint8),
    }  # fmt: skip
    assert_agrees(model_of("QLinearMatMul", inputs, constants), inputs)


@pytest.mark.parametrize("lines", [[], [6]])
def test_qlinear_conv(lines: list[int]) -> None:
    inputs = {"x": integers(0, np.uint8, 1, 4, 5, 5)}
    constants: dict[str, Array] = {
        "xs": np.array(0.02, np.float32), "xz": np.array(120, np.uint8), "w": integers(1, np.int8, 6, 2, 3, 3),
        "ws": np.asarray(np.abs(normal(2, *lines)) / 20 + np.float32(0.01)), "wz": np.zeros(lines, np.int8),
        "ys": np.array(0.5, np.float32), "yz": np.array(100, np.uint8), "b": integers(3, np.int16, 6).astype(np.int32),
    }  # fmt: skip
    assert_agrees(model_of("QLinearConv", inputs, constants, group=2, pads=[1, 1, 1, 1]), inputs)
