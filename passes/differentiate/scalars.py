"""Derivatives of scalar operations.

``parts`` walks a body from its root to its accesses and hands each the derivative of the loss by its value, given the derivative by
the body's. At points without a derivative the choice is PyTorch's: relu and absolute value have 0 at 0, the larger of two equal
operands shares equally, and what is rounded has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from passes.differentiate.arithmetic import add, both, cast, div, is_number, mul, neg, number, square, where
from tensoropt.ir.expression import Access, Apply, Cast, Constant, Scalar
from tensoropt.ir.scalar import OPERATIONS

Seeds = tuple[Scalar | None, ...]
"""The derivative by each operand, None for those without."""

Derivative = Callable[[Apply, Scalar, Scalar, float], Seeds]
"""Of an application, what stands for its value, the derivative by that, and the share of an operand at a tie with a literal."""

_FLAT = frozenset({"floor", "ceil", "round", "trunc", "sign"})
"""Piecewise constant: the derivative is zero where there is one."""

FROM_RESULT = frozenset({"relu", "exp", "sqrt", "rsqrt", "reciprocal", "tanh", "sigmoid"})
"""Operations whose derivative is a function of their result, so that the operand need not be kept."""


def parts(body: Scalar, result: Scalar, seed: Scalar, tie: float = 0.5) -> dict[Access, Scalar]:
    """For each access of the body the derivative of the loss by what it reads, where ``seed`` is that by the body.

    ``result`` is the body's value, an access to it where it is stored or the body itself; ``tie`` the share of an operand that is
    compared with an equal literal (``max(x, 0)`` at 0).
    """
    found: dict[Access, Scalar] = {}
    _walk(body, result, seed, tie, found)
    return {access: derivative for access, derivative in found.items() if not is_number(derivative, 0)}


def _walk(node: Scalar, result: Scalar, seed: Scalar, tie: float, found: dict[Access, Scalar]) -> None:
    if not node.dtype.is_float or is_number(seed, 0):
        return
    match node:
        case Access():
            found[node] = add(found[node], seed) if node in found else seed
        case Cast():
            inner = node.argument
            if inner.dtype.is_float:
                _walk(inner, inner, cast(seed, inner.dtype), tie, found)
        case Apply() if node.operation not in _FLAT:
            for argument, part in zip(
                node.arguments, _DERIVATIVES[node.operation](node, result, seed, tie), strict=True
            ):
                if part is not None:
                    _walk(argument, argument, part, tie, found)
        case _:
            return


def _unary(function: Callable[[Scalar, Scalar, Scalar], Scalar]) -> Derivative:
    """From the operand, the result and the seed."""
    return lambda node, result, seed, tie: (function(node.arguments[0], result, seed),)


def _binary(function: Callable[[Scalar, Scalar, Scalar, Scalar], Seeds]) -> Derivative:
    """From both operands, the result and the seed."""
    return lambda node, result, seed, tie: function(node.arguments[0], node.arguments[1], result, seed)


def _larger(operation: str) -> Derivative:
    """Of max ("gt") and min ("lt")."""

    def derivative(node: Apply, result: Scalar, seed: Scalar, tie: float) -> Seeds:
        left, right = node.arguments
        zero = number(0, seed)
        shares = [0.5, 0.5]
        for place, other in enumerate((right, left)):
            if isinstance(other, Constant):
                shares[place] = tie
        equal = Apply("eq", left, right)
        return (
            where(Apply(operation, left, right), seed, where(equal, mul(seed, number(shares[0], seed)), zero)),
            where(Apply(operation, right, left), seed, where(equal, mul(seed, number(shares[1], seed)), zero)),
        )

    return derivative


def _power(base: Scalar, exponent: Scalar, result: Scalar, seed: Scalar) -> Seeds:
    zero = number(0, seed)
    less = Apply("pow", base, Apply("sub", exponent, number(1, exponent)))
    if isinstance(exponent, Constant):
        less = Apply("pow", base, number(exponent.value - 1, exponent))
        return (zero if exponent.value == 0 else mul(seed, mul(exponent, less))), None
    by_base = where(Apply("eq", exponent, zero), zero, mul(seed, mul(exponent, less)))
    nothing = both(Apply("eq", base, zero), Apply("ge", exponent, zero))
    return by_base, where(nothing, zero, mul(seed, mul(result, Apply("log", base))))


def _remainder(rounding: str) -> Derivative:
    def derivative(node: Apply, result: Scalar, seed: Scalar, tie: float) -> Seeds:
        left, right = node.arguments
        return seed, neg(mul(seed, Apply(rounding, Apply("div", left, right))))

    return derivative


def _angle(left: Scalar, right: Scalar, result: Scalar, seed: Scalar) -> Seeds:
    length = add(square(left), square(right))
    return div(mul(seed, right), length), neg(div(mul(seed, left), length))


def _choice(node: Apply, result: Scalar, seed: Scalar, tie: float) -> Seeds:
    condition, zero = node.arguments[0], number(0, seed)
    return None, where(condition, seed, zero), where(condition, zero, seed)


def _one(value: Scalar) -> Constant:
    return number(1, value)


def _minus(left: Scalar, right: Scalar) -> Scalar:
    return Apply("sub", left, right)


_DERIVATIVES: dict[str, Derivative] = {
    "add": _binary(lambda left, right, result, seed: (seed, seed)),
    "sub": _binary(lambda left, right, result, seed: (seed, neg(seed))),
    "mul": _binary(lambda left, right, result, seed: (mul(seed, right), mul(seed, left))),
    "div": _binary(lambda left, right, result, seed: (div(seed, right), neg(mul(seed, div(result, right))))),
    "max": _larger("gt"),
    "min": _larger("lt"),
    "pow": _binary(_power),
    "fmod": _remainder("trunc"),
    "mod": _remainder("floor"),
    "atan2": _binary(_angle),
    "where": _choice,
    "neg": _unary(lambda value, result, seed: neg(seed)),
    "abs": _unary(lambda value, result, seed: mul(seed, Apply("sign", value))),
    "relu": _unary(lambda value, result, seed: where(Apply("gt", result, number(0, result)), seed, number(0, seed))),
    "exp": _unary(lambda value, result, seed: mul(seed, result)),
    "log": _unary(lambda value, result, seed: div(seed, value)),
    "sqrt": _unary(lambda value, result, seed: div(seed, mul(number(2, result), result))),
    "rsqrt": _unary(lambda value, result, seed: mul(mul(seed, number(-0.5, seed)), mul(result, square(result)))),
    "reciprocal": _unary(lambda value, result, seed: neg(mul(seed, square(result)))),
    "tanh": _unary(lambda value, result, seed: mul(seed, _minus(_one(result), square(result)))),
    "sigmoid": _unary(lambda value, result, seed: mul(seed, mul(result, _minus(_one(result), result)))),
    "erf": _unary(
        lambda value, result, seed: mul(
            mul(seed, number(2 / math.sqrt(math.pi), seed)), Apply("exp", neg(square(value)))
        )
    ),
    "sin": _unary(lambda value, result, seed: mul(seed, Apply("cos", value))),
    "cos": _unary(lambda value, result, seed: neg(mul(seed, Apply("sin", value)))),
    "tan": _unary(lambda value, result, seed: mul(seed, add(square(result), _one(result)))),
    "asin": _unary(lambda value, result, seed: mul(seed, Apply("rsqrt", _minus(_one(value), square(value))))),
    "acos": _unary(lambda value, result, seed: neg(mul(seed, Apply("rsqrt", _minus(_one(value), square(value)))))),
    "atan": _unary(lambda value, result, seed: div(seed, add(square(value), _one(value)))),
    "sinh": _unary(lambda value, result, seed: mul(seed, Apply("cosh", value))),
    "cosh": _unary(lambda value, result, seed: mul(seed, Apply("sinh", value))),
    "asinh": _unary(lambda value, result, seed: mul(seed, Apply("rsqrt", add(square(value), _one(value))))),
    "acosh": _unary(lambda value, result, seed: mul(seed, Apply("rsqrt", _minus(square(value), _one(value))))),
    "atanh": _unary(lambda value, result, seed: div(seed, _minus(_one(value), square(value)))),
}

WITHOUT = frozenset(OPERATIONS) - frozenset(_DERIVATIVES) - _FLAT
"""Operations of integers and truth values, which have no derivatives."""
