"""Element-wise operators agree with ONNX Runtime on ordinary and odd values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensoropt.frontend import load_program
from tensoropt.ir.interpreter import run_program
from tests.strategies.single_nodes import Array, assert_agrees, broadcast_pairs, model_of, normal, shapes

UNARY: list[tuple[str, dict[str, Any]]] = [
    *[(name, {}) for name in ("Abs", "Neg", "Sign", "Relu", "Exp", "Reciprocal", "Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Tan")],
    *[(name, {}) for name in ("Atan", "Sinh", "Cosh", "Asinh", "Floor", "Ceil", "Round", "IsNaN", "Softplus", "Softsign")],
    *[(name, {}) for name in ("HardSwish", "Mish", "Elu", "Selu", "Celu", "HardSigmoid", "LeakyRelu", "ThresholdedRelu", "Shrink")],
    ("Elu", {"alpha": 0.5}),
    ("Selu", {"alpha": 1.5, "gamma": 2.0}),
    ("Celu", {"alpha": 2.0}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("LeakyRelu", {"alpha": 0.2}),
    ("ThresholdedRelu", {"alpha": 0.5}),
    ("Shrink", {"bias": 0.25, "lambd": 0.5}),
    ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}),
    ("Identity", {}),
]  # fmt: skip
SPECIAL = np.array(
    [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, np.inf, -np.inf, np.nan, 88.0, -88.0, 1e-40], np.float32
)


@pytest.mark.parametrize(("operator", "attributes"), UNARY)
def test_unary(operator: str, attributes: dict[str, Any]) -> None:
    with np.errstate(all="ignore"):
        odd = (
            SPECIAL[np.isfinite(SPECIAL) & (np.abs(SPECIAL) < 1e3)]
            if operator in ("Sin", "Cos", "Tan", "Mish", "Gelu")
            else SPECIAL
        )
        odd = odd[np.isfinite(odd)] if operator in ("Softsign", "HardSwish", "Sign") else odd
    inputs: dict[str, Array] = {"x": np.concatenate([normal(0, 40) * 3, odd])}
    assert_agrees(model_of(operator, inputs, opset=20, **attributes), inputs, rtol=2e-5)


@pytest.mark.parametrize("operator", ["Sqrt", "Log", "Acosh"])
def test_unary_of_positive(operator: str) -> None:
    inputs: dict[str, Array] = {"x": np.abs(normal(0, 40)) + 1}
    assert_agrees(model_of(operator, inputs), inputs)


@pytest.mark.parametrize("operator", ["Asin", "Acos", "Atanh"])
def test_unary_of_small(operator: str) -> None:
    inputs: dict[str, Array] = {"x": np.linspace(-0.99, 0.99, 31, dtype=np.float32)}
    assert_agrees(model_of(operator, inputs), inputs)


@given(st.sampled_from(["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu"]), broadcast_pairs())
@settings(max_examples=80)
def test_broadcast(operator: str, pair: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    left, right = pair
    if operator == "PRelu":
        left = np.broadcast_shapes(left, right)
    inputs: dict[str, Array] = {"a": normal(0, *left), "b": normal(1, *right)}
    assert_agrees(model_of(operator, inputs), inputs)


@given(st.sampled_from(["Sum", "Mean", "Max", "Min"]), st.integers(1, 4), shapes())
@settings(max_examples=20)
def test_many_operands(operator: str, count: int, shape: tuple[int, ...]) -> None:
    inputs: dict[str, Array] = {f"x{number}": normal(number, *shape) for number in range(count)}
    assert_agrees(model_of(operator, inputs), inputs)


@given(
    st.sampled_from(["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]),
    broadcast_pairs(),
    st.sampled_from([np.float32, np.int64]),
)
@settings(max_examples=30)
def test_comparison(operator: str, pair: tuple[tuple[int, ...], tuple[int, ...]], dtype: type) -> None:
    inputs: dict[str, Array] = {
        name: np.asarray(np.round(normal(number, *shape) * 2)).astype(dtype)
        for number, (name, shape) in enumerate(zip("ab", pair, strict=True))
    }
    assert_agrees(model_of(operator, inputs), inputs)


@pytest.mark.parametrize("operator", ["And", "Or", "Xor"])
def test_logic(operator: str) -> None:
    inputs: dict[str, Array] = {"a": np.array([[True], [False]]), "b": np.array([True, False])}
    assert_agrees(model_of(operator, inputs), inputs)
    assert_agrees(model_of("Not", {"a": inputs["a"]}), {"a": inputs["a"]})


@pytest.mark.parametrize("operator", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bits(operator: str) -> None:
    inputs: dict[str, Array] = {"a": np.arange(-8, 8, dtype=np.int32), "b": np.arange(16, dtype=np.int32) * 37 % 19}
    assert_agrees(model_of(operator, inputs), inputs)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shift(direction: str) -> None:
    inputs: dict[str, Array] = {"a": np.arange(250, 256, dtype=np.uint8), "b": np.arange(6, dtype=np.uint8)}
    assert_agrees(model_of("BitShift", inputs, direction=direction), inputs)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Mod"])
def test_integers(operator: str, dtype: type) -> None:
    inputs: dict[str, Array] = {
        "a": np.arange(-20, 20, dtype=dtype),
        "b": np.where(np.arange(40) % 7 == 3, -3, np.arange(40) % 5 + 1).astype(dtype),
    }
    assert_agrees(model_of(operator, inputs), inputs)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_remainder_of_division_toward_zero(dtype: type) -> None:
    inputs: dict[str, Array] = {"a": (normal(0, 40) * 10).astype(dtype), "b": (np.arange(40) % 5 - 7).astype(dtype)}
    assert_agrees(model_of("Mod", inputs, fmod=1), inputs)


@pytest.mark.parametrize("exponent", [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, -0.5, -1.0, -2.0, 2.3, 0.0])
def test_power_of_a_constant(exponent: float) -> None:
    inputs: dict[str, Array] = {"a": np.abs(normal(0, 20)) + np.float32(0.1)}
    assert_agrees(model_of("Pow", inputs, {"e": np.array(exponent, np.float32)}), inputs)


@pytest.mark.parametrize(
    ("base", "exponent"),
    [(np.float32, np.int64), (np.int64, np.int64), (np.int32, np.float32), (np.float32, np.float32)],
)
def test_power(base: type, exponent: type) -> None:
    inputs: dict[str, Array] = {"a": np.arange(1, 7).astype(base), "b": np.arange(6).astype(exponent)}
    assert_agrees(model_of("Pow", inputs), inputs)


@pytest.mark.parametrize("bounds", [["low", "high"], ["low", ""], ["", "high"], []])
def test_clip(bounds: list[str]) -> None:
    inputs: dict[str, Array] = {"x": normal(0, 20)}
    values: dict[str, Array] = {"low": np.array(-0.5, np.float32), "high": np.array(0.75, np.float32)}
    constants = {name: values[name] for name in bounds if name}
    assert_agrees(model_of("Clip", inputs, constants, order=["x", *bounds]), inputs)
    if constants:
        feeds = inputs | constants
        assert_agrees(model_of("Clip", feeds, order=["x", *bounds]), feeds)


def test_clip_by_attributes() -> None:
    inputs: dict[str, Array] = {"x": normal(0, 20)}
    assert_agrees(model_of("Clip", inputs, opset=9, min=-0.5, max=0.5), inputs)


def test_broadcast_along_an_axis() -> None:
    """The rule of opsets before 7, which ONNX Runtime no longer runs."""
    inputs: dict[str, Array] = {"a": normal(0, 2, 3, 4), "b": normal(1, 3)}
    program = load_program(model_of("Add", inputs, opset=6, broadcast=1, axis=1)).program
    np.testing.assert_array_equal(run_program(program, inputs)["y0"], inputs["a"] + inputs["b"][:, None])


def test_where() -> None:
    inputs: dict[str, Array] = {"c": np.array([[True], [False]]), "a": normal(0, 3), "b": normal(1, 2, 3)}
    assert_agrees(model_of("Where", inputs), inputs)


@pytest.mark.parametrize("target", [np.float32, np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("source", [np.float32, np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_])
def test_cast(source: type, target: type) -> None:
    from onnx import helper

    values: Array = np.array([0, 1, 2, 100, 3.7, 0.2]).astype(source)
    assert_agrees(model_of("Cast", {"x": values}, to=helper.np_dtype_to_tensor_dtype(np.dtype(target))), {"x": values})


@pytest.mark.parametrize("signs", [{}, {"detect_negative": 0}, {"detect_positive": 0}])
def test_infinite(signs: dict[str, Any]) -> None:
    assert_agrees(model_of("IsInf", {"x": SPECIAL}, **signs), {"x": SPECIAL})
