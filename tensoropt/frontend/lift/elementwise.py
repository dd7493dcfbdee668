"""Element-wise operators with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

from tensoropt.frontend.lift.axes import output_iterators
from tensoropt.frontend.lift.node import Node, NotExpressed
from tensoropt.frontend.lift.scalars import apply, cast, constant_power, literal, where
from tensoropt.frontend.weights import data_type_of
from tensoropt.ir.expression import Apply, Constant, Number, Scalar
from tensoropt.ir.program import Statement
from tensoropt.ir.types import DataType

Body = Callable[[Node, list[Scalar]], Scalar]


def lift_elementwise(node: Node) -> list[Statement]:
    """One statement over the output's box."""
    node.only_first_output()
    iterators = output_iterators(node.shape)
    legacy = node.opset < 7 and node.attribute("broadcast", 0)
    values: list[Scalar] = []
    for position, operand in enumerate(node.operands):
        if operand is None:
            continue
        axis = None
        if legacy and position == 1 and "axis" in node.attributes:
            axis = int(node.attribute("axis")) % len(iterators)
        values.append(operand.broadcast(iterators, axis))
    return [node.compute(node.output, iterators, BODIES[node.operator](node, values))]


def _direct(operation: str) -> Body:
    return lambda node, values: apply(operation, *values)


def _number(node: Node, name: str, default: float) -> float:
    return float(node.attribute(name, default))


def _fold(operation: str) -> Body:
    return lambda node, values: reduce(lambda left, right: Apply(operation, left, right), values)


def _mean(node: Node, values: list[Scalar]) -> Scalar:
    total = reduce(lambda left, right: Apply("add", left, right), values)
    return apply("div", total, len(values)) if len(values) > 1 else total


def _power(node: Node, values: list[Scalar]) -> Scalar:
    base, exponent = values
    if base.dtype.is_float:
        if isinstance(exponent, Constant):
            return constant_power(base, float(exponent.value))
        return apply("pow", base, cast(exponent, base.dtype))
    wide = DataType.FLOAT64
    return cast(apply("pow", cast(base, wide), cast(exponent, wide)), base.dtype)


def _modulo(node: Node, values: list[Scalar]) -> Scalar:
    return apply("fmod" if node.attribute("fmod", 0) else "mod", *values)


def _leaky(node: Node, values: list[Scalar]) -> Scalar:
    (value,) = values
    return where(apply("le", value, 0), apply("mul", value, _number(node, "alpha", 0.01)), value)


def _prelu(node: Node, values: list[Scalar]) -> Scalar:
    value, slope = values
    return where(apply("le", value, 0), apply("mul", value, slope), value)


def _exponential_minus_one(value: Scalar, scale: float, inner: float = 1.0) -> Scalar:
    scaled = value if inner == 1.0 else apply("div", value, inner)
    return apply("mul", apply("sub", apply("exp", scaled), 1), scale)


def _elu(node: Node, values: list[Scalar]) -> Scalar:
    (value,) = values
    return where(apply("lt", value, 0), _exponential_minus_one(value, _number(node, "alpha", 1.0)), value)


def _celu(node: Node, values: list[Scalar]) -> Scalar:
    (value,) = values
    alpha = _number(node, "alpha", 1.0)
    return where(apply("lt", value, 0), _exponential_minus_one(value, alpha, alpha), value)


def _selu(node: Node, values: list[Scalar]) -> Scalar:
    (value,) = values
    alpha, gamma = _number(node, "alpha", 1.67326319217681884765625), _number(node, "gamma", 1.05070102214813232421875)
    positive = apply("mul", value, gamma)
    return where(apply("le", value, 0), apply("mul", _exponential_minus_one(value, alpha), gamma), positive)


def _gelu(node: Node, values: list[Scalar]) -> Scalar:
    (value,) = values
    if node.attribute("approximate", "none") == "tanh":
        cubic = apply("mul", apply("mul", apply("mul", value, value), value), 0.044715)
        inner = apply("tanh", apply("mul", apply("add", value, cubic), math.sqrt(2 / math.pi)))
    else:
        inner = apply("erf", apply("mul", value, math.sqrt(0.5)))
    return apply("mul", apply("mul", value, 0.5), apply("add", inner, 1))


def _clamp(value: Scalar, low: Scalar | Number, high: Scalar | Number) -> Scalar:
    return apply("min", apply("max", value, low), high)


def _hard_sigmoid(node: Node, values: list[Scalar]) -> Scalar:
    line = apply("add", apply("mul", values[0], _number(node, "alpha", 0.2)), _number(node, "beta", 0.5))
    return _clamp(line, 0, 1)


def _hard_swish(node: Node, values: list[Scalar]) -> Scalar:
    (value,) = values
    return apply("mul", value, _clamp(apply("add", apply("mul", value, 1 / 6), 0.5), 0, 1))


def softplus(value: Scalar) -> Scalar:
    """log(1 + exp(value)) without overflow."""
    tail = apply("log", apply("add", apply("exp", apply("neg", apply("abs", value))), 1))
    return apply("add", apply("max", value, 0), tail)


def _softsign(node: Node, values: list[Scalar]) -> Scalar:
    return apply("div", values[0], apply("add", apply("abs", values[0]), 1))


def _thresholded(node: Node, values: list[Scalar]) -> Scalar:
    return where(apply("gt", values[0], _number(node, "alpha", 1.0)), values[0], 0)


def _shrink(node: Node, values: list[Scalar]) -> Scalar:
    (value,) = values
    bias, lambd = _number(node, "bias", 0.0), _number(node, "lambd", 0.5)
    if not value.dtype.is_float and (bias != int(bias) or lambd != int(lambd)):
        raise NotExpressed("Shrink of integers with fractions")
    above = where(apply("gt", value, literal(lambd, value)), apply("sub", value, literal(bias, value)), 0)
    return where(apply("lt", value, literal(-lambd, value)), apply("add", value, literal(bias, value)), above)


def _swish(node: Node, values: list[Scalar]) -> Scalar:
    (value,) = values
    alpha = _number(node, "alpha", 1.0)
    return apply("mul", value, apply("sigmoid", value if alpha == 1.0 else apply("mul", value, alpha)))


def _clip(node: Node, values: list[Scalar]) -> Scalar:
    value = values[0]
    low: Scalar | float | None
    high: Scalar | float | None
    if node.opset < 11:
        low, high = node.attribute("min"), node.attribute("max")
    else:
        bounds = iter(values[1:])
        low = next(bounds) if node.optional(1) is not None else None
        high = next(bounds) if node.optional(2) is not None else None
    if low is not None:
        value = apply("max", value, low)
    if high is not None:
        value = apply("min", value, high)
    return value


def _is_infinite(node: Node, values: list[Scalar]) -> Scalar:
    (value,) = values
    signs = [
        apply("eq", value, bound)
        for name, bound in (("detect_positive", math.inf), ("detect_negative", -math.inf))
        if node.attribute(name, 1)
    ]
    match signs:
        case []:
            return Constant(False, DataType.BOOL)
        case [only]:
            return only
        case _:
            return apply("isinf", value)


def _cast(node: Node, values: list[Scalar]) -> Scalar:
    target = data_type_of(int(node.attribute("to")))
    if target is None:
        raise NotExpressed("a cast to a type that programs do not have")
    return cast(values[0], target)


def _shift(node: Node, values: list[Scalar]) -> Scalar:
    return apply("shl" if node.attribute("direction") == "LEFT" else "shr", *values)


BODIES: dict[str, Body] = {
    "Add": _direct("add"),
    "Sub": _direct("sub"),
    "Mul": _direct("mul"),
    "Div": _direct("div"),
    "Pow": _power,
    "Mod": _modulo,
    "Neg": _direct("neg"),
    "Abs": _direct("abs"),
    "Sign": _direct("sign"),
    "Relu": _direct("relu"),
    "Exp": _direct("exp"),
    "Log": _direct("log"),
    "Sqrt": _direct("sqrt"),
    "Reciprocal": _direct("reciprocal"),
    "Tanh": _direct("tanh"),
    "Sigmoid": _direct("sigmoid"),
    "Erf": _direct("erf"),
    "Sin": _direct("sin"),
    "Cos": _direct("cos"),
    "Tan": _direct("tan"),
    "Asin": _direct("asin"),
    "Acos": _direct("acos"),
    "Atan": _direct("atan"),
    "Sinh": _direct("sinh"),
    "Cosh": _direct("cosh"),
    "Asinh": _direct("asinh"),
    "Acosh": _direct("acosh"),
    "Atanh": _direct("atanh"),
    "Floor": _direct("floor"),
    "Ceil": _direct("ceil"),
    "Round": _direct("round"),
    "IsNaN": _direct("isnan"),
    "IsInf": _is_infinite,
    "Not": _direct("not"),
    "Equal": _direct("eq"),
    "Less": _direct("lt"),
    "LessOrEqual": _direct("le"),
    "Greater": _direct("gt"),
    "GreaterOrEqual": _direct("ge"),
    "And": _direct("and"),
    "Or": _direct("or"),
    "Xor": _direct("xor"),
    "BitwiseAnd": _direct("bitand"),
    "BitwiseOr": _direct("bitor"),
    "BitwiseXor": _direct("bitxor"),
    "BitwiseNot": _direct("bitnot"),
    "BitShift": _shift,
    "Where": lambda node, values: where(*values),
    "Sum": _fold("add"),
    "Max": _fold("max"),
    "Min": _fold("min"),
    "Mean": _mean,
    "Clip": _clip,
    "PRelu": _prelu,
    "LeakyRelu": _leaky,
    "Elu": _elu,
    "Selu": _selu,
    "Celu": _celu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Softplus": lambda node, values: softplus(values[0]),
    "Softsign": _softsign,
    "Mish": lambda node, values: apply("mul", values[0], apply("tanh", softplus(values[0]))),
    "Swish": _swish,
    "ThresholdedRelu": _thresholded,
    "Shrink": _shrink,
    "Cast": _cast,
    "CastLike": lambda node, values: cast(values[0], node.output.dtype),
}
