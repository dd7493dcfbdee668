"""Movers that keep every element: reshapes, transposes, broadcasts and pixel shuffles."""

from __future__ import annotations

from tensoropt.frontend.lift.axes import flatten_index, output_iterators, unflatten_index
from tensoropt.frontend.lift.node import Node, NotExpressed
from tensoropt.ir.expression import Constant
from tensoropt.ir.index import Index
from tensoropt.ir.program import Statement


def lift_reshape(node: Node) -> list[Statement]:
    """Reshape, Flatten, Squeeze and Unsqueeze: the same row-major position in another shape."""
    iterators = output_iterators(node.shape)
    position = flatten_index(iterators, node.shape)
    return [node.compute(node.output, iterators, node.operand(0).at(unflatten_index(position, node.operand(0).shape)))]


def lift_transpose(node: Node) -> list[Statement]:
    """Axes in another order."""
    rank = node.operand(0).rank
    order = node.integers("perm", list(reversed(range(rank))))
    iterators = output_iterators(node.shape)
    indices = [iterators[order.index(axis)] for axis in range(rank)]
    return [node.compute(node.output, iterators, node.operand(0).at(indices))]


def lift_identity(node: Node) -> list[Statement]:
    """A copy."""
    iterators = output_iterators(node.shape)
    return [node.compute(node.output, iterators, node.operand(0).at(iterators))]


def lift_dropout(node: Node) -> list[Statement]:
    """Dropout at inference: a copy, and a mask that is true everywhere."""
    training = node.optional(2)
    if training is not None and (training.uniform is None or bool(training.uniform)):
        raise NotExpressed("dropout in training mode")
    if node.opset < 7 and not node.attribute("is_test", 0):
        raise NotExpressed("dropout in training mode")
    iterators = output_iterators(node.shape)
    statements: list[Statement] = []
    if node.outputs[0] is not None:
        statements.append(node.compute(node.outputs[0], iterators, node.operand(0).at(iterators)))
    mask = node.outputs[1] if len(node.outputs) > 1 else None
    if mask is not None:
        statements.append(
            node.compute(mask, output_iterators([int(extent) for extent in mask.shape]), Constant(True, mask.dtype))
        )
    return statements


def lift_expand(node: Node) -> list[Statement]:
    """Broadcasting to a constant shape."""
    iterators = output_iterators(node.shape)
    return [node.compute(node.output, iterators, node.operand(0).broadcast(iterators))]


def lift_tile(node: Node) -> list[Statement]:
    """Repetition of the whole tensor along axes: indices modulo the extents."""
    iterators = output_iterators(node.shape)
    operand = node.operand(0)
    indices = [
        Index.of(found) % extent if extent else Index.of(0)
        for found, extent in zip(iterators, operand.shape, strict=True)
    ]
    return [node.compute(node.output, iterators, operand.at(indices))]


def lift_depth_to_space(node: Node) -> list[Statement]:
    """Blocks of channels become blocks of pixels; DCR takes the block from the outer channel digits, CRD from the inner ones."""
    block = int(node.attribute("blocksize"))
    iterators = output_iterators(node.shape)
    batch, channel, row, column = (Index.of(found) for found in iterators)
    offset = row % block * block + column % block
    depth = node.shape[1]
    source = channel * (block * block) + offset if node.attribute("mode", "DCR") == "CRD" else offset * depth + channel
    return [node.compute(node.output, iterators, node.operand(0).at([batch, source, row // block, column // block]))]


def lift_space_to_depth(node: Node) -> list[Statement]:
    """Blocks of pixels become channels."""
    block = int(node.attribute("blocksize"))
    iterators = output_iterators(node.shape)
    batch, channel, row, column = (Index.of(found) for found in iterators)
    depth = node.operand(0).shape[1]
    if node.attribute("mode", "DCR") == "CRD":
        offset, plane = channel % (block * block), channel // (block * block)
    else:
        offset, plane = channel // depth, channel % depth
    indices = [batch, plane, row * block + offset // block, column * block + offset % block]
    return [node.compute(node.output, iterators, node.operand(0).at(indices))]
