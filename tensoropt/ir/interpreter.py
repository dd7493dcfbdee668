"""The meaning of expressions, written to be obvious and not fast: every element is gathered with NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
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
    reducer_identity,
    scopes,
)
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array, Compute, Program
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType

_CHUNK_ELEMENTS = 1 << 22
"""How many points of a scope's box are evaluated at once; keeps the interpreter within some hundred MiB."""

_FOLD: dict[Reducer, np.ufunc] = {
    Reducer.SUM: np.add,
    Reducer.MAX: np.maximum,
    Reducer.MIN: np.minimum,
    Reducer.PROD: np.multiply,
}


def evaluate(scope: Scope, values: Mapping[str, Array]) -> Array:
    """The value of a scope, given the arrays of the tensors that it reads, by name. Sums of floats are folded in f64."""
    results: dict[Scope, Array] = {}
    for inner in scopes(scope):
        results[inner] = _evaluate_scope(inner, values, results)
    return results[scope]


def run_program(program: Program, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every value of a program by name, given its inputs. ValueError for an opaque statement, which has no meaning here."""
    values: dict[str, Array] = {**program.constants, **feeds}
    for statement in program.statements:
        if not isinstance(statement, Compute):
            raise ValueError(f"the interpreter cannot run the opaque operator {statement.operator}")
        values[statement.output.name] = evaluate(statement.expression, values)
    return values


def convert(values: Any, dtype: DataType) -> Any:
    """What ``Cast`` does: floats truncate toward zero, integers wrap, non-zero is true."""
    with np.errstate(all="ignore"):
        if dtype.is_integer and values.dtype.kind not in "iub":
            wide = np.trunc(values.astype(np.float64))
            finite = np.isfinite(wide)
            return np.where(finite, wide, 0).astype(np.int64).astype(dtype.numpy)
        return values.astype(dtype.numpy)


def _evaluate_scope(scope: Scope, values: Mapping[str, Array], results: Mapping[Scope, Array]) -> Array:
    output = np.empty(tuple(int(extent) for extent in scope.shape), scope.dtype.numpy)
    if output.size == 0:
        return output
    reduced = prod(iterator.extent for iterator in scope.reduction)
    if scope.reducer is not None and reduced == 0:
        output[...] = reducer_identity(scope.reducer, scope.dtype)
        return output
    points = output.size * reduced
    lead = next((axis for axis, iterator in enumerate(scope.traversal) if iterator.extent > 1), None)
    if lead is None or points <= _CHUNK_ELEMENTS:
        output[...] = _evaluate_box(scope, {}, values, results)
        return output
    extent = scope.traversal[lead].extent
    step = max(1, extent * _CHUNK_ELEMENTS // points)
    for start in range(0, extent, step):
        stop = min(start + step, extent)
        part = (slice(None),) * lead + (slice(start, stop),)
        output[part] = _evaluate_box(scope, {scope.traversal[lead]: range(start, stop)}, values, results)
    return output


def _evaluate_box(
    scope: Scope, ranges: Mapping[Iterator, range], values: Mapping[str, Array], results: Mapping[Scope, Array]
) -> Array:
    """The part of a scope whose iterators run over the given ranges, the whole of each where none is given."""
    iterators = (*scope.traversal, *scope.reduction)
    grid: dict[Iterator, Array] = {}
    shape: list[int] = []
    for axis, iterator in enumerate(iterators):
        steps = ranges.get(iterator, range(iterator.extent))
        along = [1] * len(iterators)
        along[axis] = len(steps)
        grid[iterator] = np.arange(steps.start, steps.stop, dtype=np.int64).reshape(along)
        shape.append(len(steps))
    body = np.broadcast_to(_evaluate_scalar(scope.body, grid, values, results), shape)
    if scope.reducer is None:
        return body
    axes = tuple(range(len(scope.traversal), len(iterators)))
    wide = body.astype(np.float64) if scope.dtype.is_float else body
    with np.errstate(all="ignore"):
        folded: Array = _FOLD[scope.reducer].reduce(wide, axis=axes, dtype=wide.dtype)
        return folded.astype(scope.dtype.numpy)


def _evaluate_scalar(
    node: Scalar, grid: Mapping[Iterator, Array], values: Mapping[str, Array], results: Mapping[Scope, Array]
) -> Array:
    match node:
        case Constant():
            return np.asarray(node.value, node.dtype.numpy)
        case IndexValue():
            return np.asarray(node.index.evaluate(grid.__getitem__)).astype(node.dtype.numpy)
        case Cast():
            return np.asarray(convert(_evaluate_scalar(node.argument, grid, values, results), node.dtype))
        case Apply():
            operands = [_evaluate_scalar(argument, grid, values, results) for argument in node.arguments]
            return np.asarray(OPERATIONS[node.operation].evaluate(*operands))
        case Access():
            source = values[node.source.name] if isinstance(node.source, Tensor) else results[node.source]
            return _gather(node, np.asarray(source), node.indices, grid)


def _gather(node: Access, source: Array, indices: tuple[Index, ...], grid: Mapping[Iterator, Array]) -> Array:
    if not indices:
        return source
    fill = np.asarray(node.outside.value, node.dtype.numpy)
    positions = np.broadcast_arrays(
        *(np.asarray(index.evaluate(grid.__getitem__), dtype=np.int64) for index in indices)
    )
    if source.size == 0:
        return np.broadcast_to(fill, positions[0].shape)
    inside = np.ones(positions[0].shape, np.bool_)
    for position, extent in zip(positions, source.shape, strict=True):
        inside &= (position >= 0) & (position < extent)
    clamped = tuple(np.clip(position, 0, extent - 1) for position, extent in zip(positions, source.shape, strict=True))
    return np.where(inside, source[clamped], fill)
