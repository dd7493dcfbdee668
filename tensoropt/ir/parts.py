"""Values that lie in another: what a concatenation joins, and slices that are contiguous in memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import row_major_strides


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor and where its first element lies in the whole, counted in elements.

    ``strides``: how many elements of the whole lie from one of its own to the next along each axis, where it is not contiguous
    there.
    """

    tensor: Tensor
    start: int
    strides: tuple[int, ...] | None = None


def parts_of(scope: Scope) -> tuple[Part, ...]:
    """The tensors that a concatenation puts one behind the other along an axis, if they are all of it; none for anything else.

    They are contiguous where the axes before it have one element.
    """
    pieces = _pieces(scope.body)
    axis = None if scope.reduction or len(pieces) < 2 else _joined_axis(scope, pieces)
    if axis is None:
        return ()
    apart = prod(iterator.extent for iterator in scope.traversal[:axis]) != 1
    strides = row_major_strides(scope.shape) if apart else None
    joined, inner = scope.traversal[axis], prod(iterator.extent for iterator in scope.traversal[axis + 1 :])
    parts: list[Part] = []
    start = 0
    for piece, end in [*((one, stop) for one, _, stop in pieces[:-1]), (pieces[-1][0], joined.extent)]:
        source = piece.source
        expected = [Index.of(iterator) for iterator in scope.traversal]
        expected[axis] = expected[axis] - start
        extents = [iterator.extent for iterator in scope.traversal]
        extents[axis] = end - start
        if not isinstance(source, Tensor) or list(piece.indices) != expected or list(source.shape) != extents:
            return ()
        parts.append(Part(source, start * inner, strides))
        start = end
    return tuple(parts) if len({part.tensor for part in parts}) == len(parts) else ()


def range_of(scope: Scope) -> Part | None:
    """The tensor of which the scope is a contiguous range of elements (a slice or part of a split), and where it starts."""
    body = scope.body
    if scope.reduction or not isinstance(body, Access) or not isinstance(body.source, Tensor) or not body.stays_inside:
        return None
    if len(body.indices) != len(scope.traversal):
        return None
    start, rows = 0, 1
    for index, iterator, extent in zip(body.indices, scope.traversal, body.source.shape, strict=True):
        offset = index - Index.of(iterator)
        cut = iterator.extent != extent or offset.constant != 0
        if not offset.is_constant or (cut and rows != 1):  # the rows of the axes before would be apart
            return None
        start = start * int(extent) + offset.constant
        rows *= iterator.extent
    return Part(body.source, start)


def _pieces(body: Scalar) -> list[tuple[Access, Iterator, int]]:
    """The accesses of a chain of selections by the position along one axis, each with the end of its range (but the last)."""
    found: list[tuple[Access, Iterator, int]] = []
    axis: Iterator | None = None
    while isinstance(body, Apply):
        match body:
            case Apply(
                operation="where",
                arguments=(
                    Apply(operation="lt", arguments=(IndexValue() as place, Constant() as end)),
                    Access() as piece,
                    rest,
                ),
            ) if len(place.index.terms) == 1 and place.index is Index.of(place.index.terms[0][0]):  # type: ignore[arg-type]
                (atom, _), *_ = place.index.terms
                if not isinstance(atom, Iterator) or axis not in (None, atom):
                    return []
                axis = atom
                found.append((piece, atom, int(end.value)))
                body = rest
            case _:
                return []
    if axis is None or not isinstance(body, Access):
        return []
    return [*found, (body, axis, 0)]


def _joined_axis(scope: Scope, pieces: list[tuple[Access, Iterator, int]]) -> int | None:
    return next((place for place, one in enumerate(scope.traversal) if one is pieces[0][1]), None)
