"""Scalar operations: their names, result types and exact meaning on NumPy values.

The table is the vocabulary of expression bodies. Frontend, interpreter and code generators look operations up here by name;
an operation that is not in the table does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erf as scalar_erf
from typing import Any

import numpy as np

from tensoropt.ir.types import DataType

_ERF = np.vectorize(scalar_erf, otypes=[np.float64])


def _keep(function: Callable[..., Any]) -> Callable[..., Any]:
    """Evaluate in the type of the first operand; half types go through f32, as compiled code does."""

    def evaluate(*values: Any) -> Any:
        dtype = values[0].dtype
        narrow = dtype.itemsize == 2 and dtype.kind not in "iu"
        operands = [value.astype(np.float32) for value in values] if narrow else values
        with np.errstate(all="ignore"):
            return np.asarray(function(*operands)).astype(dtype)

    return evaluate


def _truth(function: Callable[..., Any]) -> Callable[..., Any]:
    def evaluate(*values: Any) -> Any:
        return np.asarray(function(*values), dtype=np.bool_)

    return evaluate


def _divide(left: Any, right: Any) -> Any:
    if left.dtype.kind in "iu":
        safe = np.where(right == 0, 1, right)
        with np.errstate(all="ignore"):  # the least integer by −1 wraps
            quotient = left // safe
            rounded_down = (quotient * safe != left) & ((left < 0) != (safe < 0))
        return np.where(right == 0, 0, quotient + rounded_down)
    return left / right


def _truncated_remainder(left: Any, right: Any) -> Any:
    return (
        np.where(right == 0, 0, np.fmod(left, np.where(right == 0, 1, right)))
        if left.dtype.kind in "iu"
        else np.fmod(left, right)
    )


def _floored_remainder(left: Any, right: Any) -> Any:
    return (
        np.where(right == 0, 0, np.mod(left, np.where(right == 0, 1, right)))
        if left.dtype.kind in "iu"
        else np.mod(left, right)
    )


def _power(base: Any, exponent: Any) -> Any:
    """Integers to negative powers are truncated toward zero; 0 to a negative power is 0, as division by zero is."""
    if base.dtype.kind not in "iu":
        return np.power(base, exponent)
    unit = np.where(base == 1, 1, np.where(exponent % 2 == 0, 1, -1)) * (np.abs(base) == 1)
    return np.where(exponent < 0, unit.astype(base.dtype), np.power(base, np.where(exponent < 0, 0, exponent)))


def _sigmoid(value: Any) -> Any:
    small = np.exp(-np.abs(value))
    return np.where(value >= 0, 1 / (1 + small), small / (1 + small))


def _shift_left(left: Any, right: Any) -> Any:
    return np.where(right >= left.dtype.itemsize * 8, 0, np.left_shift(left, right))


def _shift_right(left: Any, right: Any) -> Any:
    return np.where(right >= left.dtype.itemsize * 8, 0, np.right_shift(left, right))


@dataclass(frozen=True, slots=True)
class ScalarOperation:
    """One scalar operation.

    ``result`` is "same" (the type of the last operand, which all value operands share) or "bool".
    ``evaluate`` takes NumPy arrays that broadcast and defines the meaning.
    """

    name: str
    arity: int
    evaluate: Callable[..., Any]
    result: str = "same"
    commutative: bool = False
    associative: bool = False

    def result_type(self, operands: tuple[DataType, ...]) -> DataType:
        """The type of the result; ValueError where operand types differ or their number is wrong."""
        if len(operands) != self.arity:
            raise ValueError(f"{self.name} takes {self.arity} operands, not {len(operands)}")
        values = operands[1:] if self.name == "where" else operands
        if self.name == "where" and operands[0] is not DataType.BOOL:
            raise ValueError(f"the condition of where is bool, not {operands[0].value}")
        if len(set(values)) > 1:
            raise ValueError(f"{self.name} mixes {', '.join(operand.value for operand in operands)}")
        return DataType.BOOL if self.result == "bool" else values[-1]


def _binary(
    name: str, function: Callable[..., Any], commutative: bool = False, associative: bool = False
) -> ScalarOperation:
    return ScalarOperation(name, 2, _keep(function), "same", commutative, associative)


def _unary(name: str, function: Callable[..., Any]) -> ScalarOperation:
    return ScalarOperation(name, 1, _keep(function))


def _comparison(name: str, function: Callable[..., Any], commutative: bool = False) -> ScalarOperation:
    return ScalarOperation(name, 2, _truth(function), "bool", commutative)


def _erf(value: Any) -> Any:
    return _ERF(value) if value.size else value


_OPERATIONS = [
    _binary("add", np.add, True, True),
    _binary("sub", np.subtract),
    _binary("mul", np.multiply, True, True),
    _binary("div", _divide),
    _binary("max", np.maximum, True, True),
    _binary("min", np.minimum, True, True),
    _binary("pow", _power),
    _binary("fmod", _truncated_remainder),
    _binary("mod", _floored_remainder),
    _binary("atan2", np.arctan2),
    _unary("neg", np.negative),
    _unary("abs", np.abs),
    _unary("sign", np.sign),
    _unary("relu", lambda value: np.maximum(value, np.zeros((), value.dtype))),
    _unary("exp", np.exp),
    _unary("log", np.log),
    _unary("sqrt", np.sqrt),
    _unary("rsqrt", lambda value: 1 / np.sqrt(value)),
    _unary("reciprocal", lambda value: 1 / value),
    _unary("tanh", np.tanh),
    _unary("sigmoid", _sigmoid),
    _unary("erf", _erf),
    _unary("sin", np.sin),
    _unary("cos", np.cos),
    _unary("tan", np.tan),
    _unary("asin", np.arcsin),
    _unary("acos", np.arccos),
    _unary("atan", np.arctan),
    _unary("sinh", np.sinh),
    _unary("cosh", np.cosh),
    _unary("asinh", np.arcsinh),
    _unary("acosh", np.arccosh),
    _unary("atanh", np.arctanh),
    _unary("floor", np.floor),
    _unary("ceil", np.ceil),
    _unary("round", np.rint),  # halves to even, as ONNX Round says
    _unary("trunc", np.trunc),
    ScalarOperation("isnan", 1, _truth(np.isnan), "bool"),
    ScalarOperation("isinf", 1, _truth(np.isinf), "bool"),
    ScalarOperation("not", 1, _truth(np.logical_not), "bool"),
    _comparison("eq", np.equal, True),
    _comparison("ne", np.not_equal, True),
    _comparison("lt", np.less),
    _comparison("le", np.less_equal),
    _comparison("gt", np.greater),
    _comparison("ge", np.greater_equal),
    ScalarOperation("and", 2, _truth(np.logical_and), "bool", True, True),
    ScalarOperation("or", 2, _truth(np.logical_or), "bool", True, True),
    ScalarOperation("xor", 2, _truth(np.logical_xor), "bool", True, True),
    _binary("bitand", np.bitwise_and, True, True),
    _binary("bitor", np.bitwise_or, True, True),
    _binary("bitxor", np.bitwise_xor, True, True),
    _unary("bitnot", np.invert),
    _binary("shl", _shift_left),
    _binary("shr", _shift_right),
    ScalarOperation("where", 3, np.where),
]

OPERATIONS: dict[str, ScalarOperation] = {operation.name: operation for operation in _OPERATIONS}
