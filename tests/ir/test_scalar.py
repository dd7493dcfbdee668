"""Scalar operations mean what their names say in Python's own arithmetic, per type."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensoropt.ir.expression import Apply, Cast, Constant, Scope, normal_number
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType
from tests.strategies.programs import CASES, integer_range

Function = Callable[..., Any]

INTEGERS = [dtype for dtype in DataType if dtype.is_integer]
UNARY: dict[str, Function] = {
    "exp": math.exp, "tanh": math.tanh, "erf": math.erf, "sin": math.sin, "cos": math.cos, "atan": math.atan,
    "asinh": math.asinh, "floor": math.floor, "ceil": math.ceil, "trunc": math.trunc, "round": round, "abs": abs,
    "neg": lambda x: -x, "sigmoid": lambda x: 1 / (1 + math.exp(-x)), "relu": lambda x: max(x, 0.0),
    "sign": lambda x: (x > 0) - (x < 0), "sinh": math.sinh, "cosh": math.cosh, "tan": math.tan,
    "isnan": math.isnan, "isinf": math.isinf,
}  # fmt: skip
POSITIVE: dict[str, Function] = {
    "log": math.log,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: x**-0.5,
    "reciprocal": lambda x: 1 / x,
}
FLOAT_BINARY: dict[str, Function] = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y, "max": max, "min": min,
    "atan2": math.atan2, "lt": lambda x, y: x < y, "le": lambda x, y: x <= y, "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y, "eq": lambda x, y: x == y, "ne": lambda x, y: x != y,
}  # fmt: skip


def _truncated(x: int, y: int) -> int:
    return 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def _power(x: int, y: int) -> int:
    return x**y if y >= 0 else (x if y % 2 else 1) if abs(x) == 1 else 0


INTEGER_BINARY: dict[str, Function] = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y, "max": max, "min": min,
    "div": _truncated, "mod": lambda x, y: 0 if y == 0 else x % y, "fmod": lambda x, y: x - y * _truncated(x, y) if y else 0,
    "bitand": lambda x, y: x & y, "bitor": lambda x, y: x | y, "bitxor": lambda x, y: x ^ y,
}  # fmt: skip


def value(operation: str, *operands: Constant) -> Any:
    return evaluate(Scope([], Apply(operation, *operands)), {}).item()


@settings(max_examples=CASES)
@given(st.sampled_from(sorted(UNARY)), st.floats(-30, 30))
def test_unary_on_doubles(name: str, x: float) -> None:
    assert value(name, Constant(x, DataType.FLOAT64)) == pytest.approx(UNARY[name](x), rel=1e-13, abs=1e-300)


@settings(max_examples=CASES)
@given(st.sampled_from(sorted(POSITIVE)), st.floats(1e-3, 1e3))
def test_unary_on_positive_doubles(name: str, x: float) -> None:
    assert value(name, Constant(x, DataType.FLOAT64)) == pytest.approx(POSITIVE[name](x), rel=1e-14)


@settings(max_examples=CASES)
@given(st.sampled_from(sorted(FLOAT_BINARY)), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_binary_on_doubles(name: str, x: float, y: float) -> None:
    left, right = Constant(x, DataType.FLOAT64), Constant(y, DataType.FLOAT64)
    assert value(name, left, right) == pytest.approx(FLOAT_BINARY[name](x, y), rel=1e-15, abs=0)


@settings(max_examples=CASES)
@given(st.sampled_from(sorted(INTEGER_BINARY)), st.sampled_from(INTEGERS), st.data())
def test_binary_on_integers_wraps(name: str, dtype: DataType, data: st.DataObject) -> None:
    low, high = integer_range(dtype)
    numbers = st.one_of(st.integers(max(-5, low), 5), st.integers(low, high))
    x, y = data.draw(numbers), data.draw(numbers)
    expected = normal_number(INTEGER_BINARY[name](x, y), dtype)
    assert value(name, Constant(x, dtype), Constant(y, dtype)) == expected


@settings(max_examples=CASES)
@given(st.sampled_from(INTEGERS), st.integers(-9, 9), st.integers(-9, 9))
def test_integer_powers(dtype: DataType, x: int, y: int) -> None:
    low = max(-9, integer_range(dtype)[0])
    x, y = max(x, low), max(y, low)
    assert value("pow", Constant(x, dtype), Constant(y, dtype)) == normal_number(_power(x, y), dtype)


@settings(max_examples=CASES)
@given(st.sampled_from(INTEGERS), st.integers(0, 70), st.data())
def test_shifts_past_the_width_give_zero(dtype: DataType, by: int, data: st.DataObject) -> None:
    bits = dtype.itemsize * 8
    x = data.draw(st.integers(0, 1 << (bits - 1)).filter(lambda x: normal_number(x, dtype) == x))
    amount = Constant(min(by, integer_range(dtype)[1]), dtype)
    assert value("shl", Constant(x, dtype), amount) == normal_number(x << by if by < bits else 0, dtype)
    assert value("shr", Constant(x, dtype), amount) == x >> by


@pytest.mark.parametrize("dtype", [DataType.FLOAT16, DataType.BFLOAT16])
def test_half_types_compute_in_f32_and_round_once(dtype: DataType) -> None:
    x = np.arange(0.5, 3, 0.1).astype(dtype.numpy)
    wide = x.astype(np.float32)
    functions: dict[str, Function] = {"exp": np.exp, "rsqrt": lambda a: 1 / np.sqrt(a), "tanh": np.tanh}
    for name, function in functions.items():
        got = OPERATIONS[name].evaluate(x)
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(got, function(wide).astype(x.dtype))


def test_nan_and_infinity() -> None:
    nan, inf = Constant(math.nan, DataType.FLOAT32), Constant(math.inf, DataType.FLOAT32)
    assert math.isnan(value("max", nan, inf))
    assert math.isnan(value("relu", nan))
    assert value("isnan", nan) is True
    assert value("isinf", inf) is True
    assert value("sigmoid", inf) == 1.0
    assert value("eq", nan, nan) is False


@pytest.mark.parametrize(
    ("x", "source", "target", "expected"),
    [
        (2.9, DataType.FLOAT32, DataType.INT32, 2),
        (-2.9, DataType.FLOAT32, DataType.INT8, -2),
        (300, DataType.INT32, DataType.UINT8, 44),
        (-1, DataType.INT64, DataType.UINT16, 65535),
        (math.nan, DataType.FLOAT32, DataType.BOOL, True),
        (0.0, DataType.FLOAT32, DataType.BOOL, False),
        (True, DataType.BOOL, DataType.FLOAT16, 1.0),
        (1e300, DataType.FLOAT64, DataType.FLOAT32, math.inf),
        (1.00390625, DataType.FLOAT32, DataType.BFLOAT16, float(ml_dtypes.bfloat16(1.00390625))),
    ],
)
def test_casts(x: float, source: DataType, target: DataType, expected: float) -> None:
    assert evaluate(Scope([], Cast(Constant(x, source), target)), {}).item() == expected


def test_operand_types_must_agree() -> None:
    one, two = Constant(1, DataType.INT32), Constant(2, DataType.INT64)
    with pytest.raises(ValueError, match="mixes"):
        Apply("add", one, two)
    with pytest.raises(ValueError, match="takes 2 operands"):
        Apply("add", one)
    with pytest.raises(ValueError, match="condition of where"):
        Apply("where", one, one, one)
