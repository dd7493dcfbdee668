"""Max, average and Lp pooling, sliding and global."""

from __future__ import annotations

import math

import numpy as np

from tensoropt.frontend.lift.axes import flatten_index, spatial_iterators, tap_iterators
from tensoropt.frontend.lift.node import Node
from tensoropt.frontend.lift.scalars import apply, literal, where
from tensoropt.frontend.lift.windows import Window, window_of
from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Reducer, Scalar, reducer_identity
from tensoropt.ir.index import Iterator
from tensoropt.ir.program import Array, Statement
from tensoropt.ir.types import DataType


def lift_max_pool(node: Node) -> list[Statement]:
    """``L<n, c, y..> max<r..> A[n, c, S·y + D·r − p ..]`` with −∞ (or the lowest integer) outside.

    The second output is the first flat position that holds the maximum.
    """
    image = node.operand(0)
    leading, space, taps, window = _pooling_axes(node)
    lowest = reducer_identity(Reducer.MAX, image.dtype)
    positions = [window.position(axis, space[axis], taps[axis]) for axis in range(len(taps))]
    value = image.read([*leading, *positions], lowest)
    statements: list[Statement] = [node.compute(node.output, [*leading, *space], value, taps, Reducer.MAX)]
    places = node.outputs[1] if len(node.outputs) > 1 else None
    if places is not None:
        plane = flatten_index(leading, image.shape[:2]) * math.prod(image.shape[2:])
        if node.attribute("storage_order", 0):
            inner = flatten_index(positions[::-1], image.shape[:1:-1])
        else:
            inner = flatten_index(positions, image.shape[2:])
        hit = Apply("eq", value, Access(node.output, [*leading, *space]))
        candidate = where(hit, IndexValue(plane + inner), Constant(1 << 62, DataType.INT64))
        statements.append(node.compute(places, [*leading, *space], candidate, taps, Reducer.MIN))
    return statements


def lift_average_pool(node: Node) -> list[Statement]:
    """A sum over the window, then a division by the number of positions that count."""
    leading, space, taps, window = _pooling_axes(node)
    positions = [window.position(axis, space[axis], taps[axis]) for axis in range(len(taps))]
    body = node.operand(0).at([*leading, *positions])
    counts = _counts(node, window, bool(node.attribute("count_include_pad", 0)))
    total = node.intermediate("sum", node.output.dtype, node.shape)
    value: Scalar = Access(total, [*leading, *space])
    if (counts == counts.reshape(-1)[:1]).all():
        divisor: Scalar = literal(float(counts.reshape(-1)[0]), value) if counts.size else literal(1, value)
    else:
        divisor = node.new_constant("count", counts.astype(value.dtype.numpy)).read(space)
    return [
        node.compute(total, [*leading, *space], body, taps),
        node.compute(node.output, [*leading, *space], apply("div", value, divisor)),
    ]


def _counts(node: Node, window: Window, padding_counts: bool) -> Array:
    """For each output position how many taps lie inside the input, or inside the padded input where padding counts."""
    image = node.operand(0)
    counts = np.ones((), np.int64)
    for axis, extent in enumerate(image.shape[2:]):
        starts = np.arange(node.shape[2 + axis])[:, None] * window.strides[axis] - window.begins[axis]
        taps = starts + np.arange(window.kernel[axis])[None, :] * window.dilations[axis]
        low = -window.begins[axis] if padding_counts else 0
        high = extent + (window.ends[axis] if padding_counts else 0)
        counts = np.multiply.outer(counts, np.maximum(((taps >= low) & (taps < high)).sum(axis=1), 1))
    return counts


def lift_lp_pool(node: Node) -> list[Statement]:
    """``(Σ<r..> |A|^p)^(1/p)``."""
    leading, space, taps, window = _pooling_axes(node)
    positions = [window.position(axis, space[axis], taps[axis]) for axis in range(len(taps))]
    order = float(node.attribute("p", 2))
    return _root_of_powers(node, [*leading, *space], taps, node.operand(0).at([*leading, *positions]), order)


def lift_global_lp_pool(node: Node) -> list[Statement]:
    """The p-norm over all spatial axes."""
    leading, outer, inner = _global_axes(node)
    return _root_of_powers(
        node, [*leading, *outer], inner, node.operand(0).at([*leading, *inner]), float(node.attribute("p", 2))
    )


def _root_of_powers(
    node: Node, traversal: list[Iterator], taps: list[Iterator], value: Scalar, order: float
) -> list[Statement]:
    magnitude = apply("abs", value)
    power = magnitude if order == 1 else apply("mul", value, value) if order == 2 else apply("pow", magnitude, order)
    total = node.intermediate("sum", node.output.dtype, node.shape)
    folded: Scalar = Access(total, traversal)
    root = folded if order == 1 else apply("sqrt", folded) if order == 2 else apply("pow", folded, 1 / order)
    return [node.compute(total, traversal, power, taps), node.compute(node.output, traversal, root)]


def lift_global_max_pool(node: Node) -> list[Statement]:
    """The maximum over all spatial axes."""
    leading, outer, inner = _global_axes(node)
    return [node.compute(node.output, [*leading, *outer], node.operand(0).at([*leading, *inner]), inner, Reducer.MAX)]


def lift_global_average_pool(node: Node) -> list[Statement]:
    """The sum over all spatial axes, divided by their size."""
    leading, outer, inner = _global_axes(node)
    size = math.prod(iterator.extent for iterator in inner)
    total = node.intermediate("sum", node.output.dtype, node.shape)
    mean = apply("div", Access(total, [*leading, *outer]), Constant(float(size), node.output.dtype))
    return [
        node.compute(total, [*leading, *outer], node.operand(0).at([*leading, *inner]), inner),
        node.compute(node.output, [*leading, *outer], mean),
    ]


def _pooling_axes(node: Node) -> tuple[list[Iterator], list[Iterator], list[Iterator], Window]:
    image = node.operand(0)
    window = window_of(node, node.integers("kernel_shape", []), image.shape[2:], node.shape[2:])
    leading = [Iterator("n", node.shape[0]), Iterator("c", node.shape[1])]
    return leading, list(spatial_iterators(node.shape[2:])), list(tap_iterators(window.kernel)), window


def _global_axes(node: Node) -> tuple[list[Iterator], list[Iterator], list[Iterator]]:
    image = node.operand(0)
    leading = [Iterator("n", node.shape[0]), Iterator("c", node.shape[1])]
    return leading, list(spatial_iterators(node.shape[2:])), list(tap_iterators(image.shape[2:]))
