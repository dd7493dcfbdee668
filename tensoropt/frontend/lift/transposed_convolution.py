"""ConvTranspose as a gather over input positions."""

from __future__ import annotations

from tensoropt.frontend.lift.axes import spatial_iterators, tap_iterators
from tensoropt.frontend.lift.convolution import contraction_with_bias
from tensoropt.frontend.lift.node import Node
from tensoropt.frontend.lift.scalars import apply
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Statement


def lift_transposed_convolution(node: Node) -> list[Statement]:
    """The affine adjoint ``L<n, f, y..> Σ<c, h..> A[n, c, h..] · K[c, f, y + p − S·h ..]``: the box of K guards.

    Along a dilated axis of stride 1 the sum runs over the taps, ``A[.., y + p − D·r] · K[.., r]``. Along an axis that is
    strided and dilated K is read at ``e // D + far·(e mod D)`` with ``e = y + p − S·h``, which leaves the box where D
    does not divide e.
    """
    image, kernel = node.operand(0), node.operand(1)
    groups = int(node.attribute("group", 1))
    rank = image.rank - 2
    strides, dilations = node.integers("strides", [1] * rank), node.integers("dilations", [1] * rank)
    begins = _begins(node, kernel.shape[2:], image.shape[2:], strides, dilations)
    batch, filters = Iterator("n", node.shape[0]), Iterator("f", node.shape[1])
    space = [
        Iterator({"d": "z", "h": "y", "w": "x"}.get(found.name, found.name), found.extent)
        for found in spatial_iterators(node.shape[2:])
    ]
    sources, taps = spatial_iterators(image.shape[2:]), tap_iterators(kernel.shape[2:])
    channel = Iterator("c", image.shape[1] // groups)
    group_filters = kernel.shape[1]
    source_channel = Index.of(filters) // max(group_filters, 1) * channel.extent + channel
    reduction = [channel]
    image_position: list[Index] = []
    kernel_position: list[Index] = []
    for axis in range(rank):
        stride, dilation, extent = strides[axis], dilations[axis], kernel.shape[2 + axis]
        target = Index.of(space[axis]) + begins[axis]
        if stride == 1 and (dilation > 1 or extent < image.shape[2 + axis]):
            reduction.append(taps[axis])
            image_position.append(target - Index.of(taps[axis]) * dilation)
            kernel_position.append(Index.of(taps[axis]))
            continue
        reduction.append(sources[axis])
        image_position.append(Index.of(sources[axis]))
        offset = target - Index.of(sources[axis]) * stride
        if dilation == 1:
            kernel_position.append(offset)
        else:
            far = extent + max(0, -(offset.low // dilation))
            kernel_position.append(offset // dilation + offset % dilation * far)
    body = apply(
        "mul",
        image.read([batch, source_channel, *image_position]),
        kernel.read([source_channel, Index.of(filters) % max(group_filters, 1), *kernel_position]),
    )
    return contraction_with_bias(node, [batch, filters, *space], body, reduction, node.optional(2))


def _begins(
    node: Node, kernel: tuple[int, ...], inputs: tuple[int, ...], strides: list[int], dilations: list[int]
) -> list[int]:
    """The padding that is cut off at the start of each axis."""
    rank = len(kernel)
    extra = node.integers("output_padding", [0] * rank)
    mode = node.attribute("auto_pad", "NOTSET")
    if mode == "VALID" or (mode == "NOTSET" and "output_shape" not in node.attributes):
        return node.integers("pads", [0] * 2 * rank)[:rank] if mode == "NOTSET" else [0] * rank
    begins: list[int] = []
    for axis in range(rank):
        full = strides[axis] * (inputs[axis] - 1) + extra[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        total = max(full - node.shape[2 + axis], 0)
        begins.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
    return begins
