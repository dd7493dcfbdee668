"""Values at single points in f64, together with how large a rounding error they may carry.

Running error analysis: each scalar comes with a magnitude M such that evaluating it with unit roundoff u, in any order of
summation, errs by about ``λ·√n·u·M``, n being the number of terms that are added one after another and λ a confidence factor
(N. J. Higham and T. Mary, *A New Approach to Probabilistic Rounding Error Analysis*, SIAM J. Sci. Comput. 41(5), 2019).
For a sum of products M is ``Σ |a|·|b|``. Where operands of such sums are rounded first (``operand_rounding``), what that moves
each value by is told beside the magnitude. Only the points that are asked for are evaluated, so real sizes cost nothing.
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
from tensoropt.ir.operand_rounding import OperandRounding, passed_on, rounds_operands
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
_EXACT: Array = np.zeros(())


@dataclass(frozen=True, slots=True)
class Estimate:
    """Values and magnitudes, arrays of one shape; ``error`` is what rounded operands of sums of products explain."""

    value: Array
    magnitude: Array
    error: Array


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


def estimate_at(
    scope: Scope,
    positions: tuple[Array, ...],
    values: Mapping[str, Array],
    rounding: OperandRounding | None = None,
) -> Estimate:
    """Value, magnitude and error of the elements at the given positions: one int64 array of P positions for each axis."""
    count = len(positions[0]) if positions else 1
    reduced = prod(iterator.extent for iterator in scope.reduction)
    parts = []
    step = max(1, _CHUNK // max(1, reduced))
    for start in range(0, count, step):
        chunk = tuple(position[start : start + step] for position in positions)
        parts.append(_estimate_chunk(scope, chunk, min(step, count - start), values, rounding))
    if not parts:
        empty = np.zeros(0)
        return Estimate(empty, empty, empty)
    joined = zip(*((part.value, part.magnitude, part.error) for part in parts), strict=True)
    return Estimate(*map(np.concatenate, joined))


def _estimate_chunk(
    scope: Scope,
    positions: tuple[Array, ...],
    count: int,
    values: Mapping[str, Array],
    rounding: OperandRounding | None,
) -> Estimate:
    lengths = tuple(iterator.extent for iterator in scope.reduction)
    points = prod(lengths)
    grid: dict[Iterator, Array] = {
        iterator: position.reshape(-1, 1) for iterator, position in zip(scope.traversal, positions, strict=True)
    }
    if lengths:
        for iterator, position in zip(scope.reduction, np.unravel_index(np.arange(points), lengths), strict=True):
            grid[iterator] = position.reshape(1, -1)
    body = _scalar(scope.body, grid, values, rounding)
    value = np.broadcast_to(body.value, (count, points)).astype(np.float64)
    magnitude = np.broadcast_to(body.magnitude, (count, points))
    error = np.broadcast_to(body.error, (count, points))
    with np.errstate(all="ignore"):
        if rounding is not None and rounds_operands(scope):
            error = rounding.of_products(np.abs(value), error)
        match scope.reducer:
            case None:
                return Estimate(value[:, 0], magnitude[:, 0], error[:, 0])
            case Reducer.SUM:
                return Estimate(value.sum(1), magnitude.sum(1), error.sum(1))
            case Reducer.MAX:
                return Estimate(value.max(1, initial=-np.inf), magnitude.max(1, initial=0), error.max(1, initial=0))
            case Reducer.MIN:
                return Estimate(value.min(1, initial=np.inf), magnitude.max(1, initial=0), error.max(1, initial=0))
            case Reducer.PROD:
                moved = (np.abs(value) + error).prod(1) - np.abs(value).prod(1)
                return Estimate(value.prod(1), magnitude.prod(1), moved)


def _scalar(
    node: Scalar, grid: Mapping[Iterator, Array], values: Mapping[str, Array], rounding: OperandRounding | None
) -> Estimate:
    match node:
        case Constant():
            number = np.asarray(float(node.value))
            return Estimate(number, np.abs(number), _EXACT)
        case IndexValue():
            index = np.asarray(node.index.evaluate(grid.__getitem__), np.float64)
            return Estimate(index, np.abs(index), _EXACT)
        case Access():
            return _access(node, grid, values, rounding)
        case Cast():
            inner = _scalar(node.argument, grid, values, rounding)
            value = np.asarray(convert(inner.value, node.dtype), np.float64)
            if not node.dtype.is_float:
                return Estimate(value, np.abs(value), _EXACT)
            return Estimate(value, inner.magnitude, inner.error)
        case Apply():
            operands = [_scalar(argument, grid, values, rounding) for argument in node.arguments]
            return _apply(node, operands, rounding)


def _access(
    node: Access, grid: Mapping[Iterator, Array], values: Mapping[str, Array], rounding: OperandRounding | None
) -> Estimate:
    shape = tuple(int(extent) for extent in node.source.shape)
    indices = [np.asarray(index.evaluate(grid.__getitem__), np.int64) for index in node.indices]
    positions = np.broadcast_arrays(*indices) if indices else []
    inside = np.ones(positions[0].shape if positions else (), np.bool_)
    for position, extent in zip(positions, shape, strict=True):
        inside = inside & (position >= 0) & (position < extent)
    clamped = tuple(np.clip(position, 0, max(extent - 1, 0)) for position, extent in zip(positions, shape, strict=True))
    fill = float(node.outside.value)
    if prod(shape) == 0:
        found = Estimate(np.full(inside.shape, fill), np.full(inside.shape, abs(fill)), _EXACT)
    elif isinstance(node.source, Tensor):
        value = np.asarray(np.asarray(values[node.source.name])[clamped], np.float64)
        carried = 0.0 if rounding is None else rounding.carried.get(node.source.name, 0.0)
        found = Estimate(value, np.abs(value), np.asarray(carried))
    else:
        # each element once: in a nest of folds (attention) the inner ones are read again and again
        flat = np.ravel_multi_index(clamped, shape) if clamped else np.zeros((), np.int64)
        wanted, place = np.unique(flat, return_inverse=True)
        nested = estimate_at(node.source, np.unravel_index(wanted, shape) if shape else (), values, rounding)
        parts = nested.value, nested.magnitude, nested.error
        found = Estimate(*(part[place].reshape(inside.shape) for part in parts))
    return Estimate(
        np.where(inside, found.value, fill),
        np.where(inside, found.magnitude, abs(fill)),
        np.where(inside, found.error, 0.0),
    )


def _apply(node: Apply, operands: list[Estimate], rounding: OperandRounding | None) -> Estimate:
    inputs = [operand.value for operand in operands]
    if node.arguments[0].dtype is DataType.BOOL:
        inputs[0] = inputs[0] != 0
    if node.arguments[-1].dtype.is_integer and node.operation != "where":
        inputs = [np.asarray(value, np.int64) for value in inputs]
    with np.errstate(all="ignore"):
        value = np.asarray(OPERATIONS[node.operation].evaluate(*inputs), np.float64)
        error = _EXACT
        if rounding is not None and node.dtype.is_float:
            errors = [operand.error for operand in operands]
            error = passed_on(node.operation, value, [operand.value for operand in operands], errors)
        return Estimate(value, _magnitude(node.operation, np.abs(value), operands), error)


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
