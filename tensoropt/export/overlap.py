"""Col2Im: ``Σ<h..> T[b.., h.., y + p − S·h ..]``, blocks added where they overlap."""

from __future__ import annotations

from math import prod

from tensoropt.export.graph import Value
from tensoropt.export.lowering import Lowering
from tensoropt.export.windows import CONVOLUTION_TYPES, Slide, is_unit, slide, to_traversal, whole
from tensoropt.ir.expression import Access, Reducer, Scope
from tensoropt.ir.index import Iterator
from tensoropt.ir.types import DataType


def overlapping_sum(lowering: Lowering, scope: Scope) -> Value | None:
    """The scope as a Col2Im, or None."""
    access = scope.body
    if scope.reducer is not Reducer.SUM or scope.dtype not in CONVOLUTION_TYPES or not isinstance(access, Access):
        return None
    if access.outside.value != 0:
        return None
    batch: dict[int, Iterator | None] = {}
    places: dict[Iterator, int] = {}
    blocks: dict[int, Slide] = {}
    for axis, (index, extent) in enumerate(zip(access.indices, access.source.shape, strict=True)):
        iterator = whole(index, int(extent))
        if iterator is not None and iterator in scope.reduction:
            places[iterator] = axis
        elif iterator in scope.traversal or is_unit(index, int(extent)):
            batch[axis] = iterator
        else:
            found = slide(index, int(extent), scope.traversal, scope.reduction)
            if found is None or found.output is None or found.stride != 1 or found.tap is None or found.dilation > 0:
                return None
            blocks[axis] = found
    taps = [found.tap for found in blocks.values() if found.tap is not None]
    used = [iterator for index in access.indices for iterator in index.iterators()]
    once = all(used.count(iterator) == (2 if iterator in taps else 1) for iterator in used)
    reduced = [iterator for iterator in scope.reduction if iterator.extent != 1]
    if not blocks or not once or set(taps) != set(places) or set(reduced) != set(taps):
        return None
    return _emit(lowering, scope, access, batch, places, blocks)


def _emit(
    lowering: Lowering,
    scope: Scope,
    access: Access,
    batch: dict[int, Iterator | None],
    places: dict[Iterator, int],
    blocks: dict[int, Slide],
) -> Value | None:
    graph, shape = lowering.graph, [int(extent) for extent in access.source.shape]
    slides = list(blocks.values())
    taps = [found.tap for found in slides if found.tap is not None]
    strides = [-found.dilation for found in slides]
    sizes = [shape[axis] for axis in blocks]
    pads: list[list[int]] = [[], []]
    for found, tap, stride, size in zip(slides, taps, strides, sizes, strict=True):
        end = stride * (tap.extent - 1) + size - found.start - found.outputs
        if found.start < 0 or end <= -stride:
            return None
        pads[0].append(found.start)
        pads[1].append(max(0, end))
    value = graph.transpose(lowering.values[access.source], [*batch, *blocks, *(places[tap] for tap in taps)])
    rows = prod(shape[axis] for axis in batch)
    value = graph.reshape(value, [rows, prod(sizes), prod(tap.extent for tap in taps)])
    outputs = [found.outputs for found in slides]
    operands = [graph.cast(value, DataType.FLOAT32), graph.integers(outputs), graph.integers(sizes)]
    result = graph.emit(
        "Col2Im", operands, [rows, 1, *outputs], DataType.FLOAT32, strides=strides, pads=[*pads[0], *pads[1]]
    )
    named = [*batch.values(), *(found.output for found in slides)]
    return to_traversal(lowering, graph.cast(result, scope.dtype), named, scope)
