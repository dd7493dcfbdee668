"""Exact evaluation, without rounding, in one of three domains that the operators present decide.

* ``PRIME``: the field Z_p with p = 2³¹ − 1, for add, sub, mul, neg, division, sums and products. Two different polynomials of
  degree d agree at a random point with probability at most d/p (Schwartz, Zippel).
* ``INTEGER``: signed integers, and rationals as soon as a division or a fraction appears, where order matters (max, min, relu,
  comparison, where).
* ``PAIRED``: pairs in Z_p × Z_q with p = 2·q + 1 and exp(x) = g^x, for exp, sums and division; what exp gives has no second
  part, so exp of it is refused. Maxima and minima follow a pseudo-random total order of the values: what holds there follows from
  the laws of a semilattice alone, while what needs an order that goes with addition (``max(x, 0) + max(−x, 0) = |x|``) differs.

A mixture that fits none is refused. Values are tuples of arrays, one for each part; the second of PAIRED is None where it is
not defined. Rounding, wrapping of integers, 0·NaN and 0·∞ are outside the algebra.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from fractions import Fraction
from hashlib import blake2b
from math import isfinite, isinf, prod
from typing import Any

import numpy as np

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
    children,
    leaves,
    reducer_identity,
    scopes,
)
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import convert
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType

PRIME = 2**31 - 1
SAFE_PRIME = 2147483579  # p = 2·q + 1 with q prime, the largest below 2³¹
SUBGROUP = (SAFE_PRIME - 1) // 2
_ORDER = "order"
_GENERATOR = 4  # a square, so of order q

Value = tuple[Any, ...]


class Domain(Enum):
    """Where an exact evaluation takes place; the value is what a certificate records."""

    PRIME = "Z_p, p = 2^31 - 1"
    INTEGER = "integers and rationals"
    PAIRED = "Z_p x Z_q, p = 2q + 1"


class DomainRefusal(Exception):
    """The expressions have no exact meaning in any domain (or none in the one asked for); the text says why."""


_RING = frozenset({"add", "sub", "mul", "neg", "where"})
_FIELD = _RING | {"div", "reciprocal"}
_ORDERED = _FIELD | {"max", "min", "relu", "abs", "sign", "floor", "ceil", "trunc", "eq", "ne", "lt", "le", "gt", "ge"}
_ORDERED |= {"not", "and", "or", "xor"}
_OPERATORS = {Domain.PRIME: _FIELD, Domain.INTEGER: _ORDERED, Domain.PAIRED: _FIELD | {"exp", "max", "min"}}
_REDUCERS = {
    Domain.PRIME: frozenset({Reducer.SUM, Reducer.PROD}),
    Domain.INTEGER: frozenset(Reducer),
    Domain.PAIRED: frozenset({Reducer.SUM, Reducer.MAX, Reducer.MIN}),
}


def choose_domain(roots: Iterable[Scope]) -> Domain:
    """The first domain that gives all the scopes a meaning; DomainRefusal names what stands against each."""
    inner = {scope: None for root in roots for scope in scopes(root)}
    reasons = []
    for domain in Domain:
        reason = next((found for scope in inner if (found := _misfit(scope, domain)) is not None), None)
        if reason is None:
            return domain
        reasons.append(f"{domain.value}: {reason}")
    raise DomainRefusal("; ".join(reasons))


def _misfit(scope: Scope, domain: Domain) -> str | None:
    if scope.reducer is not None and scope.reducer not in _REDUCERS[domain]:
        return f"no {scope.reducer.value} over values"
    if domain is Domain.PAIRED and scope.reducer is not Reducer.SUM and 0 in (i.extent for i in scope.reduction):
        return "no extreme of nothing"
    return _scalar_misfit(scope.body, domain)


def is_static(node: Scalar) -> bool:
    """Whether the value depends on iterators only: an integer or truth value computed without data."""
    return not node.dtype.is_float and all(isinstance(leaf, Constant | IndexValue) for leaf in leaves(node))


def _scalar_misfit(node: Scalar, domain: Domain) -> str | None:
    if is_static(node):
        return None
    match node:
        case Apply() if node.operation not in _OPERATORS[domain]:
            return f"no {node.operation} of values"
        case Apply() if node.operation == "where" and domain is not Domain.INTEGER and not is_static(node.arguments[0]):
            return "no where that looks at values"
        case Apply() if node.operation in ("div", "reciprocal", "mod") and not node.dtype.is_float:
            return "integer division rounds"
        case Cast() if node.argument.dtype.is_float and not node.dtype.is_float:
            return "a conversion to integers rounds"
        case Access() | Constant() if node.dtype is DataType.BOOL and domain is not Domain.INTEGER:
            return "no truth values"
        case Access() if domain is not Domain.INTEGER and not isfinite(node.outside.value):
            return "no infinity"
        case Constant() if not isfinite(node.value) and not (domain is Domain.INTEGER and isinf(node.value)):
            return f"no {node.value}"
        case _:
            found = (_scalar_misfit(operand, domain) for operand in children(node))
            return next((reason for reason in found if reason is not None), None)


# Contents ------------------------------------------------------------------------------------------------------------


def contents(tensor: Tensor, positions: Any, domain: Domain, seed: int) -> Value:
    """Pseudo-random elements of a tensor at row-major positions: a function of name, position and seed, so no array is needed."""
    draws = _mixed(positions, f"{tensor.name}/{seed}/0")
    if domain is Domain.PRIME:
        return ((draws % np.uint64(PRIME)).astype(np.int64),)
    if domain is Domain.PAIRED:
        second = _mixed(positions, f"{tensor.name}/{seed}/1")
        return (draws % np.uint64(SAFE_PRIME)).astype(np.int64), (second % np.uint64(SUBGROUP)).astype(np.int64)
    if tensor.dtype is DataType.BOOL:
        return ((draws % np.uint64(2)).astype(np.bool_),)
    low = 0 if tensor.dtype.value.startswith("u") else -8
    return ((draws % np.uint64(17)).astype(np.int64) + low,)


def random_values(tensors: Iterable[Tensor], domain: Domain, seed: int) -> dict[str, Value]:
    """Whole tensors with the same contents."""
    found = {}
    for tensor in tensors:
        positions = np.arange(prod(tensor.shape), dtype=np.int64).reshape(tensor.shape)
        found[tensor.name] = contents(tensor, positions, domain, seed)
    return found


def _mixed(positions: Any, salt: str) -> Any:
    """SplitMix64 of positions, salted."""
    start = np.uint64(int.from_bytes(blake2b(salt.encode(), digest_size=8).digest(), "little"))
    with np.errstate(over="ignore"):
        state = (np.asarray(positions).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + start
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


# Arithmetic ----------------------------------------------------------------------------------------------------------


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
        case Domain.PRIME:
            return (_modular(operation, [operand[0] for operand in operands], PRIME),)
        case Domain.INTEGER:
            return (np.asarray(_ordered(operation, [np.asarray(operand[0]) for operand in operands])),)
        case Domain.PAIRED if operation == "exp":
            if operands[0][1] is None:
                raise DomainRefusal("exp of a value that already holds an exp")
            return _power(np.asarray(_GENERATOR), operands[0][1], SAFE_PRIME), None
        case Domain.PAIRED if operation in ("max", "min"):
            left, right = operands
            first, other = _mixed(left[0], _ORDER), _mixed(right[0], _ORDER)
            better = other > first if operation == "max" else other < first
            return tuple(
                None if one is None or two is None else np.where(better, two, one)
                for one, two in zip(left, right, strict=True)
            )
        case Domain.PAIRED:
            second = [operand[1] for operand in operands]
            known = all(part is not None for part in second)
            first = _modular(operation, [operand[0] for operand in operands], SAFE_PRIME)
            return first, _modular(operation, second, SUBGROUP) if known else None


def _modular(operation: str, operands: list[Any], modulus: int) -> Any:
    match operation, operands:
        case "add", [left, right]:
            return (left + right) % modulus
        case "sub", [left, right]:
            return (left - right) % modulus
        case "mul", [left, right]:
            return left * right % modulus
        case "neg", [only]:
            return -only % modulus
        case "div", [left, right]:
            return left * _inverse(right, modulus) % modulus
        case "reciprocal", [only]:
            return _inverse(only, modulus)
        case _:
            raise DomainRefusal(f"no {operation} modulo a prime")


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


def fold(reducer: Reducer, dtype: DataType, value: Value, axis: int, domain: Domain) -> Value:
    """A reduction over the trailing axes from ``axis`` on."""
    if domain is Domain.PAIRED and reducer in (Reducer.MAX, Reducer.MIN):
        rows = [None if part is None else part.reshape(*part.shape[:axis], -1) for part in value]
        assert rows[0] is not None
        if not rows[0].shape[-1]:
            return tuple(None if row is None else np.zeros(row.shape[:-1], np.int64) for row in rows)  # never read
        ranks = _mixed(rows[0], _ORDER)
        chosen = np.expand_dims(ranks.argmax(-1) if reducer is Reducer.MAX else ranks.argmin(-1), -1)
        return tuple(None if row is None else np.take_along_axis(row, chosen, -1)[..., 0] for row in rows)
    parts: list[Any] = []
    moduli: tuple[int | None, ...] = {
        Domain.PRIME: (PRIME,),
        Domain.INTEGER: (None,),
        Domain.PAIRED: (SAFE_PRIME, SUBGROUP),
    }[domain]
    for part, modulus in zip(value, moduli, strict=True):
        if part is None:
            parts.append(None)
            continue
        flat = part.reshape(*part.shape[:axis], -1)
        parts.append(np.asarray(_fold_last(reducer, dtype, flat, modulus)))  # sums of objects give bare numbers
    return tuple(parts)


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


# Whole scopes --------------------------------------------------------------------------------------------------------


def evaluate_exact(scope: Scope, values: Mapping[str, Value], domain: Domain) -> Value:
    """The whole value of a scope, given the tensors that it reads; for small sizes, every point of every box at once."""
    results: dict[Scope, Value] = {}
    for inner in scopes(scope):
        iterators = (*inner.traversal, *inner.reduction)
        shape = tuple(iterator.extent for iterator in iterators)
        grid = {
            iterator: np.arange(iterator.extent).reshape([-1 if at == axis else 1 for at in range(len(iterators))])
            for axis, iterator in enumerate(iterators)
        }
        body = _scalar(inner.body, grid, values, results, domain)
        whole = tuple(None if part is None else np.broadcast_to(part, shape) for part in body)
        if inner.reducer is not None:
            whole = fold(inner.reducer, inner.dtype, whole, len(inner.traversal), domain)
        results[inner] = whole
    return results[scope]


def _scalar(
    node: Scalar,
    grid: Mapping[Iterator, Any],
    values: Mapping[str, Value],
    results: Mapping[Scope, Value],
    domain: Domain,
) -> Value:
    if is_static(node):
        return number_value(static_numbers(node, grid), domain)
    match node:
        case Constant():
            return constant_value(node, domain)
        case IndexValue():
            return number_value(np.asarray(node.index.evaluate(grid.__getitem__)), domain)
        case Cast():
            return convert_value(node, _scalar(node.argument, grid, values, results, domain), domain)
        case Apply():
            operands = [_scalar(argument, grid, values, results, domain) for argument in node.arguments]
            return apply_operation(node.operation, operands, domain)
        case Access():
            source = values[node.source.name] if isinstance(node.source, Tensor) else results[node.source]
            inside, clamped = positions(node, grid)
            fill = constant_value(node.outside, domain)
            return tuple(
                None if part is None else _filled(part, inside, clamped, empty)
                for part, empty in zip(source, fill, strict=True)
            )


def _filled(part: Any, inside: Any, clamped: tuple[Any, ...], fill: Any) -> Any:
    return np.where(inside, part[clamped], fill) if part.size else np.broadcast_to(fill, np.shape(inside))


def static_numbers(node: Scalar, grid: Mapping[Iterator, Any]) -> Any:
    """The plain value of a scalar that depends on iterators only."""
    match node:
        case Constant():
            return np.asarray(node.value, node.dtype.numpy)
        case IndexValue():
            return np.asarray(node.index.evaluate(grid.__getitem__)).astype(node.dtype.numpy)
        case Cast():
            return np.asarray(convert(static_numbers(node.argument, grid), node.dtype))
        case Apply():
            operands = [static_numbers(argument, grid) for argument in node.arguments]
            return np.asarray(OPERATIONS[node.operation].evaluate(*operands))
        case Access():
            raise DomainRefusal("an access depends on data")


def positions(access: Access, grid: Mapping[Iterator, Any]) -> tuple[Any, tuple[Any, ...]]:
    """Where an access stays inside its source, and its indices clamped to the box."""
    inside: Any = np.True_
    clamped = []
    for index, extent in zip(access.indices, access.source.shape, strict=True):
        place = np.asarray(index.evaluate(grid.__getitem__), dtype=np.int64)
        inside = inside & (place >= 0) & (place < extent)
        clamped.append(np.clip(place, 0, max(int(extent) - 1, 0)))
    return inside, tuple(clamped)
