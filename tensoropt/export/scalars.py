"""Scalar operations as ONNX operators, with the meaning that ``tensoropt.ir.scalar`` gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tensoropt.export.graph import Graph, Value
from tensoropt.ir.types import DataType

Emit = Callable[[Graph, Sequence[Value]], Value]

_BOOL, _I32, _I64, _F32, _F64 = (
    DataType.BOOL,
    DataType.INT32,
    DataType.INT64,
    DataType.FLOAT32,
    DataType.FLOAT64,
)
_UNSIGNED = {
    DataType.INT8: DataType.UINT8,
    DataType.INT16: DataType.UINT16,
    DataType.INT32: DataType.UINT32,
    DataType.INT64: DataType.UINT64,
}
_WIDE: Mapping[DataType, DataType] = {
    DataType.FLOAT16: _F32,
    DataType.BFLOAT16: _F32,
    DataType.INT8: _I32,
    DataType.UINT8: _I32,
    DataType.INT16: _I32,
    DataType.UINT16: _I32,
}
"""Types in which operands are computed and then brought back: half floats as the IR defines, narrow integers because few runtimes
have kernels for them."""

_WHOLE = frozenset({DataType.UINT32, DataType.UINT64})

_F32_ONLY = frozenset({"Erf", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"})
"""ONNX Runtime's CPU kernels of these compute in f32 only, so f64 loses digits in them."""


def emit_operation(graph: Graph, operation: str, operands: Sequence[Value]) -> Value:
    """The result of an operation of ``scalar.OPERATIONS`` on operands that broadcast."""
    if operation == "where":
        return graph.where(*operands)
    dtype = operands[0].dtype
    if dtype is _BOOL and operation in _ON_BOOLS:
        return _ON_BOOLS[operation](graph, operands)
    wide = _I32 if dtype is _BOOL else _WIDE.get(dtype, dtype)
    if operation in _BITS:
        return _BITS[operation](graph, operands)
    result = _OPERATIONS[operation](graph, [graph.cast(operand, wide) for operand in operands])
    return result if operation in _COMPARISONS else graph.cast(result, dtype)


def emit_cast(graph: Graph, value: Value, dtype: DataType) -> Value:
    """Conversion: floats truncate toward zero, integers wrap, and what is not finite becomes the integer 0."""
    if value.dtype.is_float and dtype.is_integer:
        wide = graph.cast(value, _WIDE.get(value.dtype, value.dtype))
        finite = _node(graph, "Less", [_node(graph, "Abs", [wide]), _like(graph, wide, np.inf)], _BOOL)
        value = graph.cast(graph.where(finite, wide, _like(graph, wide, 0)), _I64)
    return graph.cast(value, dtype)


def _node(
    graph: Graph, operator: str, operands: Sequence[Value], dtype: DataType | None = None, **attributes: int
) -> Value:
    shape = np.broadcast_shapes(*(operand.shape for operand in operands))
    return graph.emit(operator, operands, shape, dtype or operands[0].dtype, **attributes)


def _direct(operator: str) -> Emit:
    def emit(graph: Graph, operands: Sequence[Value]) -> Value:
        dtype = operands[0].dtype
        if dtype is _F64 and operator in _F32_ONLY:
            return graph.cast(_node(graph, operator, [graph.cast(operand, _F32) for operand in operands]), dtype)
        return _node(graph, operator, operands)

    return emit


def _comparison(operator: str) -> Emit:
    return lambda graph, operands: _node(graph, operator, operands, _BOOL)


def _different(graph: Graph, operands: Sequence[Value]) -> Value:
    return _node(graph, "Not", [_node(graph, "Equal", operands, _BOOL)])


def _like(graph: Graph, value: Value, number: float) -> Value:
    return graph.scalar(number, value.dtype)


def _is(graph: Graph, value: Value, number: int) -> Value:
    return _node(graph, "Equal", [value, _like(graph, value, number)], _BOOL)


def _safe_divisor(graph: Graph, divisor: Value) -> tuple[Value, Value]:
    """Whether an integer divisor is 0, and one that the machine does not trap on: 1 in place of 0, and of −1, which
    overflows on the lowest integer."""
    zero = _is(graph, divisor, 0)
    trapping = zero
    if divisor.dtype in _UNSIGNED:
        trapping = _node(graph, "Or", [zero, _is(graph, divisor, -1)])
    return zero, graph.where(trapping, _like(graph, divisor, 1), divisor)


def _divide(graph: Graph, operands: Sequence[Value]) -> Value:
    left, right = operands
    if left.dtype.is_float:
        return _node(graph, "Div", operands)
    zero, safe = _safe_divisor(graph, right)
    quotient = _node(graph, "Div", [left, safe])
    if left.dtype in _UNSIGNED:
        negated = _node(graph, "Sub", [_like(graph, left, 0), left])
        quotient = graph.where(_is(graph, right, -1), negated, quotient)
    return graph.where(zero, _like(graph, left, 0), quotient)


def _crossing(graph: Graph, left: Value, right: Value, rest: Value) -> Value:
    """Where truncated and floored remainders differ: the operands' signs do, and the division leaves a rest."""
    signs = [_node(graph, "Less", [value, _like(graph, value, 0)], _BOOL) for value in (left, right)]
    return _node(graph, "And", [_node(graph, "Xor", signs), _different(graph, [rest, _like(graph, rest, 0)])])


def _remainder(graph: Graph, operands: Sequence[Value], truncated: bool) -> Value:
    left, right = operands
    if left.dtype.is_float:
        rest = _node(graph, "Mod", operands, fmod=1)
        if truncated:
            return rest
        return graph.where(_crossing(graph, left, right, rest), _node(graph, "Add", [rest, right]), rest)
    zero, safe = _safe_divisor(graph, right)
    rest = _node(graph, "Mod", [left, safe])
    if truncated and left.dtype in _UNSIGNED:
        # from the floored remainder: fmod=1 goes through doubles in ONNX Runtime, and it takes (1 / x) · x for x / x
        crosses = _crossing(graph, left, safe, rest)
        rest = graph.where(crosses, _node(graph, "Sub", [rest, safe]), rest)
    return graph.where(zero, _like(graph, left, 0), rest)


def _power(graph: Graph, operands: Sequence[Value]) -> Value:
    base, exponent = operands
    if base.dtype.is_float:
        return _node(graph, "Pow", operands)
    if base.dtype in _WHOLE:
        return graph.cast(_power(graph, [graph.cast(operand, _I64) for operand in operands]), base.dtype)
    zero = _like(graph, base, 0)
    negative = _node(graph, "Less", [exponent, zero], _BOOL)
    power = _node(graph, "Pow", [base, graph.where(negative, zero, exponent)])
    unit = _node(graph, "Equal", [_node(graph, "Abs", [base]), _like(graph, base, 1)], _BOOL)
    parity = _node(graph, "Mod", [exponent, _like(graph, base, 2)])
    inverse = graph.where(_node(graph, "Equal", [parity, zero], _BOOL), _like(graph, base, 1), base)
    return graph.where(negative, graph.where(unit, inverse, zero), power)


def _arctangent(graph: Graph, operands: Sequence[Value]) -> Value:
    """The angle from atan(y / x) and the quadrant; signed zeros count as positive."""
    y, x = operands
    zero, pi = _like(graph, x, 0), _like(graph, x, np.pi)
    angle = _direct("Atan")(graph, [_node(graph, "Div", [y, x])])
    y_negative = _node(graph, "Less", [y, zero], _BOOL)
    turn = graph.where(y_negative, _like(graph, x, -np.pi), pi)
    turned = graph.where(_node(graph, "Less", [x, zero], _BOOL), _node(graph, "Add", [angle, turn]), angle)
    y_zero = _node(graph, "Equal", [y, zero], _BOOL)
    x_negative = _node(graph, "Less", [x, zero], _BOOL)
    return graph.where(y_zero, graph.where(x_negative, pi, zero), turned)


def _trunc(graph: Graph, operands: Sequence[Value]) -> Value:
    (value,) = operands
    negative = _node(graph, "Less", [value, _like(graph, value, 0)], _BOOL)
    return graph.where(negative, _node(graph, "Ceil", operands), _node(graph, "Floor", operands))


def _rsqrt(graph: Graph, operands: Sequence[Value]) -> Value:
    return _node(graph, "Reciprocal", [_node(graph, "Sqrt", operands)])


def _negate(graph: Graph, operands: Sequence[Value]) -> Value:
    (value,) = operands
    if value.dtype in _WHOLE:
        return _node(graph, "Sub", [_like(graph, value, 0), value])
    return _node(graph, "Neg", operands)


def _relu(graph: Graph, operands: Sequence[Value]) -> Value:
    (value,) = operands
    return (
        _node(graph, "Relu", operands) if value.dtype.is_float else _node(graph, "Max", [value, _like(graph, value, 0)])
    )


def _bitwise(operator: str) -> Emit:
    return lambda graph, operands: _node(graph, operator, operands)


def _shift(graph: Graph, operands: Sequence[Value], direction: str) -> Value:
    """Shifts of unsigned integers; those of negative numbers to the right go through the complement."""
    value, amount = operands
    dtype, bits = value.dtype, value.dtype.itemsize * 8
    unsigned = DataType.UINT32 if bits < 32 else _UNSIGNED.get(dtype, dtype)
    overlong = _node(graph, "GreaterOrEqual", [amount, _like(graph, amount, bits)], _BOOL)
    safe = graph.cast(graph.where(overlong, _like(graph, amount, 0), amount), unsigned)
    signed = dtype in _UNSIGNED

    def shifted(number: Value) -> Value:
        shape = np.broadcast_shapes(number.shape, safe.shape)
        whole = graph.emit("BitShift", [graph.cast(number, unsigned), safe], shape, unsigned, direction=direction)
        return graph.cast(whole, dtype)

    result = shifted(value)
    if direction == "RIGHT" and signed:
        negative = _node(graph, "Less", [value, _like(graph, value, 0)], _BOOL)
        complement = _node(graph, "BitwiseNot", [shifted(_node(graph, "BitwiseNot", [value]))])
        result = graph.where(negative, complement, result)
    return graph.where(overlong, _like(graph, value, 0), result)


_COMPARISONS: dict[str, Emit] = {
    "eq": _comparison("Equal"),
    "ne": _different,
    "lt": _comparison("Less"),
    "le": _comparison("LessOrEqual"),
    "gt": _comparison("Greater"),
    "ge": _comparison("GreaterOrEqual"),
    "isnan": _comparison("IsNaN"),
    "isinf": _comparison("IsInf"),
}
_DIRECT = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "max": "Max", "min": "Min", "abs": "Abs", "sign": "Sign", "exp": "Exp",
    "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "tanh": "Tanh", "sigmoid": "Sigmoid", "erf": "Erf",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh",
    "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "floor": "Floor", "ceil": "Ceil",
    "round": "Round",
}  # fmt: skip
_OPERATIONS: dict[str, Emit] = {
    **_COMPARISONS,
    **{name: _direct(operator) for name, operator in _DIRECT.items()},
    "div": _divide,
    "mod": lambda graph, operands: _remainder(graph, operands, truncated=False),
    "fmod": lambda graph, operands: _remainder(graph, operands, truncated=True),
    "pow": _power,
    "atan2": _arctangent,
    "trunc": _trunc,
    "rsqrt": _rsqrt,
    "neg": _negate,
    "relu": _relu,
}
_BITS: dict[str, Emit] = {
    "bitand": _bitwise("BitwiseAnd"),
    "bitor": _bitwise("BitwiseOr"),
    "bitxor": _bitwise("BitwiseXor"),
    "bitnot": _bitwise("BitwiseNot"),
    "shl": lambda graph, operands: _shift(graph, operands, "LEFT"),
    "shr": lambda graph, operands: _shift(graph, operands, "RIGHT"),
}
_ON_BOOLS: dict[str, Emit] = {
    "and": _bitwise("And"),
    "or": _bitwise("Or"),
    "xor": _bitwise("Xor"),
    "not": _bitwise("Not"),
    "add": _bitwise("Or"),
    "max": _bitwise("Or"),
    "mul": _bitwise("And"),
    "min": _bitwise("And"),
    "eq": _comparison("Equal"),
    "ne": _bitwise("Xor"),
}
