"""From scopes to ONNX nodes: library operators where one is recognised, else arithmetic on the broadcast box of the iterators.

A scalar is *aligned* to a grid when it has one axis for each of the grid's iterators, of the iterator's extent or of extent 1
where it does not depend on it; ONNX's broadcasting then does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from tensoropt.export.graph import Graph, Value
from tensoropt.export.indices import emit_index
from tensoropt.export.scalars import emit_cast, emit_operation
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
from tensoropt.ir.index import Iterator
from tensoropt.ir.types import DataType

Grid = Sequence[Iterator]


@dataclass(slots=True)
class Lowering:
    """Lowers scopes into one graph. ``values`` holds what is known: tensors that can be read and scopes already lowered.

    ``patterns`` recognise library operators: each gives the scope's value, or None where it does not apply.
    """

    graph: Graph
    values: dict[Tensor | Scope, Value]
    patterns: Sequence[Callable[[Lowering, Scope], Value | None]]
    read: Callable[[Lowering, Access, Grid], Value]
    used: set[str] = field(default_factory=set)
    """The names of the patterns that applied, and "general" where none did."""

    def scope(self, root: Scope) -> Value:
        """The value of a scope; scopes nested in it are lowered first, each once."""
        for scope in scopes(root):
            if scope not in self.values:
                self.values[scope] = self._scope(scope)
        return self.values[root]

    def _scope(self, scope: Scope) -> Value:
        shape = tuple(int(extent) for extent in scope.shape)
        if prod(shape) == 0:
            return self.graph.expand(self.graph.scalar(0, scope.dtype), shape)
        if scope.reducer is not None and any(iterator.extent == 0 for iterator in scope.reduction):
            identity = reducer_identity(scope.reducer, scope.dtype)
            return self.graph.expand(self.graph.scalar(identity, scope.dtype), shape)
        for pattern in self.patterns:
            value = pattern(self, scope)
            if value is not None:
                self.used.add(pattern.__name__)
                return value
        self.used.add("general")
        return self._general(scope)

    def _general(self, scope: Scope) -> Value:
        """The body on the whole box, folded over the reduction axes."""
        grid = (*scope.traversal, *scope.reduction)
        value = self.scalar(scope.body, grid)
        if scope.reducer is not None:
            value = self.fold(value, scope.reducer, len(scope.traversal), grid)
        return self.full(value, scope)

    def full(self, value: Value, scope: Scope) -> Value:
        """A value aligned to the traversal in the shape of the scope's output."""
        shape = tuple(int(extent) for extent in scope.shape)
        return self.graph.expand(self._full_rank(value, len(shape)), shape)

    def fold(self, value: Value, reducer: Reducer, first: int, grid: Grid) -> Value:
        """The aligned value with its axes from ``first`` on folded away."""
        value = self._full_rank(value, len(grid))
        absent = [axis for axis in range(first, len(grid)) if value.shape[axis] != grid[axis].extent]
        if absent and reducer is Reducer.PROD:
            value = self.graph.expand(
                value, [extent if axis < first else grid[axis].extent for axis, extent in enumerate(value.shape)]
            )
            absent = []
        folded = [axis for axis in range(first, len(grid)) if value.shape[axis] != 1]
        kept = value.shape[:first]
        if folded:
            value = reduce_axes(self.graph, value, reducer, folded)
        value = self.graph.reshape(value, kept)
        return self.repeated(value, prod(grid[axis].extent for axis in absent), reducer)

    def repeated(self, value: Value, count: int, reducer: Reducer) -> Value:
        """The fold of so many equal values."""
        if count == 1 or reducer is not Reducer.SUM or value.dtype is DataType.BOOL:
            return value
        return emit_operation(self.graph, "mul", [value, self.graph.scalar(count, value.dtype)])

    def scalar(self, root: Scalar, grid: Grid) -> Value:
        """A scalar aligned to a grid; constants stay without axes."""
        done: dict[Scalar, Value] = {}

        def emit(node: Scalar) -> Value:
            if node not in done:
                done[node] = self._node(node, grid, emit)
            return done[node]

        return emit(root)

    def _node(self, node: Scalar, grid: Grid, emit: Callable[[Scalar], Value]) -> Value:
        match node:
            case Constant():
                return self.graph.scalar(node.value, node.dtype)
            case IndexValue():
                return emit_cast(self.graph, emit_index(self.graph, node.index, grid), node.dtype)
            case Cast():
                return emit_cast(self.graph, emit(node.argument), node.dtype)
            case Apply():
                return emit_operation(self.graph, node.operation, [emit(argument) for argument in node.arguments])
            case Access():
                return self.read(self, node, grid)

    def _full_rank(self, value: Value, rank: int) -> Value:
        return self.graph.reshape(value, (1,) * (rank - value.rank) + value.shape)

    def arranged(self, value: Value, axes: Sequence[Iterator], grid: Grid) -> Value:
        """A value with one axis for each iterator of ``axes``, aligned to a grid that holds these iterators."""
        place: Mapping[Iterator, int] = {iterator: axis for axis, iterator in enumerate(axes)}
        value = self.graph.transpose(value, [place[iterator] for iterator in grid if iterator in place])
        return self.graph.reshape(value, [iterator.extent if iterator in place else 1 for iterator in grid])


_REDUCTIONS = {
    Reducer.SUM: "ReduceSum",
    Reducer.MAX: "ReduceMax",
    Reducer.MIN: "ReduceMin",
    Reducer.PROD: "ReduceProd",
}
_REDUCED = frozenset({DataType.INT32, DataType.INT64, DataType.FLOAT32, DataType.FLOAT64})


def reduce_axes(graph: Graph, value: Value, reducer: Reducer, axes: Sequence[int]) -> Value:
    """The value folded over axes, which stay with extent 1. Booleans fold as integers do: sum and max are "or"."""
    dtype = value.dtype
    if dtype is DataType.BOOL:
        reducer = Reducer.MAX if reducer in (Reducer.SUM, Reducer.MAX) else Reducer.MIN
        carrier = DataType.INT32
    else:
        wraps = dtype is DataType.INT32 and reducer in (Reducer.SUM, Reducer.PROD)  # ONNX Runtime saturates there
        own = dtype in _REDUCED and not wraps
        carrier = dtype if own else DataType.FLOAT32 if dtype.is_float else DataType.INT64
    wide = graph.cast(value, carrier)
    shape = [1 if axis in axes else extent for axis, extent in enumerate(value.shape)]
    result = graph.emit(_REDUCTIONS[reducer], [wide, graph.integers(axes)], shape, carrier, keepdims=1)
    return graph.cast(result, dtype)
