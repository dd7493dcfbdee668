"""MaxPool and AveragePool: ``max<r..> A[n.., S·y + D·r − p ..]`` and the same with a sum."""

from __future__ import annotations

import math
from math import prod

from tensoropt.export.graph import Value
from tensoropt.export.lowering import Lowering
from tensoropt.export.scalars import emit_operation
from tensoropt.export.windows import CONVOLUTION_TYPES, Slide, fitted, is_unit, slide, to_traversal, whole
from tensoropt.ir.expression import Access, Reducer, Scope
from tensoropt.ir.index import Iterator
from tensoropt.ir.types import DataType

_SPATIAL_LIMIT = 3

_PADDED_LIMIT = 4
"""An image is padded by a node of its own up to so many times its size."""


def pooling(lowering: Lowering, scope: Scope) -> Value | None:
    """The scope as a MaxPool, or as an AveragePool times the size of its window; None where it is neither."""
    access = scope.body
    if scope.dtype not in CONVOLUTION_TYPES or scope.reducer not in (Reducer.MAX, Reducer.SUM):
        return None
    if not isinstance(access, Access):
        return None
    batch: dict[int, Iterator | None] = {}
    slides: dict[int, Slide] = {}
    for axis, (index, extent) in enumerate(zip(access.indices, access.source.shape, strict=True)):
        iterator = whole(index, int(extent))
        if iterator in scope.traversal or is_unit(index, int(extent)):
            batch[axis] = iterator
        else:
            found = slide(index, int(extent), scope.traversal, scope.reduction)
            if found is None:
                return None
            slides[axis] = found.forward()
    used = [iterator for index in access.indices for iterator in index.iterators()]
    covered = all(iterator in used for iterator in scope.reduction if iterator.extent != 1)
    moving = any(found.output is not None and found.tap is not None for found in slides.values())
    if not covered or not moving or len(set(used)) != len(used) or len(slides) > _SPATIAL_LIMIT:
        return None
    return _emit(lowering, scope, access, batch, slides)


def _emit(
    lowering: Lowering, scope: Scope, access: Access, batch: dict[int, Iterator | None], slides: dict[int, Slide]
) -> Value | None:
    graph, neutral = lowering.graph, -math.inf if scope.reducer is Reducer.MAX else 0
    windows = [slides[axis] for axis in sorted(slides)]
    source = graph.transpose(lowering.values[access.source], [*batch, *sorted(slides)])
    extents = [source.shape[position] for position in range(len(batch))]
    shape = [extents[0] if len(batch) > 1 else 1, prod(extents[1:]) if len(batch) > 1 else prod(extents)]
    image = graph.reshape(source, [*shape, *(found.extent for found in windows)])
    image, begins, ends = fitted(graph, image, windows)
    pads = [*begins, *ends]
    fits = all(pad < size for pad, size in zip(pads, [found.taps for found in windows] * 2, strict=True))
    if any(pads) and (access.outside.value != neutral or not fits):
        padded = prod(extent + low + high for extent, low, high in zip(image.shape[2:], begins, ends, strict=True))
        if padded > _PADDED_LIMIT * prod(image.shape[2:]):
            return None
        image = graph.pad(image, [0, 0, *begins], [0, 0, *ends], access.outside.value)
        pads = [0] * len(pads)
    result = graph.emit(
        "MaxPool" if scope.reducer is Reducer.MAX else "AveragePool",
        [graph.cast(image, DataType.FLOAT32)],
        [*shape, *(found.outputs for found in windows)],
        DataType.FLOAT32,
        kernel_shape=[found.taps for found in windows],
        strides=[found.stride for found in windows],
        pads=pads,
        **(
            {}
            if all(found.dilation == 1 for found in windows)
            else {"dilations": [found.dilation for found in windows]}
        ),
        **({} if scope.reducer is Reducer.MAX else {"count_include_pad": 1}),
    )
    if scope.reducer is Reducer.SUM:
        count = graph.scalar(prod(found.taps for found in windows), DataType.FLOAT32)
        result = emit_operation(graph, "mul", [result, count])
    places = [*batch.values(), *(found.output for found in windows)]
    return to_traversal(lowering, graph.cast(result, scope.dtype), places, scope)
