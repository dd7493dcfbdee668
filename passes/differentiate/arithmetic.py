"""Scalar arithmetic with what is zero, one or decided by bounds left out, so that derivatives are written as a person would."""

from __future__ import annotations

from tensoropt.ir.expression import Apply, Cast, Constant, IndexValue, Scalar
from tensoropt.ir.types import DataType

_DECIDED = {
    "lt": lambda low, high, bound: True if high < bound else False if low >= bound else None,
    "le": lambda low, high, bound: True if high <= bound else False if low > bound else None,
    "gt": lambda low, high, bound: True if low > bound else False if high <= bound else None,
    "ge": lambda low, high, bound: True if low >= bound else False if high < bound else None,
    "eq": lambda low, high, bound: True if low == high == bound else False if bound < low or bound > high else None,
    "ne": lambda low, high, bound: False if low == high == bound else True if bound < low or bound > high else None,
}


def number(value: float, like: Scalar) -> Constant:
    """A literal of another scalar's type."""
    return Constant(value, like.dtype)


def is_number(node: Scalar, value: float) -> bool:
    """Whether the scalar is this literal."""
    return isinstance(node, Constant) and node.value == value


def add(left: Scalar, right: Scalar) -> Scalar:
    """``left + right``."""
    if is_number(left, 0):
        return right
    return left if is_number(right, 0) else Apply("add", left, right)


def mul(left: Scalar, right: Scalar) -> Scalar:
    """``left · right``; zero times anything is zero, since a derivative that is zero has no part in the sum."""
    if is_number(left, 0) or is_number(right, 0):
        return number(0, left)
    if is_number(left, 1):
        return right
    if is_number(right, -1):
        return neg(left)
    return left if is_number(right, 1) else Apply("mul", left, right)


def div(left: Scalar, right: Scalar) -> Scalar:
    """``left / right``."""
    return left if is_number(left, 0) or is_number(right, 1) else Apply("div", left, right)


def neg(value: Scalar) -> Scalar:
    """``−value``."""
    if isinstance(value, Constant):
        return number(-value.value, value)
    return value.arguments[0] if isinstance(value, Apply) and value.operation == "neg" else Apply("neg", value)


def square(value: Scalar) -> Scalar:
    """``value²``."""
    return Apply("mul", value, value)


def cast(value: Scalar, dtype: DataType) -> Scalar:
    """The value in another float type."""
    if value.dtype is dtype:
        return value
    return Constant(value.value, dtype) if isinstance(value, Constant) else Cast(value, dtype)


def where(condition: Scalar, then: Scalar, otherwise: Scalar) -> Scalar:
    """``then`` where the condition holds, else ``otherwise``."""
    decided = truth(condition)
    if decided is not None:
        return then if decided else otherwise
    return then if then is otherwise else Apply("where", condition, then, otherwise)


def both(left: Scalar, right: Scalar) -> Scalar:
    """Whether both hold."""
    if truth(left) is not None:
        return right if truth(left) else left
    if truth(right) is not None:
        return left if truth(right) else right
    return Apply("and", left, right)


def truth(condition: Scalar) -> bool | None:
    """What a condition on indices is for all of their values; None where it depends."""
    match condition:
        case Constant():
            return bool(condition.value)
        case Apply(operation="not"):
            inner = truth(condition.arguments[0])
            return None if inner is None else not inner
        case Apply(operation="and"):
            found = [truth(argument) for argument in condition.arguments]
            return False if False in found else None if None in found else True
        case Apply(operation="or"):
            found = [truth(argument) for argument in condition.arguments]
            return True if True in found else None if None in found else False
        case Apply(operation=operation, arguments=(IndexValue() as left, Constant() as right)) if operation in _DECIDED:
            return _DECIDED[operation](left.index.low, left.index.high, right.value)
        case _:
            return None


def decided(node: Scalar) -> Scalar:
    """The scalar without alternatives that the bounds of its indices rule out."""
    match node:
        case Apply(operation="where"):
            condition, then, otherwise = node.arguments
            found = truth(condition)
            if found is not None:
                return decided(then if found else otherwise)
            return where(decided(condition), decided(then), decided(otherwise))
        case Apply(operation="and"):
            return both(*(decided(argument) for argument in node.arguments))
        case Apply():
            return Apply(node.operation, *(decided(argument) for argument in node.arguments))
        case Cast():
            return Cast(decided(node.argument), node.dtype)
        case _:
            return node
