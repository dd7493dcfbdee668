"""Order and NaN of floats in a form that TVM's simplifier, which takes floats for real numbers, does not change."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from codegen.lower import tir
from codegen.lower.tir import Expression
from tensoropt.ir.expression import Reducer


def is_nan(value: Expression) -> Expression:
    """Whether a float is NaN, by its bits: TVM's simplifier takes ``x = x`` for true."""
    form = _Form(value)
    return tirx.bitwise_and(form.bits(value), form.magnitude) > form.infinity


def key_of(value: Expression, reducer: Reducer) -> Expression:
    """An integer for a float, in the order of the floats; NaN is past the end that the reducer looks for."""
    form = _Form(value)
    bits = form.bits(value)
    ordered = tirx.bitwise_xor(bits, tirx.bitwise_and(tirx.shift_right(bits, form.sign), form.magnitude))
    past = form.magnitude if reducer is Reducer.MAX else tirx.min_value(form.kind)
    return tirx.Select(is_nan(value), past, ordered)


def value_of(key: Expression) -> Expression:
    """The float that has a key."""
    kind = str(key.ty.dtype)
    width = int(kind.removeprefix("int"))
    magnitude = tirx.const((1 << (width - 1)) - 1, kind)
    bits = tirx.bitwise_xor(key, tirx.bitwise_and(tirx.shift_right(key, tirx.const(width - 1, kind)), magnitude))
    return tir.reinterpret(f"float{width}", bits)


class _Form:
    """A float type's bits as integers of the same width."""

    def __init__(self, value: Expression) -> None:
        width = int(str(value.ty.dtype).removeprefix("float"))
        self.kind = f"int{width}"
        self.sign = tirx.const(width - 1, self.kind)
        self.magnitude = tirx.const((1 << (width - 1)) - 1, self.kind)
        self.infinity = tirx.const(0x7F800000 if width == 32 else 0x7FF0000000000000, self.kind)

    def bits(self, value: Expression) -> Expression:
        return tir.reinterpret(self.kind, value)


def _holds(
    comparison: Callable[[Expression, Expression], Expression],
) -> Callable[[Expression, Expression], Expression]:
    """A comparison that is false for NaN, and stays so when TVM's simplifier takes ``not a < b`` for ``b <= a``."""

    def emit(left: Expression, right: Expression) -> Expression:
        ordered = tirx.And(tirx.Not(is_nan(left)), tirx.Not(is_nan(right)))
        return tirx.And(ordered, comparison(left, right))

    return emit


ORDERED: dict[str, Callable[..., Expression]] = {
    "max": lambda left, right: tirx.Select(is_nan(left), left, tirx.Select(left > right, left, right)),
    "min": lambda left, right: tirx.Select(is_nan(left), left, tirx.Select(left < right, left, right)),
    "isnan": is_nan,
    "isinf": lambda value: tirx.And(
        tirx.Not(is_nan(value)), tirx.EQ(tirx.abs(value), tir.number(float("inf"), str(value.ty.dtype)))
    ),
    "eq": _holds(tirx.EQ),
    "ne": lambda left, right: tirx.Not(_holds(tirx.EQ)(left, right)),
    "lt": _holds(tirx.LT),
    "le": _holds(tirx.LE),
    "gt": _holds(tirx.GT),
    "ge": _holds(tirx.GE),
}
"""Operations on floats that TVM's simplifier, which knows no NaN, would change in their usual form."""
