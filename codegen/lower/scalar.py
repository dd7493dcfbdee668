"""Scalar operations as TIR, one function an operation, with the meaning that ``tensoropt.ir.scalar`` gives them.

Half types are computed in f32 and rounded after every operation. Integers wrap; division by zero gives zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from codegen.lower import dialect
from codegen.lower.mathematics import F32_FUNCTIONS, Bind
from codegen.lower.tir import COMPUTED, STORED, Expression, number, reinterpret, typed
from tensoropt.ir.types import HALVES, DataType

_SIGNED = frozenset({DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64})


class Site:
    """Where an operation is emitted: the operands' type, the lanes, and how an intermediate value is named."""

    def __init__(self, dtype: DataType, lanes: int, bind: Bind) -> None:
        self.dtype, self.lanes, self.bind = dtype, lanes, bind
        self.computed = COMPUTED[dtype]
        self.is_float = dtype.is_float

    def literal(self, value: float | int | bool) -> Expression:
        """A literal of the operands' type."""
        return number(value, self.computed, self.lanes)

    def external(self, name: str, *arguments: Expression) -> Expression:
        """A function of the C library, lane by lane."""
        symbol = name + ("f" if self.computed == "float32" else "")
        if self.lanes == 1:
            return tirx.call_pure_extern(self.computed, symbol, *arguments)
        bound = [self.bind(argument) for argument in arguments]
        parts = [
            tirx.call_pure_extern(self.computed, symbol, *(tirx.Shuffle([value], [lane]) for value in bound))
            for lane in range(self.lanes)
        ]
        return tirx.Shuffle(parts, list(range(self.lanes)))


Emit = Callable[..., Expression]


def apply(operation: str, arguments: list[Expression], dtype: DataType, lanes: int, bind: Bind) -> Expression:
    """The result of an operation on operands of one type (for ``where``: the type of the values)."""
    site = Site(dtype, lanes, bind)
    result = _TABLE[operation](site, *arguments)
    return round_half(result, dtype, lanes, bind) if dtype in HALVES and operation not in _TRUTH else result


def round_half(value: Expression, dtype: DataType, lanes: int, bind: Bind) -> Expression:
    """An f32 rounded to the nearest value of a half type, ties to even; still an f32."""
    if dtype is DataType.FLOAT16:
        language = dialect.current()
        return language.from_half(language.to_half(value, typed("float16", lanes)), typed("float32", lanes))
    named = bind(value)
    bits = bind(reinterpret(typed("uint32", lanes), named))
    one = number(1, "uint32", lanes)
    odd = tirx.bitwise_and(tirx.shift_right(bits, number(16, "uint32", lanes)), one)
    rounded = tirx.bitwise_and(bits + number(0x7FFF, "uint32", lanes) + odd, number(0xFFFF0000, "uint32", lanes))
    return tirx.Select(is_nan(named), named, reinterpret(typed("float32", lanes), rounded))


def differs(left: Expression, right: Expression) -> Expression:
    """Not equal; NaN differs from everything. TVM's own comparison is false where an operand is NaN."""
    return tirx.Not(tirx.EQ(left, right))


def is_nan(value: Expression) -> Expression:
    """Whether a float is NaN."""
    return differs(value, value)


def from_stored(value: Expression, dtype: DataType, lanes: int) -> Expression:
    """A loaded element in the type that it is computed with."""
    match dtype:
        case DataType.BOOL:
            return tirx.NE(value, number(0, "uint8", lanes))
        case DataType.FLOAT16:
            return dialect.current().from_half(value, typed("float32", lanes))
        case DataType.BFLOAT16:
            wide = tirx.shift_left(tirx.Cast(typed("uint32", lanes), value), number(16, "uint32", lanes))
            return reinterpret(typed("float32", lanes), wide)
        case _:
            return value


def to_stored(value: Expression, dtype: DataType, lanes: int) -> Expression:
    """A computed value as it lies in memory."""
    match dtype:
        case DataType.BOOL:
            return tirx.Cast(typed(STORED[dtype], lanes), value)
        case DataType.FLOAT16:
            return dialect.current().to_half(value, typed("float16", lanes))
        case DataType.BFLOAT16:
            bits = reinterpret(typed("uint32", lanes), value)
            return tirx.Cast(typed("uint16", lanes), tirx.shift_right(bits, number(16, "uint32", lanes)))
        case _:
            return value


def cast(value: Expression, source: DataType, target: DataType, lanes: int, bind: Bind) -> Expression:
    """What ``Cast`` means: floats truncate toward zero (not finite: 0), integers wrap, non-zero is true."""
    if source is target:
        return value
    if target is DataType.BOOL:
        return differs(value, number(0, COMPUTED[source], lanes))
    if source.is_float and target.is_integer:
        named = bind(value)
        finite = tirx.abs(named) < number(float("inf"), COMPUTED[source], lanes)
        whole = tirx.Cast(typed("int64", lanes), tirx.Select(finite, named, number(0, COMPUTED[source], lanes)))
        return tirx.Cast(typed(COMPUTED[target], lanes), whole)
    converted = tirx.Cast(typed(COMPUTED[target], lanes), value)
    return round_half(converted, target, lanes, bind) if target in HALVES else converted


def _maximum(site: Site, left: Expression, right: Expression) -> Expression:
    if site.dtype is DataType.BOOL:
        return tirx.Or(left, right)
    if not site.is_float:
        return tirx.Max(left, right)
    a, b = site.bind(left), site.bind(right)
    return tirx.Select(is_nan(a), a, tirx.Select(a > b, a, b))  # b where either is NaN, so only a needs a look


def _minimum(site: Site, left: Expression, right: Expression) -> Expression:
    if site.dtype is DataType.BOOL:
        return tirx.And(left, right)
    if not site.is_float:
        return tirx.Min(left, right)
    a, b = site.bind(left), site.bind(right)
    return tirx.Select(is_nan(a), a, tirx.Select(a < b, a, b))


def _relu(site: Site, value: Expression) -> Expression:
    named = site.bind(value)
    zero = site.literal(0)
    return tirx.Select(zero > named, zero, named)


def _quotient(site: Site, left: Expression, right: Expression) -> Expression:
    if site.is_float:
        return left / right
    a, b = site.bind(left), site.bind(right)
    zero, one = site.literal(0), site.literal(1)
    if site.dtype not in _SIGNED:
        return tirx.Select(tirx.EQ(b, zero), zero, tirx.truncdiv(a, tirx.Select(tirx.EQ(b, zero), one, b)))
    minus = site.bind(tirx.EQ(b, site.literal(-1)))  # the lowest value / −1 overflows in hardware
    safe = tirx.Select(tirx.Or(tirx.EQ(b, zero), minus), one, b)
    return tirx.Select(tirx.EQ(b, zero), zero, tirx.Select(minus, zero - a, tirx.truncdiv(a, safe)))


def _truncated(site: Site, left: Expression, right: Expression) -> Expression:
    if site.is_float:
        return site.external("fmod", left, right)
    a, b = site.bind(left), site.bind(right)
    return _remainder(site, a, b)


def _remainder(site: Site, a: Expression, b: Expression) -> Expression:
    zero = site.literal(0)
    return tirx.Select(tirx.EQ(b, zero), zero, a - _quotient(site, a, b) * b)


def _floored(site: Site, left: Expression, right: Expression) -> Expression:
    a, b = site.bind(left), site.bind(right)
    zero = site.literal(0)
    if not site.is_float and site.dtype not in _SIGNED:
        return _remainder(site, a, b)
    rest = site.bind(_truncated(site, a, b))
    rest = site.bind(rest if site.is_float else tirx.Select(tirx.EQ(b, zero), zero, rest))
    crossing = tirx.And(tirx.NE(rest, zero), _differ(rest < zero, b < zero))
    return tirx.Select(crossing, rest + b, rest)


def _differ(left: Expression, right: Expression) -> Expression:
    """Exclusive or; TVM compares truth values as floats, which LLVM refuses."""
    return tirx.Or(tirx.And(left, tirx.Not(right)), tirx.And(tirx.Not(left), right))


def _power(site: Site, base: Expression, exponent: Expression) -> Expression:
    if site.is_float:
        return site.external("pow", base, exponent)
    zero, one = site.literal(0), site.literal(1)
    given, power = site.bind(base), site.bind(exponent)
    result, square, left = one, given, power
    for _ in range(8 * site.dtype.itemsize - (site.dtype in _SIGNED)):
        odd = tirx.EQ(tirx.bitwise_and(left, one), one)
        result = site.bind(tirx.Select(odd, result * square, result))
        square, left = site.bind(square * square), site.bind(tirx.shift_right(left, one))
    if site.dtype not in _SIGNED:
        return result
    minus = site.literal(-1)
    of_minus = tirx.Select(tirx.EQ(tirx.bitwise_and(power, one), one), minus, one)
    inverse = tirx.Select(tirx.EQ(given, one), one, tirx.Select(tirx.EQ(given, minus), of_minus, zero))
    return tirx.Select(power < zero, inverse, result)


def constant_power(exponent: float, base: Expression, site: Site) -> Expression | None:
    """``base ** exponent`` by multiplications and roots for the exponents that models use; None for others."""
    named = site.bind(base)
    match exponent:
        case 1.0:
            return named
        case 2.0:
            return named * named
        case 3.0:
            return named * named * named
        case 4.0:
            square = site.bind(named * named)
            return square * square
        case -1.0:
            return site.literal(1) / named
        case _:
            return None


def _negated(site: Site, value: Expression) -> Expression:
    if site.is_float:
        return site.literal(-0.0) - value
    return tirx.bitwise_not(value) + site.literal(1)  # TVM folds 0 − x to 0 where x is unsigned


def _absolute(site: Site, value: Expression) -> Expression:
    if site.is_float:
        return tirx.abs(value)
    named = site.bind(value)
    return tirx.Select(named < site.literal(0), site.literal(0) - named, named) if site.dtype in _SIGNED else named


def _sign(site: Site, value: Expression) -> Expression:
    named, zero = site.bind(value), site.literal(0)
    if not site.is_float and site.dtype not in _SIGNED:
        return tirx.Select(tirx.NE(named, zero), site.literal(1), zero)
    return tirx.Select(named > zero, site.literal(1), tirx.Select(named < zero, site.literal(-1), named))


def _elementary(name: str, fallback: str | None = None) -> Emit:
    def emit(site: Site, value: Expression) -> Expression:
        if site.computed == "float32":
            return F32_FUNCTIONS[name](value, site.lanes, site.bind)
        return site.external(fallback or name, value)

    return emit


def _sigmoid(site: Site, value: Expression) -> Expression:
    if site.computed == "float32":
        return F32_FUNCTIONS["sigmoid"](value, site.lanes, site.bind)
    named = site.bind(value)
    one, zero = site.literal(1), site.literal(0)
    small = site.bind(site.external("exp", zero - tirx.abs(named)))
    return tirx.Select(named < zero, small, one) / (one + small)


def _external(name: str) -> Emit:
    return lambda site, *arguments: site.external(name, *arguments)


def _rounding(function: Callable[[Any], Any]) -> Emit:
    return lambda site, value: function(value) if site.is_float else value


def _comparison(operator: Callable[[Any, Any], Any]) -> Emit:
    def emit(site: Site, left: Expression, right: Expression) -> Expression:
        if site.dtype is DataType.BOOL:
            left, right = (tirx.Cast(typed("int8", site.lanes), value) for value in (left, right))
        return operator(left, right)

    return emit


def _shift(function: Callable[[Any, Any], Any]) -> Emit:
    """Shifts by less than nothing or by the whole width leave nothing (a negative number shifted right by less: its sign)."""

    def emit(site: Site, left: Expression, right: Expression) -> Expression:
        zero, signed = site.literal(0), site.dtype in _SIGNED
        amount, value = site.bind(right), site.bind(left)
        in_range = amount < site.literal(site.dtype.itemsize * 8)
        negative = amount < zero if signed else None
        if negative is not None:
            in_range = tirx.And(in_range, tirx.Not(negative))
        shifted = function(value, tirx.Select(in_range, amount, zero))
        left_over = zero
        if negative is not None and function is tirx.shift_right:
            left_over = tirx.Select(tirx.And(negative, value < zero), site.literal(-1), zero)
        return tirx.Select(in_range, shifted, left_over)

    return emit


def _add(site: Site, left: Expression, right: Expression) -> Expression:
    return tirx.Or(left, right) if site.dtype is DataType.BOOL else left + right


def _multiply(site: Site, left: Expression, right: Expression) -> Expression:
    return tirx.And(left, right) if site.dtype is DataType.BOOL else left * right


_TABLE: dict[str, Emit] = {
    "add": _add,
    "sub": lambda site, left, right: left - right,
    "mul": _multiply,
    "div": _quotient,
    "max": _maximum,
    "min": _minimum,
    "pow": _power,
    "fmod": _truncated,
    "mod": _floored,
    "atan2": _external("atan2"),
    "neg": lambda site, value: _negated(site, value),
    "abs": _absolute,
    "sign": _sign,
    "relu": _relu,
    "exp": _elementary("exp"),
    "log": _elementary("log"),
    "sqrt": lambda site, value: tirx.sqrt(value),
    "rsqrt": lambda site, value: site.literal(1) / tirx.sqrt(value),
    "reciprocal": lambda site, value: _quotient(site, site.literal(1), value),
    "tanh": _elementary("tanh"),
    "sigmoid": _sigmoid,
    "erf": _elementary("erf"),
    "sin": _external("sin"),
    "cos": _external("cos"),
    "tan": _external("tan"),
    "asin": _external("asin"),
    "acos": _external("acos"),
    "atan": _external("atan"),
    "sinh": _external("sinh"),
    "cosh": _external("cosh"),
    "asinh": _external("asinh"),
    "acosh": _external("acosh"),
    "atanh": _external("atanh"),
    "floor": _rounding(tirx.floor),
    "ceil": _rounding(tirx.ceil),
    "round": _rounding(tirx.nearbyint),
    "trunc": _rounding(tirx.trunc),
    "isnan": lambda site, value: is_nan(site.bind(value)),
    "isinf": lambda site, value: tirx.EQ(tirx.abs(value), site.literal(float("inf"))),
    "not": lambda site, value: tirx.Not(value),
    "eq": _comparison(tirx.EQ),
    "ne": _comparison(differs),
    "lt": _comparison(tirx.LT),
    "le": _comparison(tirx.LE),
    "gt": _comparison(tirx.GT),
    "ge": _comparison(tirx.GE),
    "and": lambda site, left, right: tirx.And(left, right),
    "or": lambda site, left, right: tirx.Or(left, right),
    "xor": lambda site, left, right: _differ(left, right),
    "bitand": lambda site, left, right: tirx.bitwise_and(left, right),
    "bitor": lambda site, left, right: tirx.bitwise_or(left, right),
    "bitxor": lambda site, left, right: tirx.bitwise_xor(left, right),
    "bitnot": lambda site, value: tirx.bitwise_not(value),
    "shl": _shift(tirx.shift_left),
    "shr": _shift(tirx.shift_right),
    "where": lambda site, condition, left, right: tirx.Select(condition, left, right),
}
_TRUTH = frozenset({"isnan", "isinf", "not", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "where"})
