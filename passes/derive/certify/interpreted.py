"""Comparison by the interpreter, which defines the meaning: in the types of the program, on contents that are small integers."""

from __future__ import annotations

from math import inf, isfinite, prod

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
    scopes,
    tensors,
)
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType

_LARGEST = 2
"""The size of the integers that tensors hold."""

_KEEPING = frozenset({"neg", "abs", "relu", "sign", "max", "min", "where", "floor", "ceil", "trunc", "round"})
_TRUTHS = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "not", "and", "or", "xor", "isnan", "isinf"})
_DIVIDING = frozenset({"div", "reciprocal", "sqrt", "rsqrt", "log", "pow", "mod", "fmod"})
_EXACT_BITS = {DataType.FLOAT64: 53, DataType.FLOAT32: 24, DataType.FLOAT16: 11, DataType.BFLOAT16: 8}
_TOLERANCE = {DataType.FLOAT64: 1e-9, DataType.FLOAT32: 1e-4, DataType.FLOAT16: 3e-2, DataType.BFLOAT16: 2e-1}


def interpreted_difference(first: Scope, last: Scope, seed: int) -> str | None:
    """Where two scopes differ by the interpreter; None if nowhere. Bit for bit where no value is rounded, else nearly."""
    read = dict.fromkeys((*tensors(first), *tensors(last)))
    divides = any(_uses_division(scope.body) for root in (first, last) for scope in scopes(root))
    random = np.random.default_rng(seed)
    values = {tensor.name: _small(tensor, divides, random) for tensor in read}
    with np.errstate(all="ignore"):
        wanted, found = evaluate(first, values), evaluate(last, values)
    bound = max(largest(first), largest(last))
    kinds = {scope.dtype for root in (first, last) for scope in scopes(root) if scope.dtype.is_float}
    exact = all(bound < 2.0 ** _EXACT_BITS[kind] for kind in kinds)
    if exact or not wanted.size:
        agrees = np.array_equal(wanted, found)
    else:
        scale = np.abs(wanted[np.isfinite(wanted)].astype(np.float64)).max(initial=1.0)
        tolerance = max((_TOLERANCE[kind] for kind in kinds), default=0.0)
        near = np.abs(wanted.astype(np.float64) - found.astype(np.float64)) <= tolerance * scale
        agrees = bool(np.all(near | (wanted == found) | ((wanted != wanted) & (found != found))))
    return None if agrees else "the interpreter gives other values"


def _small(tensor: Tensor, divides: bool, random: np.random.Generator) -> Array:
    low = 1 if divides else 0 if tensor.dtype.value.startswith("u") or tensor.dtype is DataType.BOOL else -_LARGEST
    high = 1 if tensor.dtype is DataType.BOOL else _LARGEST
    return random.integers(low, high + 1, tuple(map(int, tensor.shape))).astype(tensor.dtype.numpy)


def _uses_division(node: Scalar) -> bool:
    own = isinstance(node, Apply) and node.operation in _DIVIDING
    return own or any(_uses_division(child) for child in children(node))


def largest(root: Scope) -> float:
    """A bound on the size of every value of a scope where tensors hold these integers; infinite where values are rounded."""
    found: dict[Scope, float] = {}
    most = 0.0
    for scope in scopes(root):
        bound, count = _bound(scope.body, found), prod(iterator.extent for iterator in scope.reduction)
        if scope.reducer is Reducer.SUM:
            bound *= count
        elif scope.reducer is Reducer.PROD:
            bound = inf if bound > 1 and count > 64 else max(1.0, bound) ** count
        found[scope] = bound
        most = max(most, bound)
    return most


def _bound(node: Scalar, found: dict[Scope, float]) -> float:
    match node:
        case Constant():
            value = abs(float(node.value))
            return value if not isfinite(value) or value == int(value) else inf
        case IndexValue():
            return float(max(abs(node.index.low), abs(node.index.high)))
        case Access():
            inner = float(_LARGEST) if isinstance(node.source, Tensor) else found[node.source]
            outside = abs(float(node.outside.value))
            return max(inner, outside) if isfinite(outside) else inner
        case Cast():
            return _bound(node.argument, found)
        case Apply():
            bounds = [_bound(argument, found) for argument in node.arguments]
            match node.operation:
                case "add" | "sub":
                    return bounds[0] + bounds[1]
                case "mul":
                    return bounds[0] * bounds[1]
                case operation if operation in _KEEPING:
                    return max(1.0, *bounds)
                case operation if operation in _TRUTHS:
                    return 1.0
                case _:
                    return inf
