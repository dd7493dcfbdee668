"""Sums of products as MatMul: factors are reduced pair by pair, each on its own iterators only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from tensoropt.export.graph import Graph, Value
from tensoropt.export.lowering import Lowering, reduce_axes
from tensoropt.export.scalars import emit_operation
from tensoropt.export.windows import to_traversal
from tensoropt.ir.expression import Reducer, Scalar, Scope, accesses, free_iterators
from tensoropt.ir.index import Iterator
from tensoropt.ir.structure import product_factors
from tensoropt.ir.types import DataType

_MULTIPLIED = frozenset({DataType.FLOAT32, DataType.FLOAT64, DataType.INT32, DataType.INT64})

_DEPTH = 8
"""A factor that lies within another is contracted with it from this reduction length on: a shorter matrix product does not pay."""


@dataclass(frozen=True, slots=True)
class _Factor:
    """A value with one axis for each iterator."""

    value: Value
    axes: tuple[Iterator, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.value.shape)


def contraction(lowering: Lowering, scope: Scope) -> Value | None:
    """The scope as matrix products; None where it is no sum of a product."""
    if scope.reducer is not Reducer.SUM or scope.dtype is DataType.BOOL:
        return None
    parts = product_factors(scope.body)
    if len(parts) < 2:
        return None
    sets = [free_iterators(part) for part in parts]
    factors = _absorbed(lowering.graph, [_factor(lowering, part, scope) for part in parts], scope.reduction)
    while len(factors) > 1:
        first, second = min(combinations(factors, 2), key=lambda pair: _joint_size(*pair))
        rest = [factor for factor in factors if factor not in (first, second)]
        kept = {*scope.traversal, *(iterator for factor in rest for iterator in factor.axes)}
        factors = _absorbed(
            lowering.graph, [*rest, _product(lowering.graph, first, second, kept, scope.traversal)], scope.reduction
        )
    (total,) = factors
    result = _summed(lowering.graph, total, [iterator for iterator in total.axes if iterator in scope.reduction])
    seen = {iterator for one in sets for iterator in one}
    absent = prod(iterator.extent for iterator in scope.reduction if iterator not in seen)
    value = lowering.repeated(result.value, absent, Reducer.SUM)
    return to_traversal(lowering, lowering.graph.cast(value, scope.dtype), result.axes, scope)


def _factor(lowering: Lowering, part: Scalar, scope: Scope) -> _Factor:
    """A factor on its own iterators, in the order in which its accesses have them on their axes."""
    seen: dict[Iterator, None] = {}
    for access in accesses(part):
        for index in access.indices:
            seen |= dict.fromkeys(sorted(index.iterators(), key=lambda iterator: iterator.name))
    free = free_iterators(part)
    own = [*seen, *(it for it in (*scope.traversal, *scope.reduction) if it in free and it not in seen)]
    value = lowering.scalar(part, own)
    return _Factor(lowering.graph.expand(value, [iterator.extent for iterator in own]), tuple(own))


def _absorbed(graph: Graph, factors: list[_Factor], reduction: Sequence[Iterator]) -> list[_Factor]:
    """The factors after those that take part in no matrix product are multiplied into the smallest one with all their iterators."""
    for factor in factors:
        others = [other for other in factors if other is not factor and _scales(factor, other, reduction)]
        if others:
            target = min(others, key=lambda other: other.size)
            rest = [other for other in factors if other is not factor and other is not target]
            return _absorbed(graph, [*rest, _multiplied(graph, target, factor)], reduction)
    return factors


def _scales(factor: _Factor, other: _Factor, reduction: Sequence[Iterator]) -> bool:
    """Whether a factor has no iterators but the other's and is better multiplied than contracted with it."""
    own, wide = set(factor.axes), set(other.axes)
    depth = prod(iterator.extent for iterator in own if iterator in reduction)
    return own <= wide and (own == wide or depth < _DEPTH)


def _joint_size(left: _Factor, right: _Factor) -> int:
    return prod(iterator.extent for iterator in {*left.axes, *right.axes})


def _arranged(graph: Graph, factor: _Factor, order: Iterable[Iterator]) -> Value:
    return graph.transpose(factor.value, [factor.axes.index(iterator) for iterator in order])


def _multiplied(graph: Graph, left: _Factor, right: _Factor) -> _Factor:
    """The product without summing anything."""
    axes = (*left.axes, *(iterator for iterator in right.axes if iterator not in left.axes))
    operands = []
    for factor in (left, right):
        order = [iterator for iterator in axes if iterator in factor.axes]
        shape = [iterator.extent if iterator in factor.axes else 1 for iterator in axes]
        operands.append(graph.reshape(_arranged(graph, factor, order), shape))
    return _Factor(emit_operation(graph, "mul", operands), axes)


def _summed(graph: Graph, factor: _Factor, gone: Sequence[Iterator]) -> _Factor:
    if not gone:
        return factor
    value = reduce_axes(graph, factor.value, Reducer.SUM, [factor.axes.index(iterator) for iterator in gone])
    axes = tuple(iterator for iterator in factor.axes if iterator not in gone)
    return _Factor(graph.reshape(value, [iterator.extent for iterator in axes]), axes)


def _product(
    graph: Graph, left: _Factor, right: _Factor, kept: set[Iterator], traversal: Sequence[Iterator]
) -> _Factor:
    """The product of two factors summed over the iterators that nothing else needs."""
    left = _summed(graph, left, [it for it in left.axes if it not in right.axes and it not in kept])
    right = _summed(graph, right, [it for it in right.axes if it not in left.axes and it not in kept])
    inner = [iterator for iterator in left.axes if iterator in right.axes and iterator not in kept]
    if not inner:
        return _multiplied(graph, left, right)
    if any(iterator in left.axes and iterator not in right.axes for iterator in traversal[-1:]):
        left, right = right, left
    batch = [iterator for iterator in left.axes if iterator in right.axes and iterator in kept]
    rows = [iterator for iterator in left.axes if iterator not in right.axes]
    columns = [iterator for iterator in right.axes if iterator not in left.axes]
    axes = (*batch, *rows, *columns)
    counts = [prod(iterator.extent for iterator in group) for group in (batch, rows, inner, columns)]
    one = _arranged(graph, left, [*batch, *rows, *inner])
    other = _arranged(graph, right, [*batch, *inner, *columns])
    lead = [counts[0]] if batch else []
    one = graph.reshape(one, [*lead, counts[1], counts[2]])
    other = graph.reshape(other, [*lead, counts[2], counts[3]])
    dtype = left.value.dtype
    if dtype not in _MULTIPLIED:
        dtype = DataType.FLOAT32 if dtype.is_float else DataType.INT64 if dtype.itemsize > 2 else DataType.INT32
    operands = [graph.cast(one, dtype), graph.cast(other, dtype)]
    product = graph.emit("MatMul", operands, [*lead, counts[1], counts[3]], dtype)
    return _Factor(graph.reshape(graph.cast(product, left.value.dtype), [it.extent for it in axes]), axes)
