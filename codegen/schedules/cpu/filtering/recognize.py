"""Which kernels are convolutions by products at points, by the form of their stages.

    Y[.., h, w] = Σ<i> Ay(h % my, i) · { Σ<j> Ax(w % mx, j) · M[j, i, .., h / my, w / mx] }
    M[j, i, n, f, ty, tx] = Σ<c> U[j, i, f, c] · V[j, i, n, c, ty, tx]
    V[j, i, n, c, ty, tx] = Σ<b> Bx(j, b) · { Σ<a> By(i, a) · D[n, c, my·ty + a + ey, mx·tx + b + ex] }

with the transform of one axis missing for windows of one row or one column. Taps that are d apart make d windows of an axis, one
for each residue modulo d. U is constant, the tables depend on indices alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from codegen.lower.stages import Stage
from codegen.schedules.cpu.context import Context
from tensoropt.ir.expression import (
    Access,
    IndexValue,
    Reducer,
    Scalar,
    Scope,
    Tensor,
    leaves,
    substitute,
)
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.structure import is_of_indices, product_factors
from tensoropt.ir.types import DataType

Matrix = tuple[tuple[float, ...], ...]

_LEAST_TILES = 2
"""Tiles along a line from which vectors of them pay."""

_LEAST_LANES = 4
"""Of the shortest vectors; one more vector of them holds what the last window of a line needs."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One transformed axis: ``step`` outputs at once that are ``apart`` from one another, the matrices, and the iterators of tile,
    point, place in the window and residue modulo ``apart``."""

    step: int
    apart: int
    inputs: Matrix
    outputs: Matrix
    tile: Iterator
    point: Iterator
    place: Iterator
    residue: Iterator | None

    @property
    def points(self) -> int:
        """Products along the axis."""
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class Filtering:
    """A convolution by products at points. Iterators are those of M.

    ``window`` reads the input at a tile and a place; ``column`` is its contiguous axis, which ``across`` transforms.
    ``outputs`` gives the iterators of the transformed result in terms of M's and of ``offsets`` within a tile (down, across).
    """

    window: Access
    column: int
    weights: Access
    down: Axis | None
    across: Axis
    lines: tuple[Iterator, ...]
    features: tuple[Iterator, ...]
    channels: tuple[Iterator, ...]
    outputs: dict[Iterator, Index]
    offsets: tuple[Iterator, Iterator]

    def along(self, axis: Axis) -> Iterator:
        """The iterator of the result along a transformed axis."""
        return next(iterator for iterator, index in self.outputs.items() if axis.tile in index.iterators())

    @property
    def points(self) -> int:
        """Products of both axes together."""
        return self.across.points * (self.down.points if self.down is not None else 1)

    @property
    def depth(self) -> int:
        """Terms of each product."""
        return prod(iterator.extent for iterator in self.channels)

    @property
    def height(self) -> int:
        """Output features."""
        return prod(iterator.extent for iterator in self.features)


def recognize(context: Context, stages: Sequence[Stage]) -> Filtering | None:
    """The parts of such a kernel; None for every other."""
    if len(stages) not in (3, 5) or any(stage.scope.dtype is not DataType.FLOAT32 for stage in stages):
        return None
    if any(stage.result is not stage.scope for stage in stages[:-1]):
        return None
    products = stages[len(stages) // 2].scope
    outward = _output_transforms(stages[-1].scope, products)
    operands = _operands(context, products)
    if outward is None or operands is None or len(outward.axes) != len(stages) // 2:
        return None
    weights, transformed = operands
    inward = _input_transforms(transformed)
    if inward is None or len(inward.axes) != len(outward.axes):
        return None
    window = inward.window
    if not isinstance(window.source, Tensor) or context.is_constant(window.source) or window.outside.value != 0:
        return None
    axes: list[Axis] = []
    for point, (step, apart, matrix) in outward.axes.items():
        found = inward.axes.get(point)
        if found is None or (found.step, found.apart) != (step, apart) or len(found.matrix) != len(matrix[0]):
            return None
        axes.append(Axis(step, apart, found.matrix, matrix, found.tile, point, found.place, found.residue))
    column = len(window.indices) - 1
    across = next((axis for axis in axes if axis.tile in window.indices[column].iterators()), None)
    down = next((axis for axis in axes if axis is not across), None)
    across = across or _untouched(products, window.indices[column])
    if across is None or across.step * across.apart not in (1, 2, 4, 8) or across.tile.extent < _LEAST_TILES:
        return None
    if (across.points - across.step) * across.apart > _LEAST_LANES:
        return None
    points = {axis.point for axis in axes}
    features = tuple(i for i in products.traversal if i.extent != 1 and i not in points and i in _free(weights))
    moving = {across.tile, across.residue}
    lines = tuple(
        i for i in products.traversal if i.extent != 1 and i not in points and i not in features and i not in moving
    )
    channels = tuple(i for i in products.reduction if i.extent != 1)
    shared = _free(weights) & set(lines)
    spread = set(features) & _free(window)
    others = [index for number, index in enumerate(window.indices) if number != column]
    if shared or spread or any(moving & index.iterators() for index in others):
        return None
    offsets = Iterator("down", down.step if down is not None else 1), Iterator("across", across.step)
    placed = _placed(outward, down, across, offsets)
    return Filtering(window, column, weights, down, across, lines, features, channels, placed, offsets)


def _untouched(products: Scope, index: Index) -> Axis | None:
    """The contiguous axis of the input where it is not transformed: tiles of one output."""
    moving = [iterator for iterator in products.traversal if dict(index.terms) == {iterator: 1}]
    one: Matrix = ((1.0,),)
    if not moving:
        return None
    return Axis(1, 1, one, one, moving[0], Iterator("point_", 1), Iterator("place_", 1), None)


def _free(access: Access) -> set[Iterator]:
    return {iterator for index in access.indices for iterator in index.iterators()}


def _placed(
    outward: _Outward, down: Axis | None, across: Axis, offsets: tuple[Iterator, Iterator]
) -> dict[Iterator, Index]:
    """Iterators of the result in terms of those of the products."""
    placed: dict[Iterator, Index] = {}
    for iterator, read in outward.read.items():
        placed[iterator] = Index.of(read[-1])
        for axis, offset in ((down, offsets[0]), (across, offsets[1])):
            if axis is not None and read[-1] is axis.tile:
                first = Index.of(axis.tile) * axis.step + offset
                placed[iterator] = first * axis.apart + sum(map(Index.of, read[:-1]), Index.of(0))
    return placed


@dataclass(frozen=True, slots=True)
class _Outward:
    """Step, distance and matrix by the point iterator of the products, and which of their iterators each of the result's reads: the
    residue where there is one, then the tile."""

    axes: dict[Iterator, tuple[int, int, Matrix]]
    read: dict[Iterator, tuple[Iterator, ...]]


def _output_transforms(result: Scope, products: Scope) -> _Outward | None:
    read: dict[Iterator, tuple[Iterator, ...]] = {iterator: (iterator,) for iterator in result.traversal}
    axes: dict[Iterator, tuple[int, int, Matrix]] = {}
    scope = result
    while scope is not products:
        step = _output_transform(scope)
        if step is None:
            return None
        transform, names, source = step
        read = {outer: tuple(inner for own in found for inner in names[own]) for outer, found in read.items()}
        axes = {names[point][0]: found for point, found in axes.items()}
        axes[source.traversal[0]] = transform
        scope = source
    return _Outward(axes, read)


def _output_transform(
    scope: Scope,
) -> tuple[tuple[int, int, Matrix], dict[Iterator, tuple[Iterator, ...]], Scope] | None:
    """Outputs at once, their distance and the matrix; which iterators of the source each iterator reads; the source."""
    parts = _table_times_access(scope)
    if parts is None:
        return None
    table, access = parts
    (point,) = scope.reduction
    source = access.source
    if not isinstance(source, Scope) or not access.stays_inside or access.indices[0] is not Index.of(point):
        return None
    names: dict[Iterator, tuple[Iterator, ...]] = {}
    left = list(zip(access.indices[1:], source.traversal[1:], strict=True))
    transformed: tuple[Iterator, int, int] | None = None
    for iterator in scope.traversal:
        if left and left[0][0] is Index.of(iterator):
            names[iterator] = (left.pop(0)[1],)
            continue
        apart = 1
        residue: tuple[Iterator, ...] = ()
        if len(left) > 1 and (atom := _atom(left[0][0])) is not None and isinstance(atom, Modulo):
            apart, residue = atom.divisor, (left[0][1],)
            if atom.index is not Index.of(iterator):
                return None
            left.pop(0)
        atom = _atom(left[0][0]) if left else None
        if not isinstance(atom, FloorDiv) or atom.index is not Index.of(iterator) or atom.divisor % apart:
            return None
        if transformed is not None:
            return None
        transformed = iterator, atom.divisor // apart, apart
        names[iterator] = (*residue, left.pop(0)[1])
    if transformed is None or left:
        return None
    iterator, step, apart = transformed
    matrix = _matrix(table, iterator, step, point, point.extent, apart)
    return None if matrix is None else ((step, apart, matrix), names, source)


def _atom(index: Index) -> object:
    """What an index is alone; None for sums, multiples and constants."""
    return index.terms[0][0] if len(index.terms) == 1 and index.constant == 0 and index.terms[0][1] == 1 else None


@dataclass(frozen=True, slots=True)
class _Found:
    """A transformed axis of the input."""

    tile: Iterator
    place: Iterator
    residue: Iterator | None
    step: int
    apart: int
    matrix: Matrix


@dataclass(frozen=True, slots=True)
class _Inward:
    """The axes by the point iterator, and the access to the input in terms of the products' iterators."""

    axes: dict[Iterator, _Found]
    window: Access


def _input_transforms(access: Access) -> _Inward | None:
    """The transforms behind an access whose indices are iterators of the products."""
    axes: dict[Iterator, _Found] = {}
    number = 0
    while isinstance(access.source, Scope):
        scope = access.source
        parts = _table_times_access(scope)
        if parts is None:
            return None
        table, inner = parts
        if not _zero_outside(access, scope, inner):
            return None
        point, tile, place = scope.traversal[0], scope.traversal[-1], scope.reduction[0]
        mapping = dict(zip(scope.traversal, access.indices, strict=True))
        moved_by = [index for index in inner.indices if place in index.iterators()]
        if len(moved_by) != 1:
            return None
        terms = dict(moved_by[0].terms)
        apart, stride = terms.pop(place), terms.pop(tile, 0)
        own = {name: _single(mapping[found]) for name, found in (("point", point), ("tile", tile))}
        others = [found for found in terms if isinstance(found, Iterator)]
        if None in own.values() or apart < 1 or stride < 1 or stride % apart or len(others) != len(terms):
            return None
        if (apart == 1 and others) or (
            apart > 1 and [(found.extent, terms[found]) for found in others] != [(apart, 1)]
        ):
            return None
        residue = _single(mapping[others[0]]) if others else None
        if bool(others) != (residue is not None):
            return None
        if any({tile, *others} & index.iterators() for index in inner.indices if index is not moved_by[0]):
            return None
        matrix = _matrix(table, point, point.extent, place, place.extent)
        own_point, own_tile = own["point"], own["tile"]
        if matrix is None or own_point is None or own_tile is None:
            return None
        renamed = Iterator(f"place{number}_", place.extent)
        axes[own_point] = _Found(own_tile, renamed, residue, stride // apart, apart, matrix)
        moved = substitute(inner, {**mapping, place: Index.of(renamed)})
        assert isinstance(moved, Access)
        access, number = moved, number + 1
    return _Inward(axes, access)


def _zero_outside(access: Access, scope: Scope, inner: Access) -> bool:
    """Whether reading outside the scope is reading outside what it reads: 0 along axes that are passed on as they are."""
    for iterator, index in zip(scope.traversal, access.indices, strict=True):
        if index.low >= 0 and index.high < iterator.extent:
            continue
        same = [
            extent for own, extent in zip(inner.indices, inner.source.shape, strict=True) if own is Index.of(iterator)
        ]
        if same != [iterator.extent] or access.outside.value != 0 or inner.outside.value != 0:
            return False
    return True


def _operands(context: Context, products: Scope) -> tuple[Access, Access] | None:
    """The constant factor and the transformed input of the products."""
    factors = product_factors(products.body)
    if products.reducer is not Reducer.SUM or len(factors) != 2:
        return None
    for weights, transformed in (factors, factors[::-1]):
        if not isinstance(weights, Access) or not isinstance(transformed, Access):
            return None
        if context.is_constant(weights.source) and weights.stays_inside and isinstance(transformed.source, Scope):
            return weights, transformed
    return None


def _table_times_access(scope: Scope) -> tuple[Scalar, Access] | None:
    if scope.reducer is not Reducer.SUM or len(scope.reduction) != 1:
        return None
    factors = product_factors(scope.body)
    if len(factors) != 2:
        return None
    for table, access in (factors, factors[::-1]):
        if isinstance(access, Access) and is_of_indices(table):
            return table, access
    return None


def _matrix(table: Scalar, row: Iterator, rows: int, column: Iterator, columns: int, apart: int = 1) -> Matrix | None:
    """The values of a table at every ``apart``-th row; None where it depends on anything else than its row and column."""
    first, second = Iterator("row", rows), Iterator("column", columns)
    named = substitute(table, {row: Index.of(first) * apart, column: Index.of(second)})
    others = {iterator for leaf in leaves(named) if isinstance(leaf, IndexValue) for iterator in leaf.index.iterators()}
    if not others <= {first, second}:
        return None
    values = evaluate(Scope((first, second), named), {})
    return tuple(tuple(float(value) for value in line) for line in values)


def _single(index: Index) -> Iterator | None:
    atom = _atom(index)
    return atom if isinstance(atom, Iterator) else None
