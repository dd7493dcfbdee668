"""Accesses as data movement: Pad, Slice, Reshape and Transpose where they suffice, else Gather at computed positions.

Source axes whose indices share an iterator belong together: they are merged to one axis and read at a flat position. Axes that
share none are read one after the other, so the positions of each stay small.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tensoropt.export.digits import Digits, digits_of
from tensoropt.export.graph import Graph, Value
from tensoropt.export.indices import emit_clamped, emit_index, emit_inside, emit_scaled, emit_sum
from tensoropt.export.lowering import Grid, Lowering
from tensoropt.ir.expression import Access
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType

_PADDED_LIMIT = 4
"""A source is padded up to so many times its size; what would grow more is clamped and masked instead."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Source axes that are read together: their indices, extents and the iterators that occur, in the order of the grid."""

    axes: tuple[int, ...]
    indices: tuple[Index, ...]
    extents: tuple[int, ...]
    iterators: tuple[Iterator, ...]

    @property
    def leaves(self) -> list[tuple[Index, int]]:
        """The indices that can leave their axis, with its extent."""
        pairs = zip(self.indices, self.extents, strict=True)
        return [(index, extent) for index, extent in pairs if index.low < 0 or index.high >= extent]

    @property
    def strides(self) -> list[int]:
        """Elements of the merged axis between neighbours along each axis."""
        return [prod(self.extents[at + 1 :]) for at in range(len(self.extents))]

    @property
    def position(self) -> Index:
        """The place along the merged axis."""
        total = Index.of(0)
        for index, stride in zip(self.indices, self.strides, strict=True):
            total = total + index * stride
        return total


@dataclass(frozen=True, slots=True)
class _Progression:
    """Positions ``start, start + step, …`` that are the row-major points of the iterators, slowest first."""

    start: int
    step: int
    iterators: tuple[Iterator, ...]

    @property
    def count(self) -> int:
        """Number of positions."""
        return prod(iterator.extent for iterator in self.iterators)


def read_access(lowering: Lowering, access: Access, grid: Grid) -> Value:
    """The access aligned to the grid. Iterators that it divides are read as digits, which are merged afterwards."""
    split: dict[Iterator, Digits] = {}
    fine: list[Iterator] = []
    for iterator in grid:
        found = digits_of(iterator, access.indices, (*grid, *fine))
        if found is not None:
            split[iterator] = found
        fine += [iterator] if found is None else found.digits
    if not split:
        return _read_plain(lowering, access, grid)
    mapping = {iterator: found.index for iterator, found in split.items()}
    indices = [index.substitute(mapping) for index in access.indices]
    value = _read_plain(lowering, Access(access.source, indices, access.outside), fine)
    if value.rank != len(fine):
        return value  # nothing was read
    return _merged(lowering.graph, value, grid, fine, split)


def _merged(graph: Graph, value: Value, grid: Grid, fine: Grid, split: dict[Iterator, Digits]) -> Value:
    """A value aligned to the grid with digits, brought to the grid."""
    digits = {digit for found in split.values() for digit in found.digits}
    value = graph.expand(
        value, [it.extent if it in digits else extent for it, extent in zip(fine, value.shape, strict=True)]
    )
    extents = dict(zip(fine, value.shape, strict=True))
    spans = [split[iterator].span if iterator in split else extents[iterator] for iterator in grid]
    starts = [split[iterator].shift if iterator in split else 0 for iterator in grid]
    wanted = [iterator.extent if iterator in split else extents[iterator] for iterator in grid]
    return graph.slice(graph.reshape(value, spans), starts, wanted, [1] * len(grid))


def _read_plain(lowering: Lowering, access: Access, grid: Grid) -> Value:
    graph, source = lowering.graph, lowering.values[access.source]
    if prod(source.shape) == 0:
        return graph.scalar(access.outside.value, access.dtype)
    value, groups = split_access(graph, source, access, grid)
    axes, moved = move_groups(graph, value, groups)
    result = lowering.arranged(moved, axes, grid)
    inside: Value | None = None
    for group in groups:
        for index, extent in group.leaves:
            holds = emit_inside(graph, emit_index(graph, index, grid), extent)
            if inside is not None:
                shape = [max(pair) for pair in zip(inside.shape, holds.shape, strict=True)]
                holds = graph.emit("And", [inside, holds], shape, DataType.BOOL)
            inside = holds
    return result if inside is None else graph.where(inside, result, graph.scalar(access.outside.value, access.dtype))


def split_access(graph: Graph, source: Value, access: Access, grid: Grid) -> tuple[Value, list[_Group]]:
    """The source, padded where that is cheap, with one axis for each group of axes that are read together."""
    source, indices = _padded(graph, source, access)
    members: list[list[int]] = []
    for axis, index in enumerate(indices):
        own = index.iterators()
        joined = [group for group in members if any(indices[other].iterators() & own for other in group)]
        members = [group for group in members if group not in joined]
        members.append(sorted([axis, *(other for group in joined for other in group)]))
    members.sort()
    groups = []
    for group in members:
        used = frozenset(iterator for axis in group for iterator in indices[axis].iterators())
        groups.append(
            _Group(
                tuple(group),
                tuple(indices[axis] for axis in group),
                tuple(source.shape[axis] for axis in group),
                tuple(iterator for iterator in grid if iterator in used),
            )
        )
    source = graph.transpose(source, [axis for group in members for axis in group])
    return graph.reshape(source, [prod(group.extents) for group in groups]), groups


def move_groups(graph: Graph, value: Value, groups: list[_Group]) -> tuple[list[Iterator], Value]:
    """Reads along each merged axis; the iterators of the result's axes, and the result."""
    progressions = [None if group.leaves else _progression(group.position) for group in groups]
    taken = [_Progression(0, 1, ()) if found is None else found for found in progressions]
    extents = [value.shape[axis] if found is None else found.count for axis, found in enumerate(progressions)]
    value = graph.slice(value, [found.start for found in taken], extents, [found.step for found in taken])
    axes = [
        list(group.iterators if found is None else found.iterators)
        for group, found in zip(groups, progressions, strict=True)
    ]
    for axis in reversed(range(len(groups))):
        if progressions[axis] is None:
            positions = _positions(graph, groups[axis])
            shape = (*value.shape[:axis], *positions.shape, *value.shape[axis + 1 :])
            value = graph.emit("Gather", [value, positions], shape, value.dtype, axis=axis)
    order = [iterator for group in axes for iterator in group]
    return order, graph.reshape(value, [iterator.extent for iterator in order])


def _padded(graph: Graph, source: Value, access: Access) -> tuple[Value, tuple[Index, ...]]:
    """The part of the source that the indices reach with ``outside`` around it, and the indices into that.

    The source itself where nothing outside is read, or where so much would be added that masks are better.
    """
    reached = [(index.low, index.high + 1) for index in access.indices]
    begins = [max(0, -low) for low, _ in reached]
    ends = [max(0, high - extent) for (_, high), extent in zip(reached, source.shape, strict=True)]
    if not any(begins) and not any(ends):
        return source, access.indices
    if prod(high - low for low, high in reached) > _PADDED_LIMIT * prod(source.shape) + 64:
        return source, access.indices
    starts = [max(0, low) for low, _ in reached]
    stops = [min(high, extent) for (_, high), extent in zip(reached, source.shape, strict=True)]
    if any(start >= stop for start, stop in zip(starts, stops, strict=True)):
        return source, access.indices  # wholly outside along an axis
    extents = [stop - start for start, stop in zip(starts, stops, strict=True)]
    part = graph.slice(source, starts, extents, [1] * source.rank)
    padded = graph.pad(part, begins, ends, access.outside.value)
    return padded, tuple(index - low for index, (low, _) in zip(access.indices, reached, strict=True))


def _progression(index: Index) -> _Progression | None:
    """The index as a progression; None where it is none. A constant is one of a single element."""
    if index.is_constant:
        return _Progression(index.constant, 1, ())
    terms = sorted(index.terms, key=lambda term: -term[1])
    iterators: list[Iterator] = []
    for atom, _ in terms:
        if not isinstance(atom, Iterator):
            return None
        iterators.append(atom)
    step = terms[-1][1]
    expected = step
    for iterator, (_, coefficient) in zip(reversed(iterators), reversed(terms), strict=True):
        if coefficient != expected or step <= 0:
            return None
        expected *= iterator.extent
    return _Progression(index.constant, step, tuple(iterators))


def _positions(graph: Graph, group: _Group) -> Value:
    """Where each point of the group's iterators reads along the merged axis; clamped where it can leave the box."""
    if not group.leaves:
        return emit_index(graph, group.position, group.iterators)
    total: Value | None = None
    for index, extent, stride in zip(group.indices, group.extents, group.strides, strict=True):
        position = emit_index(graph, index, group.iterators)
        if index.low < 0 or index.high >= extent:
            position = emit_clamped(graph, position, extent)
        part = emit_scaled(graph, position, stride)
        total = part if total is None else emit_sum(graph, total, part)
    assert total is not None
    return total
