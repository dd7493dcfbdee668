"""Axes cut where reads of them begin and end.

``A[i] + B[i − |A|]`` cuts i at |A|, ``X[i + 5]`` cuts X at 5. Between the cuts nothing changes, so each segment can become
shorter on its own; segments of different axes that are read together become shorter together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tensoropt.ir.expression import Scope, Tensor, accesses, scopes
from tensoropt.ir.index import Index, Iterator

Axis = tuple[Scope, Iterator] | tuple[Tensor, int]
"""An iterator of a scope (a traversal iterator is an axis of its scope too) or an axis of a tensor."""

Cuts = Mapping[Axis, list[int]]
"""For each axis where its segments begin, and its extent."""

_MOST_CUTS = 24
"""Axes with more cuts than this are left whole."""


def axis_of(source: Tensor | Scope, place: int) -> Axis:
    """The axis of a source at a place."""
    return (source, place) if isinstance(source, Tensor) else (source, source.traversal[place])


def axes_of(root: Scope) -> dict[Axis, int]:
    """All iterators of a scope and of those nested in it, and the axes of their tensors, with their extents; outer ones first."""
    found: dict[Axis, int] = {}
    for scope in reversed(scopes(root)):
        for iterator in (*scope.traversal, *scope.reduction):
            found[scope, iterator] = iterator.extent
        for access in accesses(scope.body):
            for place, extent in enumerate(access.source.shape):
                found.setdefault(axis_of(access.source, place), int(extent))
    return found


def shift_of(index: Index) -> Iterator | None:
    """The iterator i of an index ``i + constant``; None where it is another one."""
    if len(index.terms) != 1 or index.terms[0][1] != 1:
        return None
    atom = index.terms[0][0]
    return atom if isinstance(atom, Iterator) else None


def cuts_of(root: Scope) -> Cuts:
    """Where the axes are cut. Cuts of one axis are cuts of all that are read together with it."""
    extents = axes_of(root)
    cuts: dict[Axis, set[int]] = {axis: {0, extent} for axis, extent in extents.items()}
    shifts: list[tuple[Axis, Axis, int]] = []
    for scope in scopes(root):
        for access in accesses(scope.body):
            for place, index in enumerate(access.indices):
                axis = axis_of(access.source, place)
                iterator = shift_of(index)
                if index.is_constant:
                    cuts[axis] |= _inside((index.constant, index.constant + 1), extents[axis])
                elif iterator is not None:
                    shifts.append(((scope, iterator), axis, index.constant))
                    cuts[scope, iterator] |= _inside((-index.constant, extents[axis] - index.constant), iterator.extent)
                    cuts[axis] |= _inside((index.constant, iterator.extent + index.constant), extents[axis])
    changed = True
    while changed:
        changed = False
        for reader, axis, shift in shifts:
            forward = _inside((cut + shift for cut in cuts[reader]), extents[axis])
            backward = _inside((cut - shift for cut in cuts[axis]), extents[reader])
            if forward <= cuts[axis] and backward <= cuts[reader]:
                continue
            if max(len(cuts[axis]), len(cuts[reader])) > _MOST_CUTS:
                return {whole: sorted({0, extent}) for whole, extent in extents.items()}
            cuts[axis] |= forward
            cuts[reader] |= backward
            changed = True
    return {axis: sorted(found) for axis, found in cuts.items()}


def _inside(cuts: Iterable[int], extent: int) -> set[int]:
    return {cut for cut in cuts if 0 < cut < extent}
