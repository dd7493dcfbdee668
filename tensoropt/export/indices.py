"""Quasi-affine indices as i64 tensors computed from Range, so that no table is stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tensoropt.export.graph import Graph, Value
from tensoropt.ir.index import Atom, FloorDiv, Index, Iterator, Modulo
from tensoropt.ir.types import DataType


def emit_index(graph: Graph, index: Index, grid: Sequence[Iterator]) -> Value:
    """The index aligned to a grid: one axis for each iterator, of extent 1 where the index does not depend on it."""
    total: Value | None = None
    for atom, coefficient in index.terms:
        term = _atom(graph, atom, grid)
        if coefficient != 1:
            term = _arithmetic(graph, "Mul", term, coefficient)
        total = term if total is None else _arithmetic(graph, "Add", total, term)
    if total is None:
        return graph.reshape(graph.integers([index.constant]), (1,) * len(grid))
    return _arithmetic(graph, "Add", total, index.constant) if index.constant else total


def emit_inside(graph: Graph, position: Value, extent: int) -> Value:
    """Whether positions lie in ``[0, extent)``."""
    low = graph.emit("GreaterOrEqual", [position, graph.scalar(0, DataType.INT64)], position.shape, DataType.BOOL)
    high = graph.emit("Less", [position, graph.scalar(extent, DataType.INT64)], position.shape, DataType.BOOL)
    return graph.emit("And", [low, high], position.shape, DataType.BOOL)


def emit_clamped(graph: Graph, position: Value, extent: int) -> Value:
    """Positions brought into ``[0, extent)``."""
    bounds = [graph.scalar(0, DataType.INT64), graph.scalar(extent - 1, DataType.INT64)]
    return graph.emit("Clip", [position, *bounds], position.shape, DataType.INT64)


def emit_sum(graph: Graph, left: Value, right: Value) -> Value:
    """The sum of two positions that broadcast."""
    return _arithmetic(graph, "Add", left, right)


def emit_scaled(graph: Graph, position: Value, factor: int) -> Value:
    """A position times a constant."""
    return position if factor == 1 else _arithmetic(graph, "Mul", position, factor)


def _atom(graph: Graph, atom: Atom, grid: Sequence[Iterator]) -> Value:
    match atom:
        case Iterator():
            bounds = [graph.scalar(number, DataType.INT64) for number in (0, atom.extent, 1)]
            steps = graph.emit("Range", bounds, (atom.extent,), DataType.INT64)
            return graph.reshape(steps, [atom.extent if found is atom else 1 for found in grid])
        case FloorDiv():
            # Div truncates, so what can be negative is shifted up by whole divisors first
            lift = max(0, -(atom.index.low // atom.divisor))
            quotient = _arithmetic(
                graph, "Div", emit_index(graph, atom.index + lift * atom.divisor, grid), atom.divisor
            )
            return _arithmetic(graph, "Add", quotient, -lift) if lift else quotient
        case Modulo():
            return _arithmetic(graph, "Mod", emit_index(graph, atom.index, grid), atom.divisor)


def _arithmetic(graph: Graph, operator: str, left: Value, right: Value | int) -> Value:
    other = graph.scalar(right, DataType.INT64) if isinstance(right, int) else right
    return graph.emit(operator, [left, other], np.broadcast_shapes(left.shape, other.shape), DataType.INT64)
