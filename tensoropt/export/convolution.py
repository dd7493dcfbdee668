"""Conv: ``Σ<c.., r..> A[n.., g·C + c, S·y + D·r − p ..] · K[f.., c, r..]``, the axes in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from tensoropt.export.graph import Value
from tensoropt.export.lowering import Lowering
from tensoropt.export.windows import (
    CONVOLUTION_TYPES,
    Grouping,
    Slide,
    fitted,
    flipped,
    grouping,
    is_unit,
    slide,
    to_traversal,
    whole,
)
from tensoropt.ir.expression import Access, Reducer, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import product_factors
from tensoropt.ir.types import DataType

_SPATIAL_LIMIT = 3


@dataclass(slots=True)
class _Match:
    """What each axis of the image is. ``shared`` are iterators of image, kernel and output; each of them is a group of its own."""

    image: Access
    kernel: Access
    batch: list[int] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)
    slides: dict[int, Slide] = field(default_factory=dict)
    grouped: Grouping | None = None

    def index(self, axis: int) -> tuple[Index, int]:
        """How an axis of the image is read, and its extent."""
        return self.image.indices[axis], int(self.image.source.shape[axis])


def convolution(lowering: Lowering, scope: Scope) -> Value | None:
    """The scope as a Conv, or None."""
    pair = two_accesses(scope)
    if pair is None or scope.dtype not in CONVOLUTION_TYPES:
        return None
    left, right = pair
    for image, kernel in ((left, right), (right, left)):
        match = _match(scope, image, kernel)
        if match is not None:
            return _emit(lowering, scope, match)
    return None


def two_accesses(scope: Scope) -> tuple[Access, Access] | None:
    """The operands of a sum of products of two accesses."""
    if scope.reducer is not Reducer.SUM:
        return None
    match product_factors(scope.body):
        case [Access() as left, Access() as right]:
            return left, right
        case _:
            return None


def _match(scope: Scope, image: Access, kernel: Access) -> _Match | None:
    own = read_whole(kernel)
    if own is None or (not image.stays_inside and image.outside.value != 0):
        return None
    match = _Match(image, kernel)
    filters = [iterator for iterator in own if iterator in scope.traversal]
    depth = [iterator for iterator in own if iterator in scope.reduction]
    for axis in range(len(image.indices)):
        index, extent = match.index(axis)
        iterator = whole(index, extent)
        grouped = grouping(index, extent, filters, depth)
        if iterator in depth:
            match.channels.append(axis)
        elif iterator in filters:
            match.shared.append(axis)
        elif grouped is not None:
            if match.grouped is not None:
                return None
            match.channels.append(axis)
            match.grouped = grouped
        elif iterator in scope.traversal or is_unit(index, extent):
            match.batch.append(axis)
        else:
            found = slide(index, extent, [it for it in scope.traversal if it not in own], depth)
            if found is None:
                return None
            match.slides[axis] = found
    _take_flat_windows(match)
    return match if _is_complete(scope, match, own) else None


def read_whole(access: Access) -> list[Iterator] | None:
    """The iterators of an access that reads each axis whole by an iterator of its own, or at its one element; else None."""
    iterators: list[Iterator] = []
    for index, extent in zip(access.indices, access.source.shape, strict=True):
        iterator = whole(index, int(extent))
        if iterator is not None and iterator not in iterators:
            iterators.append(iterator)
        elif not is_unit(index, int(extent)):
            return None
    return iterators


def _take_flat_windows(match: _Match) -> None:
    """Windows that indices do not show, where both operands are laid out as Conv has them: those of one element that slide along an
    axis, and beside others those that cover an axis and so have one position."""
    image, kernel = match.image, match.kernel
    if len(image.indices) != len(kernel.indices):
        return
    if match.slides:
        for axis in [axis for axis in match.channels if axis >= 2 and kernel.indices[axis] is image.indices[axis]]:
            index, extent = match.index(axis)
            match.channels.remove(axis)
            match.slides[axis] = Slide(None, whole(index, extent), 1, 1, 0, extent)
    if [*match.channels, *match.shared] != [1]:
        return
    for axis in [axis for axis in match.batch if axis >= 2]:
        if is_unit(kernel.indices[axis], int(kernel.source.shape[axis])):
            index, extent = match.index(axis)
            match.batch.remove(axis)
            match.slides[axis] = Slide(whole(index, extent), None, 1, 1, 0, extent)


def _is_complete(scope: Scope, match: _Match, own: list[Iterator]) -> bool:
    """Whether every iterator is used as a convolution uses it, and only so."""
    if not 1 <= len(match.slides) <= _SPATIAL_LIMIT:
        return False
    used = [iterator for axis in range(len(match.image.indices)) for iterator in match.image.indices[axis].iterators()]
    if len(set(used)) != len(used):
        return False
    if match.grouped is not None:
        # the quotient of one filter iterator selects the channels, so it has to be the only one
        if match.shared or [iterator for iterator in own if iterator in scope.traversal] != [match.grouped.filter]:
            return False
        if len(match.channels) != 1:
            return False
    return all(iterator in own and iterator in used for iterator in scope.reduction if iterator.extent != 1)


def _emit(lowering: Lowering, scope: Scope, match: _Match) -> Value:
    graph = lowering.graph
    spatial = sorted(match.slides)
    slides = [match.slides[axis] for axis in spatial]
    names = {axis: whole(*match.index(axis)) for axis in (*match.batch, *match.channels, *match.shared)}
    shared = [names[axis] for axis in match.shared]
    if match.grouped is None:
        depth = [names[axis] for axis in match.channels]
        groups = prod(iterator.extent for iterator in shared if iterator is not None)
    else:
        depth = [match.grouped.channel]
        groups = match.grouped.count
    own = [
        whole(index, int(extent)) for index, extent in zip(match.kernel.indices, match.kernel.source.shape, strict=True)
    ]
    filters = [iterator for iterator in own if iterator in scope.traversal and iterator not in shared]
    order = [*shared, *filters, *depth, *(found.tap for found in slides)]
    axes = [own.index(iterator) for iterator in order if iterator is not None]
    axes += [axis for axis in range(len(own)) if axis not in axes]
    kernel = graph.transpose(lowering.values[match.kernel.source], axes)
    count = prod(iterator.extent for iterator in (*shared, *filters) if iterator is not None)
    width = prod(iterator.extent for iterator in depth if iterator is not None)
    kernel = graph.reshape(kernel, [count, width, *(found.taps for found in slides)])
    kernel = flipped(graph, kernel, [2 + axis for axis, found in enumerate(slides) if found.dilation < 0])
    slides = [found.forward() for found in slides]

    image = lowering.values[match.image.source]
    image = graph.transpose(image, [*match.batch, *match.shared, *match.channels, *spatial])
    rows = prod(match.index(axis)[1] for axis in match.batch)
    image = graph.reshape(image, [rows, groups * width, *(found.extent for found in slides)])
    image, begins, ends = fitted(graph, image, slides)
    result = graph.emit(
        "Conv",
        [graph.cast(image, DataType.FLOAT32), graph.cast(kernel, DataType.FLOAT32)],
        [rows, count, *(found.outputs for found in slides)],
        DataType.FLOAT32,
        kernel_shape=[found.taps for found in slides],
        strides=[found.stride for found in slides],
        dilations=[found.dilation for found in slides],
        pads=[*begins, *ends],
        group=groups,
    )
    places = [*(names[axis] for axis in match.batch), *shared, *filters, *(found.output for found in slides)]
    return to_traversal(lowering, graph.cast(result, scope.dtype), places, scope)
