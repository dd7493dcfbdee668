"""Short spellings of scalar operations for lifting functions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from tensoropt.ir.expression import Apply, Cast, Constant, IndexValue, Number, Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType


def literal(value: Number, like: Scalar | DataType) -> Constant:
    """A constant of the given type, or of the type of another scalar."""
    return Constant(value, like if isinstance(like, DataType) else like.dtype)


def apply(operation: str, *arguments: Scalar | Number) -> Scalar:
    """A scalar operation; plain numbers take the type of the last scalar operand."""
    typed = next(argument for argument in reversed(arguments) if not isinstance(argument, (bool, int, float)))
    return Apply(
        operation, *(literal(found, typed) if isinstance(found, (bool, int, float)) else found for found in arguments)
    )


def cast(value: Scalar, dtype: DataType) -> Scalar:
    """The value in another type; a literal stays one."""
    if value.dtype is dtype:
        return value
    if isinstance(value, Constant) and (dtype.is_float or not value.dtype.is_float):
        return Constant(value.value, dtype)
    return Cast(value, dtype)


def constant_power(base: Scalar, exponent: float) -> Scalar:
    """``base ^ exponent``, by products and square roots where four times the exponent is a small integer.

    These are several times faster than a power. They give NaN for −∞ where the exponent is a fraction, which ``pow`` does not.
    """
    quarters = exponent * 4
    if exponent == -0.5:
        return apply("rsqrt", base)
    if exponent == -1:
        return apply("reciprocal", base)
    if quarters != int(quarters) or not 1 <= quarters <= 16:
        return apply("pow", base, exponent)
    factors: list[Scalar] = []
    whole, rest = divmod(int(quarters), 4)
    if rest:
        root = apply("sqrt", base)
        factors += [root] if rest >= 2 else []
        factors += [apply("sqrt", root)] if rest != 2 else []
    square = apply("mul", base, base)
    factors += [square] * (whole // 2) + [base] * (whole % 2)
    return reduce(lambda left, right: apply("mul", left, right), factors)


def where(condition: Scalar, then: Scalar | Number, otherwise: Scalar | Number) -> Scalar:
    """``then`` where the condition holds, else ``otherwise``."""
    return apply("where", condition, then, otherwise)


def index_compare(operation: str, index: Index | Iterator, bound: int) -> Scalar:
    """A comparison of an index with an integer."""
    return Apply(operation, IndexValue(Index.of(index)), Constant(bound, DataType.INT64))


def index_within(index: Index | Iterator, low: int, high: int) -> Scalar:
    """Whether ``low ≤ index < high``; true as a literal where the bounds prove it."""
    index = Index.of(index)
    tests = []
    if index.low < low:
        tests.append(index_compare("ge", index, low))
    if index.high >= high:
        tests.append(index_compare("lt", index, high))
    return conjunction(tests)


def conjunction(tests: Sequence[Scalar]) -> Scalar:
    """Whether all tests hold."""
    return reduce(lambda left, right: Apply("and", left, right), tests) if tests else Constant(True, DataType.BOOL)


def select(pieces: Sequence[tuple[int, Scalar]], index: Index | Iterator) -> Scalar:
    """The piece in whose range the index lies. Each piece comes with the exclusive end of its range, in ascending order."""
    result = pieces[-1][1]
    for end, value in reversed(pieces[:-1]):
        result = where(index_compare("lt", index, end), value, result)
    return result
