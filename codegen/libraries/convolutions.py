"""A stage as a convolution of images, channel by channel, that cuDNN computes; one of lines is one of images of one row."""

from __future__ import annotations

from dataclasses import dataclass, replace

from codegen.libraries.form import Aligned, Found, end_of, operands_of
from codegen.libraries.operations import Convolution
from codegen.schedules.context import Epilogue
from tensoropt.ir.expression import Access
from tensoropt.ir.index import FloorDiv, Index, Iterator

_ALIGNED = 16
"""Bytes at whose multiples cuDNN takes its tensors to lie."""


@dataclass(frozen=True, slots=True)
class _Window:
    """How one axis is read: ``stride·output + dilation·tap − pad``, over an axis of ``size``."""

    size: int
    taps: int = 1
    outputs: int = 1
    pad: int = 0
    stride: int = 1
    dilation: int = 1
    output: Iterator | None = None

    @property
    def is_possible(self) -> bool:
        """Whether cuDNN's windows, padded alike on both sides, are as many."""
        count = (self.size + 2 * self.pad - self.dilation * (self.taps - 1) - 1) // self.stride + 1
        return self.pad >= 0 and self.stride > 0 and self.dilation > 0 and count == self.outputs


def convolution_of_stage(epilogue: Epilogue, aligned: Aligned) -> Found | None:
    """The convolution that a stage is; None where it is none, or not one of cuDNN's."""
    operands, end = operands_of(epilogue.stage.scope), end_of(epilogue)
    result = epilogue.stage.result
    if operands is None or end is None or (end.relu and end.bias is None):
        return None
    for image, weights in (operands, operands[::-1]):
        found = _convolution(epilogue, image, weights)
        if found is None:
            continue
        convolution, filters = found
        bias = () if end.bias is None else (end.bias.source,)
        if end.bias is not None and not (
            end.bias.indices == (Index.of(filters) if filters else Index.of(0),) and end.bias.stays_inside
        ):
            return None
        sources = (image.source, weights.source, *bias, result)
        same = {image.dtype, weights.dtype, result.dtype, *(() if end.bias is None else (end.bias.dtype,))}
        if len(same) > 1 or any(aligned(source) % _ALIGNED for source in sources):
            return None
        return Found(replace(convolution, bias=end.bias is not None, relu=end.relu), sources)
    return None


def _convolution(epilogue: Epilogue, image: Access, weights: Access) -> tuple[Convolution, Iterator | None] | None:
    """The convolution without its end, and the iterator over its filters."""
    scope = epilogue.stage.scope
    rank = len(image.indices)
    if rank not in (3, 4) or len(weights.indices) != rank or not weights.stays_inside:
        return None
    if not image.stays_inside and image.outside.value != 0:
        return None
    own = [_whole(index, int(extent)) for index, extent in zip(weights.indices, weights.source.shape, strict=True)]
    if any(found is False for found in own):
        return None
    filters, channel, *taps = (found if isinstance(found, Iterator) else None for found in own)
    count, width, *kernel = (int(extent) for extent in weights.source.shape)
    size = [int(extent) for extent in image.source.shape]
    images = _whole(image.indices[0], size[0])
    groups = _groups(image.indices[1], filters, channel, count, width)
    if images is False or groups is None or groups * width != size[1] or count % groups:
        return None
    windows = [
        _window(index, extent, tap, points, scope.traversal)
        for index, extent, tap, points in zip(image.indices[2:], size[2:], taps, kernel, strict=True)
    ]
    outer = [images if isinstance(images, Iterator) else None, filters]
    if any(window is None or not window.is_possible for window in windows):
        return None
    found = [window for window in windows if window is not None]
    outer += [window.output for window in found]
    used = [iterator for iterator in (*outer, channel, *taps) if iterator is not None]
    every = [iterator for iterator in (*scope.traversal, *scope.reduction) if iterator.extent != 1]
    if len(set(used)) != len(used) or set(every) != {iterator for iterator in used if iterator.extent != 1}:
        return None
    if not all(iterator in scope.traversal for iterator in outer if iterator is not None):
        return None
    if not all(iterator in scope.reduction for iterator in (channel, *taps) if iterator is not None):
        return None
    written = epilogue.output_index()
    if not written.is_affine or written.constant:
        return None
    extents = [size[0], count, *(window.outputs for window in found)]
    strides = _strides(written, outer, extents)
    if rank == 3:
        found.insert(0, _Window(1))
        strides.insert(2, strides[2] * extents[2])
        kernel.insert(0, 1)
    first, second = found
    return Convolution(
        size[0],
        size[1],
        (first.size, second.size),
        count,
        (kernel[0], kernel[1]),
        (first.pad, second.pad),
        (first.stride, second.stride),
        (first.dilation, second.dilation),
        groups,
        (strides[0], strides[1], strides[2], strides[3]),
        image.dtype.value,
    ), filters


def _whole(index: Index, extent: int) -> Iterator | bool | None:
    """The iterator that goes over all of an axis; None for an axis of one element; False for another index."""
    if extent == 1:
        return None if index.is_constant and index.constant == 0 else _lone(index, extent)
    return _lone(index, extent)


def _lone(index: Index, extent: int) -> Iterator | bool:
    if index.constant or len(index.terms) != 1 or index.terms[0][1] != 1:
        return False
    atom = index.terms[0][0]
    return atom if isinstance(atom, Iterator) and atom.extent == extent else False


def _groups(index: Index, filters: Iterator | None, channel: Iterator | None, count: int, width: int) -> int | None:
    """The groups of an axis of channels read at ``(filter // filters of a group)·width + channel``; None for another index."""
    rest = index if channel is None else index - channel
    if rest.is_constant:
        return 1 if rest.constant == 0 else None
    if rest.constant or len(rest.terms) != 1 or filters is None:
        return None
    atom, factor = rest.terms[0]
    if factor != width:
        return None
    if atom is filters:
        return count
    if isinstance(atom, FloorDiv) and atom.index is Index.of(filters) and count % atom.divisor == 0:
        return count // atom.divisor
    return None


def _window(
    index: Index, size: int, tap: Iterator | None, taps: int, traversal: tuple[Iterator, ...]
) -> _Window | None:
    """How an axis is read; None where that is no window of a convolution."""
    if not index.is_affine:
        return None
    dilation = 1 if tap is None or tap.extent == 1 else index.coefficient(tap)
    rest = [(atom, factor) for atom, factor in index.terms if atom is not tap]
    match rest:
        case []:
            room = size - 2 * index.constant - dilation * (taps - 1)  # one window: the next would begin behind it
            return _Window(size, taps, 1, -index.constant, max(1, room), dilation)
        case [(Iterator() as output, int(stride))] if output in traversal:
            return _Window(size, taps, output.extent, -index.constant, stride, dilation, output)
        case _:
            return None


def _strides(written: Index, iterators: list[Iterator | None], extents: list[int]) -> list[int]:
    """The result's strides; those of an axis of one element as if it were row-major."""
    found: list[int] = []
    whole = 1
    for iterator, extent in reversed([*zip(iterators, extents, strict=True)]):
        stride = written.coefficient(iterator) if iterator is not None and extent != 1 else whole
        found.insert(0, stride)
        whole = stride * extent
    return found
