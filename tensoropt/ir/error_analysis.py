"""Values at single points in f64, together with how large a rounding error they may carry.

Running error analysis: each scalar comes with a magnitude M such that evaluating it with unit roundoff u, in any order of
summation, errs by about ``λ·√n·u·M``, n being the number of terms that are added one after another and λ a confidence factor
(N. J. Higham and T. Mary, *A New Approach to Probabilistic Rounding Error Analysis*, SIAM J. Sci. Comput. 41(5), 2019).
For a sum of products M is ``Σ |a|·|b|``. Only the points that are asked for are evaluated, so real sizes cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Reducer, Scalar, Scope, Tensor, scopes
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import convert
from tensoropt.ir.program import Array
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType

CONFIDENCE = 8.0
"""λ: the probability that a bound fails for one element is about 2·exp(−λ²/2), 3e-14."""

_ROUNDOFF = {
    DataType.FLOAT16: 2.0**-11,
    DataType.BFLOAT16: 2.0**-8,
    DataType.FLOAT32: 2.0**-24,
    DataType.FLOAT64: 2.0**-53,
}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Estimate:
    """Values and magnitudes, arrays of one shape."""

    value: Array
    magnitude: Array


def unit_roundoff(dtype: DataType) -> float:
    """u of a floating-point type; 0 for exact types."""
    return _ROUNDOFF.get(dtype, 0.0)


def chain_length(expression: Scope) -> int:
    """How many terms are added one after another for one element, over all scopes; at least 1."""
    return max(
        1, sum(prod(iterator.extent for iterator in scope.reduction) for scope in scopes(expression) if scope.reduction)
    )


def error_bound(expression: Scope, magnitude: float, terms: int | None = None) -> float:
    """The error, with confidence λ, of one element of that magnitude; ``terms`` overrides the number of terms of the expression."""
    length = chain_length(expression) if terms is None else terms
    return CONFIDENCE * sqrt(length + 4) * unit_roundoff(expression.dtype) * magnitude


def estimate_at(scope: Scope, positions: tuple[Array, ...], values: Mapping[str, Array]) -> Estimate:
    """Value and magnitude of the elements at the given positions: one int64 array of P positions for each axis."""
    count = len(positions[0]) if positions else 1
    reduced = prod(iterator.extent for iterator in scope.reduction)
    parts = []
    step = max(1, _CHUNK // max(1, reduced))
    for start in range(0, count, step):
        chunk = tuple(position[start : start + step] for position in positions)
        parts.append(_estimate_chunk(scope, chunk, min(step, count - start), values))
    if not parts:
        empty = np.zeros(0)
        return Estimate(empty, empty)
    return Estimate(np.concatenate([part.value for part in parts]), np.concatenate([part.magnitude for part in parts]))


def _estimate_chunk(scope: Scope, positions: tuple[Array, ...], count: int, values: Mapping[str, Array]) -> Estimate:
    lengths = tuple(iterator.extent for iterator in scope.reduction)
    points = prod(lengths)
    grid: dict[Iterator, Array] = {
        iterator: position.reshape(-1, 1) for iterator, position in zip(scope.traversal, positions, strict=True)
    }
    if lengths:
        for iterator, position in zip(scope.reduction, np.unravel_index(np.arange(points), lengths), strict=True):
            grid[iterator] = position.reshape(1, -1)
    body = _scalar(scope.body, grid, values)
    value = np.broadcast_to(body.value, (count, points)).astype(np.float64)
    magnitude = np.broadcast_to(body.magnitude, (count, points))
    with np.errstate(all="ignore"):
        match scope.reducer:
            case None:
                return Estimate(value[:, 0], magnitude[:, 0])
            case Reducer.SUM:
                return Estimate(value.sum(1), magnitude.sum(1))
            case Reducer.MAX:
                return Estimate(value.max(1, initial=-np.inf), magnitude.max(1, initial=0))
            case Reducer.MIN:
                return Estimate(value.min(1, initial=np.inf), magnitude.max(1, initial=0))
            case Reducer.PROD:
                return Estimate(value.prod(1), magnitude.prod(1))


def _scalar(node: Scalar, grid: Mapping[Iterator, Array], values: Mapping[str, Array]) -> Estimate:
    match node:
        case Constant():
            number = np.asarray(float(node.value))
            return Estimate(number, np.abs(number))
        case IndexValue():
            index = np.asarray(node.index.evaluate(grid.__getitem__), np.float64)
            return Estimate(index, np.abs(index))
        case Access():
            return _access(node, grid, values)
        case Cast():
            inner = _scalar(node.argument, grid, values)
            value = np.asarray(convert(inner.value, node.dtype), np.float64)
            return Estimate(value, inner.magnitude if node.dtype.is_float else np.abs(value))
        case Apply():
            return _apply(node, [_scalar(argument, grid, values) for argument in node.arguments])


def _access(node: Access, grid: Mapping[Iterator, Array], values: Mapping[str, Array]) -> Estimate:
    shape = tuple(int(extent) for extent in node.source.shape)
    indices = [np.asarray(index.evaluate(grid.__getitem__), np.int64) for index in node.indices]
    positions = np.broadcast_arrays(*indices) if indices else []
    inside = np.ones(positions[0].shape if positions else (), np.bool_)
    for position, extent in zip(positions, shape, strict=True):
        inside = inside & (position >= 0) & (position < extent)
    clamped = tuple(np.clip(position, 0, max(extent - 1, 0)) for position, extent in zip(positions, shape, strict=True))
    fill = float(node.outside.value)
    if prod(shape) == 0:
        found = Estimate(np.full(inside.shape, fill), np.full(inside.shape, abs(fill)))
    elif isinstance(node.source, Tensor):
        value = np.asarray(np.asarray(values[node.source.name])[clamped], np.float64)
        found = Estimate(value, np.abs(value))
    else:
        # each element once: in a nest of folds (attention) the inner ones are read again and again
        flat = np.ravel_multi_index(clamped, shape) if clamped else np.zeros((), np.int64)
        wanted, place = np.unique(flat, return_inverse=True)
        nested = estimate_at(node.source, np.unravel_index(wanted, shape) if shape else (), values)
        found = Estimate(*(part[place].reshape(inside.shape) for part in (nested.value, nested.magnitude)))
    return Estimate(np.where(inside, found.value, fill), np.where(inside, found.magnitude, abs(fill)))


def _apply(node: Apply, operands: list[Estimate]) -> Estimate:
    inputs = [operand.value for operand in operands]
    if node.arguments[0].dtype is DataType.BOOL:
        inputs[0] = inputs[0] != 0
    if node.arguments[-1].dtype.is_integer and node.operation != "where":
        inputs = [np.asarray(value, np.int64) for value in inputs]
    with np.errstate(all="ignore"):
        value = np.asarray(OPERATIONS[node.operation].evaluate(*inputs), np.float64)
        return Estimate(value, _magnitude(node.operation, np.abs(value), operands))


def _magnitude(operation: str, size: Any, operands: list[Estimate]) -> Any:
    """The magnitude of a result of the given absolute value: its own rounding, and the operands' through the derivative."""
    own = [operand.magnitude for operand in operands]
    match operation:
        case "add" | "sub":
            return own[0] + own[1]
        case "mul":
            return own[0] * own[1]
        case "div":
            return own[0] / np.abs(operands[1].value) + size * own[1] / np.abs(operands[1].value)
        case "max" | "min" | "fmod" | "mod":
            return np.maximum(own[0], own[1])
        case "neg" | "abs" | "relu":
            return own[0]
        case "exp" | "sinh" | "cosh":
            return size * (1 + own[0])
        case "log":
            return size + own[0] / np.abs(operands[0].value)
        case "sqrt":
            return size + own[0] / np.maximum(size, 1e-30)
        case "rsqrt" | "reciprocal":
            return size * (1 + own[0] / np.abs(operands[0].value))
        case "pow":
            return size * (1 + np.abs(operands[1].value) * own[0] / np.abs(operands[0].value) + own[1])
        case "where":
            return np.where(operands[0].value != 0, own[1], own[2])
        case _:
            return size + sum(own)
