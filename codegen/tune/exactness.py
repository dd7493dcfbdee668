"""Whether a kernel's arithmetic is exact on small integers: then every order of its sums gives the same bits.

A value is followed as a bound: at most ``magnitude``, a whole multiple of 2^-``fraction``. Sums and products of such values are
exact as long as all multiples up to the bound are numbers of the type, whatever is added first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tensoropt.ir.expression import (
    Access,
    Apply,
    Cast,
    Constant,
    IndexValue,
    Reducer,
    Scalar,
    Scope,
    Tensor,
    scopes,
)
from tensoropt.ir.operand_rounding import rounds_operands
from tensoropt.ir.program import Compute, Statement
from tensoropt.ir.structure import product_factors
from tensoropt.ir.types import DataType

RANGES = (3, 2, 1)
"""Largest absolute values of integer inputs, in the order in which they are tried."""

_DIGITS = {DataType.FLOAT16: 11, DataType.BFLOAT16: 8, DataType.FLOAT32: 24, DataType.FLOAT64: 53}
"""Binary digits of a floating-point number."""
_KEEPING = frozenset({"neg", "abs", "relu"})
_ROUNDING = frozenset({"floor", "ceil", "trunc", "round", "sign"})


class _Inexact(Exception):
    """Some value may need rounding."""


@dataclass(frozen=True, slots=True)
class Bound:
    """See the module. ``unbounded`` marks a fill of ±∞, which only comparisons, max and min may meet."""

    magnitude: float
    fraction: int = 0
    unbounded: bool = False


def exact_range(kernels: Sequence[Statement], operand_digits: int | None = None) -> int | None:
    """The largest absolute value of integer inputs on which all kernels are exact; None where they are on none.

    ``operand_digits``: to how many digits sums of products of f32 may round their operands.
    """
    for largest in RANGES:
        try:
            known: dict[Tensor, Bound] = {}
            for kernel in kernels:
                if not isinstance(kernel, Compute):
                    return None
                known[kernel.output] = _of_expression(kernel.expression, largest, known, operand_digits)
        except _Inexact:
            continue
        return largest
    return None


def _of_expression(expression: Scope, largest: int, known: Mapping[Tensor, Bound], operand_digits: int | None) -> Bound:
    results: dict[Scope, Bound] = {}
    for scope in scopes(expression):
        if operand_digits is not None and rounds_operands(scope):
            factors = [_of_scalar(factor, largest, known, results) for factor in product_factors(scope.body)]
            for number in range(len(factors)):  # an operand has all factors but one at the most
                others = factors[:number] + factors[number + 1 :]
                fraction = sum(factor.fraction for factor in others)
                _hold(Bound(prod(factor.magnitude for factor in others), fraction, _any(others)), operand_digits)
        body = _of_scalar(scope.body, largest, known, results)
        results[scope] = body if scope.reducer is None else _folded(scope, body)
    return results[expression]


def _folded(scope: Scope, body: Bound) -> Bound:
    count = prod(iterator.extent for iterator in scope.reduction)
    match scope.reducer:
        case Reducer.MAX | Reducer.MIN:
            return body if count else Bound(0.0, unbounded=True)
        case Reducer.SUM:
            return _held(scope.dtype, Bound(body.magnitude * count, body.fraction, body.unbounded))
        case _:
            powers = count * math.log2(max(body.magnitude, 1.0))
            magnitude = 2.0**powers if powers < 64 else math.inf
            return _held(scope.dtype, Bound(magnitude, body.fraction * count, body.unbounded))


def _of_scalar(node: Scalar, largest: int, known: Mapping[Tensor, Bound], results: Mapping[Scope, Bound]) -> Bound:
    match node:
        case Constant():
            return _of_constant(node)
        case IndexValue():
            return _held(node.dtype, Bound(float(max(abs(node.index.low), abs(node.index.high)))))
        case Access():
            source = node.source
            read = results[source] if isinstance(source, Scope) else known.get(source, Bound(float(largest)))
            return read if node.stays_inside else _either(read, _of_constant(node.outside))
        case Cast():
            inner = _of_scalar(node.argument, largest, known, results)
            if node.argument.dtype.is_float and node.dtype.is_integer:
                signed = not node.dtype.value.startswith("u")
                if inner.unbounded or not signed or inner.magnitude >= 2.0 ** (8 * node.dtype.itemsize - 1):
                    raise _Inexact  # what does not fit an integer becomes anything
            return _held(node.dtype, inner)
        case Apply():
            return _applied(node, [_of_scalar(argument, largest, known, results) for argument in node.arguments])


def _of_constant(constant: Constant) -> Bound:
    value = float(constant.value)
    if math.isinf(value):
        return Bound(0.0, unbounded=True)
    if math.isnan(value):
        raise _Inexact
    _, denominator = value.as_integer_ratio()
    return Bound(abs(value), denominator.bit_length() - 1)


def _applied(node: Apply, operands: list[Bound]) -> Bound:
    match node.operation:
        case "add" | "sub":
            fraction = max(operand.fraction for operand in operands)
            return _held(node.dtype, Bound(sum(operand.magnitude for operand in operands), fraction, _any(operands)))
        case "mul":
            fraction = sum(operand.fraction for operand in operands)
            return _held(node.dtype, Bound(prod(operand.magnitude for operand in operands), fraction, _any(operands)))
        case "max" | "min":
            return _either(operands[0], operands[1])
        case "where":
            return _either(operands[1], operands[2])
        case operation if operation in _KEEPING:
            return operands[0]
        case _ if not node.dtype.is_float:  # no rounding, and the same in every order
            return Bound(1.0 if node.dtype is DataType.BOOL else 2.0 ** (8 * node.dtype.itemsize))
        case operation if operation in _ROUNDING and not operands[0].unbounded:
            return Bound(math.ceil(operands[0].magnitude))
        case _:
            raise _Inexact


def _either(first: Bound, second: Bound) -> Bound:
    return Bound(
        max(first.magnitude, second.magnitude),
        max(first.fraction, second.fraction),
        first.unbounded or second.unbounded,
    )


def _any(operands: list[Bound]) -> bool:
    return any(operand.unbounded for operand in operands)


def _held(dtype: DataType, bound: Bound) -> Bound:
    """The bound, where numbers of the type hold all multiples up to it. Integers wrap, which is the same in every order."""
    if not dtype.is_float:
        return Bound(min(bound.magnitude, 2.0 ** (8 * dtype.itemsize)))
    return _hold(bound, _DIGITS[dtype])


def _hold(bound: Bound, digits: int) -> Bound:
    """The bound, where numbers of so many digits hold all multiples up to it."""
    if bound.unbounded or not bound.magnitude * 2.0 ** min(bound.fraction, 1000) <= 2.0**digits:
        raise _Inexact
    return bound
