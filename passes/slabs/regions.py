"""Regions: which part of each source a scope reads when it is computed for a part of its box, and the scope for that part.

A part is a box of positions. What an index reads over a box follows from its bounds there, so that windows have their halo, strides
skip what nothing reads, and reshapes and transposes need no case of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import lcm, prod

from tensoropt.ir.expression import (
    Access,
    IndexValue,
    Scalar,
    Scope,
    Tensor,
    accesses,
    fresh_iterators,
    leaves,
    map_scalar,
    scopes,
)
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo

Box = tuple[range, ...]
"""Positions along each axis."""

Source = Tensor | Scope


def whole_box(source: Source) -> Box:
    """All positions of a source."""
    return tuple(range(int(extent)) for extent in source.shape)


def volume(box: Box) -> int:
    """Points of a box."""
    return prod(len(positions) for positions in box)


def is_contiguous(box: Box, source: Source) -> bool:
    """Whether a box is one range of its source's elements in row-major order."""
    cut = [axis for axis, (own, every) in enumerate(zip(box, whole_box(source), strict=True)) if own != every]
    return not cut or all(len(positions) == 1 for positions in box[: cut[-1]])


@lru_cache(maxsize=1 << 14)
def read_boxes(root: Scope, box: Box) -> Mapping[Source, Box]:
    """The smallest boxes known to hold what is read of every source when a scope is computed for a box; itself included."""
    boxes: dict[Source, Box] = {root: box}
    for scope in reversed(scopes(root)):
        if scope not in boxes:
            continue
        moved = _moved(scope, _parts(scope, boxes[scope]), boxes[scope])
        for access in accesses(scope.body):
            read = tuple(
                _positions(index.substitute(moved), int(extent))
                for index, extent in zip(access.indices, access.source.shape, strict=True)
            )
            known = boxes.get(access.source)
            boxes[access.source] = read if known is None else tuple(map(_hull, known, read))
    return boxes


@lru_cache(maxsize=1 << 12)
def units(root: Scope) -> tuple[int, ...]:
    """For each axis the positions at whose multiples divisions and remainders of the scope's iterators start anew.

    Those of nested scopes count where they are read at the scope's own position. Moved by another amount they would not simplify,
    and what is a convolution by tiles for all of the box would not be one for the part.
    """
    found: dict[Scope, tuple[int, ...]] = {}
    for scope in scopes(root):
        found[scope] = tuple(
            lcm(
                1,
                *(divisor for index in _indices(scope) for divisor in _divisors(index, one)),
                *(
                    unit
                    for access in accesses(scope.body)
                    if isinstance(access.source, Scope)
                    for index, unit in zip(access.indices, found[access.source], strict=True)
                    if (index - Index.of(one)).is_constant
                ),
            )
            for one in scope.traversal
        )
    return found[root]


def aligned(scope: Scope, box: Box) -> Box:
    """The smallest larger box that starts and ends at multiples of the scope's units, or at its ends."""
    return tuple(
        range(own.start // unit * unit, min(-(-own.stop // unit) * unit, one.extent))
        for one, own, unit in zip(scope.traversal, box, units(scope), strict=True)
    )


def restricted(root: Scope, boxes: Mapping[Source, Box], held: Mapping[Tensor, tuple[Tensor, Box]]) -> Scope:
    """The scope for the box that `read_boxes` was asked for. ``held``: the tensors that stand for parts of others, and which."""
    made: dict[Scope, Scope] = {}
    for scope in scopes(root):
        if scope not in boxes:
            continue
        traversal = _parts(scope, boxes[scope])
        moved = _moved(scope, traversal, boxes[scope])

        def leaf(node: Scalar, moved: Mapping[Iterator, Index] = moved) -> Scalar:
            match node:
                case Access():
                    indices = [index.substitute(moved) for index in node.indices]
                    source, box = node.source, None
                    if isinstance(source, Scope):
                        source, box = made[source], boxes[source]
                    elif source in held:
                        source, box = held[source]
                    if box is not None:
                        indices = [index - own.start for index, own in zip(indices, box, strict=True)]
                    return Access(source, indices, node.outside)
                case IndexValue():
                    return IndexValue(node.index.substitute(moved), node.dtype)
                case _:
                    return node

        made[scope] = Scope(traversal, map_scalar(scope.body, leaf), scope.reduction, scope.reducer)
    return made[root]


def _parts(scope: Scope, box: Box) -> list[Iterator]:
    """An iterator over the box's part of each axis: the scope's own where that is all of it."""
    traversal: list[Iterator] = []
    taken = {*scope.traversal, *scope.reduction}
    for one, positions in zip(scope.traversal, box, strict=True):
        if len(positions) == one.extent:
            traversal.append(one)
            continue
        taken.discard(one)
        part = Iterator(one.name, len(positions))
        traversal.append(fresh_iterators([part], taken)[part])
        taken.add(traversal[-1])
    return traversal


def _moved(scope: Scope, parts: Sequence[Iterator], box: Box) -> dict[Iterator, Index]:
    """The iterators over parts of their extents, in terms of the iterators over those parts."""
    return {
        one: Index.of(part) + positions.start
        for one, part, positions in zip(scope.traversal, parts, box, strict=True)
        if len(positions) != one.extent
    }


def _positions(index: Index, extent: int) -> range:
    """The positions within an axis that an index takes; one of them where it takes none."""
    low, high = min(max(index.low, 0), extent - 1), min(max(index.high, 0), extent - 1)
    return range(max(low, 0), high + 1)


def _hull(one: range, other: range) -> range:
    return range(min(one.start, other.start), max(one.stop, other.stop))


def _indices(scope: Scope) -> list[Index]:
    """The indices of a scope's own body."""
    found: list[Index] = []
    for leaf in leaves(scope.body):
        if isinstance(leaf, Access):
            found += leaf.indices
        elif isinstance(leaf, IndexValue):
            found.append(leaf.index)
    return found


def _divisors(index: Index, iterator: Iterator) -> list[int]:
    found = []
    for atom, _ in index.terms:
        if isinstance(atom, (FloorDiv, Modulo)) and iterator in atom.index.iterators():
            found += [atom.divisor, *_divisors(atom.index, iterator)]
    return found
