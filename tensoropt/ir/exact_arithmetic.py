"""Arithmetic in the domains of exact evaluation, on arrays. See ``exact_domains``."""

from __future__ import annotations

from fractions import Fraction
from hashlib import blake2b
from math import isinf, prod
from typing import Any

import numpy as np

from tensoropt.ir.exact_domains import (
    PRIME,
    ROUNDING,
    SAFE_PRIME,
    SUBGROUP,
    UNKNOWN,
    Domain,
    DomainRefusal,
    Value,
)
from tensoropt.ir.expression import Cast, Constant, Reducer, reducer_identity
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType

_GENERATOR = 4  # a square, so of order q


def constant_value(constant: Constant, domain: Domain) -> Value:
    """A literal in a domain. A float stands for the rational number that it is."""
    number = constant.value
    if domain is Domain.INTEGER:
        if constant.dtype is DataType.BOOL:
            return (np.asarray(bool(number)),)
        if isinf(number):
            return (np.asarray(number, dtype=object),)
        exact = Fraction(number)
        whole = exact.denominator == 1 and abs(exact.numerator) < 2**31
        return (np.asarray(exact.numerator) if whole else np.asarray(exact, dtype=object),)
    exact = Fraction(number)
    moduli = (PRIME,) if domain is Domain.PRIME else (SAFE_PRIME, SUBGROUP)
    return tuple(np.asarray(exact.numerator * pow(exact.denominator, -1, modulus) % modulus) for modulus in moduli)


def number_value(numbers: Any, domain: Domain) -> Value:
    """Integers (or truth values) that are known without data, in a domain."""
    if domain is Domain.INTEGER:
        return (numbers if numbers.dtype == np.bool_ else numbers.astype(np.int64),)
    wide = numbers.astype(np.int64)
    return (wide % PRIME,) if domain is Domain.PRIME else (wide % SAFE_PRIME, wide % SUBGROUP)


def apply_operation(operation: str, operands: list[Value], domain: Domain) -> Value:
    """A scalar operation in a domain. ``where`` takes its condition as plain truth values."""
    if operation == "where":
        condition, *values = operands
        return tuple(
            None if yes is None or no is None else np.where(condition[0], yes, no)
            for yes, no in zip(*values, strict=True)
        )
    match domain:
        case Domain.PRIME if operation in UNKNOWN:
            return (_unknown(operation, [operand[0] for operand in operands], PRIME),)
        case Domain.PRIME:
            return (_modular(operation, [operand[0] for operand in operands], PRIME),)
        case Domain.INTEGER:
            return (np.asarray(_ordered(operation, [np.asarray(operand[0]) for operand in operands])),)
        case Domain.PAIRED if operation == "exp":
            if operands[0][1] is None:
                raise DomainRefusal("exp of a value that already holds an exp")
            return _power(np.asarray(_GENERATOR), operands[0][1], SAFE_PRIME), None
        case Domain.PAIRED if operation in ("max", "min"):
            return _selected(operation, operands[0], operands[1])
        case Domain.PAIRED if operation == "relu":
            return _selected("max", operands[0], (np.asarray(0), np.asarray(0)))
        case Domain.PAIRED if operation in UNKNOWN | ROUNDING:
            first = [operand[0] for operand in operands]
            return _unknown(operation, first, SAFE_PRIME), _unknown(f"{operation}/2", first, SUBGROUP)
        case Domain.PAIRED:
            second = [operand[1] for operand in operands]
            known = all(part is not None for part in second)
            result = _modular(operation, [operand[0] for operand in operands], SAFE_PRIME)
            return result, _modular(operation, second, SUBGROUP) if known else None


def mixed(positions: Any, salt: str) -> Any:
    """SplitMix64 of integers, salted: pseudo-random numbers of 64 bits."""
    start = np.uint64(int.from_bytes(blake2b(salt.encode(), digest_size=8).digest(), "little"))
    with np.errstate(over="ignore"):
        state = (np.asarray(positions).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + start
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def residues(draws: Any, modulus: int) -> Any:
    """Numbers of 64 random bits as residues, none more than three times as likely as another."""
    found = (draws >> np.uint64(33)).astype(np.int64)
    return found if modulus > 2**31 else np.where(found >= modulus, found - modulus, found)


def _unknown(operation: str, operands: list[Any], modulus: int) -> Any:
    """Some function of the operands that is fixed by its name."""
    state = np.asarray(0)
    for place, operand in enumerate(operands):
        state = (mixed(operand, f"{operation}/{place}") ^ state.astype(np.uint64)).astype(np.uint64)
    return residues(mixed(state, operation), modulus)


def _selected(operation: str, left: Value, right: Value) -> Value:
    """One of two values by a random order of the numbers."""
    first, second = mixed(left[0], "order"), mixed(right[0], "order")
    take_left = first >= second if operation == "max" else first <= second
    return tuple(
        None if one is None or other is None else np.where(take_left, one, other)
        for one, other in zip(left, right, strict=True)
    )


def _modular(operation: str, operands: list[Any], modulus: int) -> Any:
    match operation, operands:
        case "add", [left, right]:
            return (left + right) % modulus
        case "sub", [left, right]:
            return (left - right) % modulus
        case "mul", [left, right]:
            return _reduced(left * right) if modulus == PRIME else left * right % modulus
        case "neg", [only]:
            return -only % modulus
        case "div", [left, right]:
            return left * _inverse(right, modulus) % modulus
        case "reciprocal", [only]:
            return _inverse(only, modulus)
        case _:
            raise DomainRefusal(f"no {operation} modulo a prime")


def _reduced(products: Any) -> Any:
    """Numbers below 2⁶² modulo 2³¹ − 1, which needs no division."""
    folded = (products & PRIME) + (products >> 31)
    folded = (folded & PRIME) + (folded >> 31)
    return np.where(folded == PRIME, 0, folded)


def _inverse(values: Any, modulus: int) -> Any:
    if np.any(values == 0):
        raise DomainRefusal("a division by zero came up; another seed may avoid it")
    return _power(values, np.asarray(modulus - 2), modulus)


def _power(base: Any, exponent: Any, modulus: int) -> Any:
    result, factor, left = np.asarray(1), base, exponent
    while np.any(left > 0):
        result = np.where(left % 2 == 1, result * factor % modulus, result)
        factor, left = factor * factor % modulus, left // 2
    return result


def _exact_numbers(values: Any) -> Any:
    """The same integers as Python numbers, which do not overflow."""
    return values if values.dtype == object else values.astype(object)


def _largest(values: Any) -> float:
    if values.dtype == object:
        return float("inf")
    return float(np.abs(values.astype(np.float64)).max(initial=0.0))


def _ordered(operation: str, operands: list[Any]) -> Any:
    """Integers as i64 while no result can overflow, as Python integers and fractions after that."""
    safe = 2.0**62
    match operation, operands:
        case (("add" | "sub"), [left, right]) if _largest(left) + _largest(right) >= safe:
            operands = [_exact_numbers(left), _exact_numbers(right)]
        case "mul", [left, right] if _largest(left) * _largest(right) >= safe or _mixed_kinds(left, right):
            operands = [_exact_numbers(left), _exact_numbers(right)]
        case ("div", [left, right]):
            if np.any(right == 0):
                raise DomainRefusal("a division by zero came up; another seed may avoid it")
            return np.frompyfunc(lambda one, other: Fraction(one) / other, 2, 1)(left, right)
        case "reciprocal", [only]:
            return _ordered("div", [np.asarray(1), only])
        case "sign", [only]:
            return (only > 0).astype(np.int64) - (only < 0).astype(np.int64)
        case "relu", [only]:
            return np.where(only > 0, only, 0)
        case (("floor" | "ceil" | "trunc"), [only]):
            if only.dtype != object:
                return only
            rounded = {"floor": lambda x: x.__floor__(), "ceil": lambda x: x.__ceil__(), "trunc": lambda x: int(x)}
            return np.frompyfunc(rounded[operation], 1, 1)(only)
    plain = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "abs": np.abs}
    plain |= {"max": np.maximum, "min": np.minimum}
    if operation in plain:
        with np.errstate(invalid="ignore"):
            return _determinate(np.asarray(plain[operation](*operands)))
    return np.asarray(OPERATIONS[operation].evaluate(*operands))


def _determinate(values: Any) -> Any:
    """The values, if none of them is ∞ − ∞ or 0·∞."""
    if values.dtype.kind in "Of" and np.any(values != values):
        raise DomainRefusal("infinity minus infinity, or 0 times infinity, which have no exact meaning")
    return values


def _mixed_kinds(left: Any, right: Any) -> bool:
    return bool((left.dtype == object) != (right.dtype == object))


def convert_value(node: Cast, operand: Value, domain: Domain) -> Value:
    """A conversion that rounds nothing: between floats, from integers, from truth values."""
    if domain is not Domain.INTEGER or node.argument.dtype is not DataType.BOOL:
        if node.dtype is DataType.BOOL and domain is Domain.INTEGER:
            return (operand[0] != 0,)
        return operand
    return (operand[0] if node.dtype is DataType.BOOL else operand[0].astype(np.int64),)


def fold(reducer: Reducer, dtype: DataType, value: Value, axes: int, domain: Domain) -> Value:
    """A reduction over so many trailing axes."""
    flat = tuple(
        None if part is None else part.reshape(*part.shape[: part.ndim - axes], prod(part.shape[part.ndim - axes :]))
        for part in value
    )
    if domain is Domain.PAIRED and reducer in (Reducer.MAX, Reducer.MIN):
        return _select_last(reducer, flat)
    moduli: tuple[int | None, ...] = {
        Domain.PRIME: (PRIME,),
        Domain.INTEGER: (None,),
        Domain.PAIRED: (SAFE_PRIME, SUBGROUP),
    }[domain]
    return tuple(
        # sums of objects give bare numbers
        None if part is None else np.asarray(_fold_last(reducer, dtype, part, modulus))
        for part, modulus in zip(flat, moduli, strict=True)
    )


def _select_last(reducer: Reducer, flat: Value) -> Value:
    order = mixed(flat[0], "order")
    if order.shape[-1] == 0:
        raise DomainRefusal("a maximum of nothing is no number")
    place = (np.argmax if reducer is Reducer.MAX else np.argmin)(order, axis=-1)[..., None]
    return tuple(None if part is None else np.take_along_axis(part, place, -1)[..., 0] for part in flat)


def _fold_last(reducer: Reducer, dtype: DataType, flat: Any, modulus: int | None) -> Any:
    count = flat.shape[-1]
    if count == 0:
        identity = reducer_identity(reducer, dtype)
        kind = object if isinstance(identity, float) else np.int64
        return np.full(flat.shape[:-1], identity, dtype=kind)
    match reducer:
        case Reducer.SUM if modulus is None and _largest(flat) * count >= 2.0**62:
            with np.errstate(invalid="ignore"):
                return _determinate(np.asarray(np.add.reduce(_exact_numbers(flat), axis=-1)))
        case Reducer.SUM:
            total = np.add.reduce(flat, axis=-1)
            return total if modulus is None else total % modulus
        case Reducer.MAX:
            return np.maximum.reduce(flat, axis=-1)
        case Reducer.MIN:
            return np.minimum.reduce(flat, axis=-1)
        case Reducer.PROD:
            result = flat[..., 0]
            for place in range(1, count):
                last = flat[..., place]
                result = result * last % modulus if modulus is not None else _ordered("mul", [result, last])
            return result
