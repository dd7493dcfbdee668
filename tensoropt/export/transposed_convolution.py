"""ConvTranspose: ``Σ<c.., h..> A[n.., c, h..] · K[c, f.., y + p − S·h ..]``, the axes in any order.

With a dilation D the kernel is read at ``e // D + far·(e % D)`` for ``e = y + p − S·h``, outside its box unless D divides e.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from tensoropt.export.convolution import two_accesses
from tensoropt.export.graph import Value
from tensoropt.export.lowering import Lowering
from tensoropt.export.windows import CONVOLUTION_TYPES, Grouping, Slide, grouping, is_unit, slide, to_traversal, whole
from tensoropt.ir.expression import Access, Scope
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo, combine
from tensoropt.ir.types import DataType

_SPATIAL_LIMIT = 3


@dataclass(slots=True)
class _Match:
    """What each axis of the kernel is. In a slide here the tap is the image's iterator, with the coefficient −stride."""

    image: Access
    kernel: Access
    shared: list[int] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    filters: list[int] = field(default_factory=list)
    slides: dict[int, Slide] = field(default_factory=dict)
    dilations: dict[int, int] = field(default_factory=dict)
    grouped: Grouping | None = None


def transposed_convolution(lowering: Lowering, scope: Scope) -> Value | None:
    """The scope as a ConvTranspose, or None."""
    pair = two_accesses(scope)
    if pair is None or scope.dtype not in CONVOLUTION_TYPES:
        return None
    left, right = pair
    for image, kernel in ((left, right), (right, left)):
        match = _match(scope, image, kernel)
        if match is not None:
            return _emit(lowering, scope, match)
    return None


def _match(scope: Scope, image: Access, kernel: Access) -> _Match | None:
    if not image.stays_inside or (not kernel.stays_inside and kernel.outside.value != 0):
        return None
    whole_axes = [whole(index, int(extent)) for index, extent in _axes(image)]
    match = _Match(image, kernel)
    for axis, (index, extent) in enumerate(_axes(kernel)):
        iterator = whole(index, extent)
        if iterator is not None and iterator in whole_axes:
            (match.channels if iterator in scope.reduction else match.shared).append(axis)
        elif iterator in scope.traversal or is_unit(index, extent):
            match.filters.append(axis)
        elif index in image.indices:
            match.grouped = grouping(index, extent, scope.traversal, scope.reduction)
            if match.grouped is None:
                return None
            match.channels.append(axis)
        elif _is_group_filter(index):
            match.filters.append(axis)
        else:
            position, match.dilations[axis] = _undilated(index, extent)
            found = slide(position, extent, scope.traversal, scope.reduction)
            if found is None or found.output is None or found.stride != 1:
                return None
            if found.tap is not None and found.dilation > 0:
                return None
            match.slides[axis] = found
    return match if _is_complete(scope, match) else None


def _axes(access: Access) -> list[tuple[Index, int]]:
    return [(index, int(extent)) for index, extent in zip(access.indices, access.source.shape, strict=True)]


def _undilated(index: Index, extent: int) -> tuple[Index, int]:
    """``(e, D)`` where an index is ``e // D + far·(e % D)`` and leaves the axis unless D divides e, else ``(index, 1)``."""
    quotients = [atom for atom, unit in index.terms if isinstance(atom, FloorDiv) and unit == 1]
    rests = [(atom, far) for atom, far in index.terms if isinstance(atom, Modulo)]
    if len(quotients) != 1 or len(rests) != 1:
        return index, 1
    (quotient,), ((rest, far),) = quotients, rests
    divisor = rest.divisor
    others = combine([term for term in index.terms if term[0] not in (quotient, rest)], index.constant)
    position = quotient.index + others * divisor
    same = position // divisor + position % divisor * far is index
    leaves = position.low // divisor + far >= extent
    return (position, divisor) if same and leaves else (index, 1)


def _is_group_filter(index: Index) -> bool:
    match index.terms:
        case [(Modulo() as atom, 1)] if index.constant == 0:
            return len(atom.index.terms) == 1 and isinstance(atom.index.terms[0][0], Iterator)
        case _:
            return False


def _is_complete(scope: Scope, match: _Match) -> bool:
    """Whether every iterator is used as a transposed convolution uses it, and only so."""
    image, kernel = match.image, match.kernel
    if not 1 <= len(match.slides) <= _SPATIAL_LIMIT or all(found.tap is None for found in match.slides.values()):
        return False
    in_kernel = [iterator for index in kernel.indices for iterator in index.iterators()]
    in_image = [iterator for index in image.indices for iterator in index.iterators()]
    filters = [index for axis, index in enumerate(kernel.indices) if axis in match.filters]
    if match.grouped is None:
        simple = all(whole(index, extent) or is_unit(index, extent) for index, extent in _axes(image))
        if not simple or any(_is_group_filter(index) for index in filters) or len(set(in_kernel)) != len(in_kernel):
            return False
    else:
        # f // F selects the channels and f % F the filter in its group; both have to be the same f
        quotient = match.grouped.filter
        allowed = [Index.of(quotient) % match.grouped.group_filters]
        others = [index for index in image.indices if index.iterators() and index not in kernel.indices]
        simple = all(len(index.terms) == 1 and index.is_affine for index in others)
        if (
            match.shared
            or len(match.channels) != 1
            or not simple
            or [i for i in filters if i.terms] != [i for i in allowed if i.terms]
        ):
            return False
    if len(set(in_image)) != len(in_image):
        return False
    taps = [found.tap for found in match.slides.values()]
    reduced = [iterator for iterator in scope.reduction if iterator.extent != 1]
    outputs = [found.output for found in match.slides.values()]
    if any(iterator in in_image for iterator in outputs):
        return False
    plain = match.grouped is None and set(match.dilations.values()) == {1}
    if plain and all(found.tap is None or found.dilation == -1 for found in match.slides.values()):
        # with stride 1 either operand can be the kernel, as a Conv or as a ConvTranspose: the smaller one should be
        image_size = prod(tap.extent for tap in taps if tap is not None)
        if image_size < prod(found.extent for found in match.slides.values()):
            return False
    return all(iterator in in_kernel and iterator in in_image for iterator in reduced) and all(
        tap is None or Index.of(tap) in image.indices for tap in taps
    )


def _emit(lowering: Lowering, scope: Scope, match: _Match) -> Value | None:
    graph, kernel_shape = lowering.graph, [int(extent) for extent in match.kernel.source.shape]
    spatial = sorted(match.slides)
    slides = [match.slides[axis] for axis in spatial]
    order = [*match.shared, *match.channels, *match.filters, *spatial]
    kernel = graph.transpose(lowering.values[match.kernel.source], order)
    channels = prod(kernel_shape[axis] for axis in (*match.shared, *match.channels))
    filters = prod(kernel_shape[axis] for axis in match.filters)
    groups = prod(kernel_shape[axis] for axis in match.shared) if match.grouped is None else match.grouped.count
    sizes = [kernel_shape[axis] for axis in spatial]
    kernel = graph.reshape(kernel, [channels, filters, *sizes])

    wanted = [match.kernel.indices[axis] for axis in (*match.shared, *match.channels)]
    wanted += [Index.of(found.tap) for found in slides if found.tap is not None]
    inner = [match.image.indices.index(index) for index in wanted if index.terms]
    batch = [axis for axis in range(len(match.image.indices)) if axis not in inner]
    names = [whole(index, extent) for index, extent in _axes(match.image)]
    image = graph.transpose(lowering.values[match.image.source], [*batch, *inner])
    rows = prod(image.shape[: len(batch)])
    lengths = [1 if found.tap is None else found.tap.extent for found in slides]
    image = graph.reshape(image, [rows, channels, *lengths])

    strides = [1 if found.tap is None else -found.dilation for found in slides]
    begins, ends, extra, before, after = [], [], [], [], []
    dilations = [match.dilations[axis] for axis in spatial]
    reaches = [(size - 1) * dilation + 1 for size, dilation in zip(sizes, dilations, strict=True)]
    for found, stride, length, reach in zip(slides, strides, lengths, reaches, strict=True):
        end = stride * (length - 1) + reach - found.start - found.outputs
        begins.append(max(0, found.start))
        ends.append(max(0, end))
        before.append(max(0, -found.start))
        extra.append(-end if 0 < -end < stride else 0)
        after.append(max(0, -end) - extra[-1])
    counts = [found.outputs - low - high for found, low, high in zip(slides, before, after, strict=True)]
    if min(counts) <= 0:
        return None  # only padding is left
    result = graph.emit(
        "ConvTranspose",
        [graph.cast(image, DataType.FLOAT32), graph.cast(kernel, DataType.FLOAT32)],
        [rows, groups * filters, *counts],
        DataType.FLOAT32,
        kernel_shape=sizes,
        strides=strides,
        dilations=dilations,
        pads=[*begins, *ends],
        output_padding=extra,
        group=groups,
    )
    result = graph.pad(result, [0, 0, *before], [0, 0, *after], 0)
    grouped = [] if match.grouped is None else [match.grouped.filter]
    inside = [whole(match.kernel.indices[axis], kernel_shape[axis]) for axis in (*match.shared, *match.filters)]
    places = [*(names[axis] for axis in batch), *(grouped or inside), *(found.output for found in slides)]
    return to_traversal(lowering, graph.cast(result, scope.dtype), places, scope)
