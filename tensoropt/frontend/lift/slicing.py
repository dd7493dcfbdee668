"""Slice, Split and Concat with constant positions."""

from __future__ import annotations

from itertools import accumulate

from tensoropt.frontend.lift.axes import normal_axis, output_iterators
from tensoropt.frontend.lift.node import Node
from tensoropt.frontend.lift.scalars import select
from tensoropt.ir.index import Index
from tensoropt.ir.program import Statement


def lift_slice(node: Node) -> list[Statement]:
    """``start + step · i`` along each sliced axis."""
    operand = node.operand(0)
    if node.opset < 10:
        starts = node.integers("starts", [])
        axes: list[int] | None = node.attribute("axes")
        steps: list[int] | None = None
    else:
        starts = [int(value) for value in node.constant(1).reshape(-1)]
        axes, steps = node.optional_integers(3), node.optional_integers(4)
    axes = list(range(len(starts))) if axes is None else list(axes)
    steps = [1] * len(starts) if steps is None else steps
    iterators = output_iterators(node.shape)
    indices = [Index.of(found) for found in iterators]
    for start, axis, step in zip(starts, axes, steps, strict=True):
        axis = normal_axis(int(axis), operand.rank)
        extent = operand.shape[axis]
        start = start + extent if start < 0 else start
        start = min(max(start, 0), extent if step > 0 else extent - 1)
        indices[axis] = indices[axis] * step + start
    return [node.compute(node.output, iterators, operand.at(indices))]


def lift_split(node: Node) -> list[Statement]:
    """One statement for each part that is used."""
    operand = node.operand(0)
    axis = normal_axis(int(node.attribute("axis", 0)), operand.rank)
    given = node.optional_integers(1) if node.optional(1) is not None else node.attribute("split")
    if given is None:
        count = int(node.attribute("num_outputs", len(node.outputs)))
        size = -(-operand.shape[axis] // count)
        given = [size] * count
    starts = [0, *accumulate(int(size) for size in given)]
    statements: list[Statement] = []
    for start, output in zip(starts, node.outputs, strict=False):
        if output is not None:
            iterators = output_iterators([int(extent) for extent in output.shape])
            indices = [Index.of(found) for found in iterators]
            indices[axis] = indices[axis] + start
            statements.append(node.compute(output, iterators, operand.at(indices)))
    return statements


def lift_concat(node: Node) -> list[Statement]:
    """A chain of selections by the position along the joined axis."""
    axis = normal_axis(int(node.attribute("axis", 1)), len(node.shape))
    iterators = output_iterators(node.shape)
    pieces = []
    start = 0
    for position in range(len(node.operands)):
        operand = node.operand(position)
        indices = [Index.of(found) for found in iterators]
        indices[axis] = indices[axis] - start
        start += operand.shape[axis]
        if operand.shape[axis]:
            pieces.append((start, operand.at(indices)))
    if not pieces:
        pieces.append((0, node.operand(0).at([Index.of(0)] * len(node.shape))))
    return [node.compute(node.output, iterators, select(pieces, iterators[axis]))]
