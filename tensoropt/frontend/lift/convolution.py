"""Conv in any number of dimensions."""

from __future__ import annotations

from tensoropt.frontend.lift.axes import output_iterators, spatial_iterators, tap_iterators
from tensoropt.frontend.lift.node import Node, Operand
from tensoropt.frontend.lift.scalars import apply
from tensoropt.frontend.lift.windows import window_of
from tensoropt.ir.expression import Access, Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Statement


def lift_convolution(node: Node) -> list[Statement]:
    """``L<n, f, y..> Σ<c, r..> A[n, g·C + c, S·y + D·r − p ..] · K[f, c, r..]`` and the bias; g = f // (filters in a group)."""
    image, kernel = node.operand(0), node.operand(1)
    groups = int(node.attribute("group", 1))
    batch, filters = Iterator("n", node.shape[0]), Iterator("f", node.shape[1])
    space = spatial_iterators(node.shape[2:])
    window = window_of(node, kernel.shape[2:], image.shape[2:], node.shape[2:])
    taps = tap_iterators(window.kernel)
    channel = Iterator("c", kernel.shape[1])
    source_channel = Index.of(filters) // max(node.shape[1] // groups, 1) * kernel.shape[1] + channel
    positions = [window.position(axis, space[axis], taps[axis]) for axis in range(len(taps))]
    body = apply("mul", image.read([batch, source_channel, *positions]), kernel.read([filters, channel, *taps]))
    return contraction_with_bias(node, [batch, filters, *space], body, [channel, *taps], node.optional(2))


def contraction_with_bias(
    node: Node, traversal: list[Iterator], body: Scalar, reduction: list[Iterator], bias: Operand | None
) -> list[Statement]:
    """The pure contraction, and a second statement where a bias of the second axis is added."""
    if bias is None:
        return [node.compute(node.output, traversal, body, reduction)]
    total = node.intermediate("sum", node.output.dtype, node.shape)
    iterators = output_iterators(node.shape)
    shifted = apply("add", Access(total, iterators), bias.at([iterators[1]]))
    return [node.compute(total, traversal, body, reduction), node.compute(node.output, iterators, shifted)]
