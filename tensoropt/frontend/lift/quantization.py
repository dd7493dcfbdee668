"""Integer operators: QuantizeLinear, DequantizeLinear, and products of shifted integers."""

from __future__ import annotations

from dataclasses import dataclass

from tensoropt.frontend.lift.axes import normal_axis, output_iterators, spatial_iterators, tap_iterators
from tensoropt.frontend.lift.contraction import matrix_axes
from tensoropt.frontend.lift.node import Node, NotExpressed, Operand
from tensoropt.frontend.lift.scalars import apply, cast
from tensoropt.frontend.lift.windows import window_of
from tensoropt.ir.expression import Access, Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Statement
from tensoropt.ir.types import DataType

_RANGES = {
    DataType.INT8: (-128, 127),
    DataType.UINT8: (0, 255),
    DataType.INT16: (-32768, 32767),
    DataType.UINT16: (0, 65535),
}


def _parameter(node: Node, parameter: Operand, iterators: tuple[Iterator, ...]) -> Scalar:
    """A scale or zero point: for the whole tensor, for each position of an axis, or for blocks along it."""
    if parameter.rank == 0:
        return parameter.at([])
    axis = normal_axis(int(node.attribute("axis", 1)), len(iterators))
    if parameter.rank == 1 and parameter.shape[0] == 1:
        return parameter.at([0])
    block = int(node.attribute("block_size", 0))
    if block:
        return parameter.at(
            Index.of(found) // block if position == axis else found for position, found in enumerate(iterators)
        )
    return parameter.at([iterators[axis]])


def lift_dequantize(node: Node) -> list[Statement]:
    """``(x − zero) · scale``."""
    iterators = output_iterators(node.shape)
    value = cast(node.operand(0).at(iterators), DataType.INT32)
    zero = node.optional(2)
    if zero is not None:
        value = apply("sub", value, cast(_parameter(node, zero, iterators), DataType.INT32))
    scale = _parameter(node, node.operand(1), iterators)
    wide = apply("mul", cast(value, DataType.FLOAT32), cast(scale, DataType.FLOAT32))
    return [node.compute(node.output, iterators, cast(wide, node.output.dtype))]


def lift_quantize(node: Node) -> list[Statement]:
    """``saturate(round(x / scale) + zero)``."""
    if node.output.dtype not in _RANGES:
        raise NotExpressed("quantisation to this type")
    if node.operand(0).dtype is not DataType.FLOAT32:
        raise NotExpressed("quantisation of this type")
    iterators = output_iterators(node.shape)
    scaled = apply("div", node.operand(0).at(iterators), _parameter(node, node.operand(1), iterators))
    rounded = apply("round", scaled)
    zero = node.optional(2)
    if zero is not None:
        rounded = apply("add", rounded, cast(_parameter(node, zero, iterators), DataType.FLOAT32))
    low, high = _RANGES[node.output.dtype]
    clamped = apply("min", apply("max", rounded, low), high)
    return [node.compute(node.output, iterators, cast(clamped, node.output.dtype))]


def _shifted(value: Scalar, zero: Scalar | None) -> Scalar:
    """The integer without its zero point, in i32."""
    wide = cast(value, DataType.INT32)
    return wide if zero is None else apply("sub", wide, cast(zero, DataType.INT32))


def lift_matmul_integer(node: Node) -> list[Statement]:
    """``Σ<k> (A − a) · (B − b)`` in i32, with a zero point for the whole tensor, each row of A or each column of B."""
    left, right = node.operand(0), node.operand(1)
    axes = matrix_axes(left, right, node.shape)
    zeros = [node.optional(2), node.optional(3)]
    shifts: list[Scalar | None] = []
    for zero, lines in zip(zeros, (axes.rows, axes.columns), strict=True):
        if zero is not None and zero.rank > 1:
            raise NotExpressed("zero points for each matrix")
        shifts.append(None if zero is None else zero.at([0 if zero.shape == (1,) else lines[0]] * zero.rank))
    one = _shifted(left.read(axes.left), shifts[0])
    other = _shifted(right.read(axes.right), shifts[1])
    return [node.compute(node.output, axes.traversal, apply("mul", one, other), [axes.depth])]


@dataclass(frozen=True, slots=True)
class _ShiftedConvolution:
    """``Σ<c, r..> (A − a) · (K − k)`` in i32."""

    traversal: list[Iterator]
    body: Scalar
    reduction: list[Iterator]


def _shifted_convolution(
    node: Node, image: Operand, kernel: Operand, zero: Operand | None, kernel_zero: Operand | None
) -> _ShiftedConvolution:
    """The product of shifted integers. Padding counts as the zero point, so it gives nothing."""
    if zero is not None and zero.uniform is None:
        raise NotExpressed("a zero point that is not constant")
    groups = int(node.attribute("group", 1))
    batch, filters = Iterator("n", node.shape[0]), Iterator("f", node.shape[1])
    space, taps = spatial_iterators(node.shape[2:]), tap_iterators(kernel.shape[2:])
    window = window_of(node, kernel.shape[2:], image.shape[2:], node.shape[2:])
    channel = Iterator("c", kernel.shape[1])
    source = Index.of(filters) // max(node.shape[1] // groups, 1) * kernel.shape[1] + channel
    positions = [window.position(axis, space[axis], taps[axis]) for axis in range(len(taps))]
    outside = 0 if zero is None or zero.uniform is None else int(zero.uniform)
    one = _shifted(image.read([batch, source, *positions], outside), None if zero is None else zero.at([0] * zero.rank))
    shift = None if kernel_zero is None else _for_filter(kernel_zero, filters)
    other = _shifted(kernel.read([filters, channel, *taps]), shift)
    return _ShiftedConvolution([batch, filters, *space], apply("mul", one, other), [channel, *taps])


def _for_filter(parameter: Operand, filters: Iterator) -> Scalar:
    """A scale or zero point of the weights: one for all filters or one for each."""
    return parameter.at([0 if parameter.shape == (1,) else filters] * parameter.rank)


def lift_conv_integer(node: Node) -> list[Statement]:
    """A convolution of shifted integers in i32."""
    found = _shifted_convolution(node, node.operand(0), node.operand(1), node.optional(2), node.optional(3))
    return [node.compute(node.output, found.traversal, found.body, found.reduction)]


def lift_qlinear_conv(node: Node) -> list[Statement]:
    """An integer convolution, the bias in i32, and the requantisation with the scales of input, filter and output."""
    if node.operand(1).dtype is not DataType.FLOAT32 or node.output.dtype not in _RANGES:
        raise NotExpressed("scales of this type")
    found = _shifted_convolution(node, node.operand(0), node.operand(3), node.operand(2), node.operand(5))
    total = node.intermediate("sum", DataType.INT32, node.shape)
    iterators = found.traversal
    image_scale, scale, zero = (
        parameter.at([0] * parameter.rank) for parameter in (node.operand(position) for position in (1, 6, 7))
    )
    value: Scalar = Access(total, iterators)
    bias = node.optional(8)
    if bias is not None:
        value = apply("add", value, bias.at([iterators[1]]))
    factor = apply("div", apply("mul", image_scale, _for_filter(node.operand(4), iterators[1])), scale)
    result = _requantised(value, factor, zero, node.output.dtype)
    return [
        node.compute(total, iterators, found.body, found.reduction),
        node.compute(node.output, iterators, result),
    ]


def _requantised(value: Scalar, factor: Scalar, zero: Scalar, dtype: DataType) -> Scalar:
    """``saturate(round(value · factor) + zero)``."""
    rounded = apply("round", apply("mul", cast(value, DataType.FLOAT32), factor))
    shifted = apply("add", rounded, cast(zero, DataType.FLOAT32))
    low, high = _RANGES[dtype]
    return cast(apply("min", apply("max", shifted, low), high), dtype)


def lift_qlinear_matmul(node: Node) -> list[Statement]:
    """An integer product, then its requantisation with the product of the scales."""
    left, right = node.operand(0), node.operand(3)
    parameters = [node.operand(position) for position in (1, 2, 4, 5, 6, 7)]
    if any(parameter.rank > 0 and parameter.shape != (1,) for parameter in parameters):
        raise NotExpressed("scales for each row or column")
    one_scale, one_zero, other_scale, other_zero, scale, zero = (
        parameter.at([0] * parameter.rank) for parameter in parameters
    )
    if one_scale.dtype is not DataType.FLOAT32 or node.output.dtype not in _RANGES:
        raise NotExpressed("scales of this type")
    axes = matrix_axes(left, right, node.shape)
    body = apply("mul", _shifted(left.read(axes.left), one_zero), _shifted(right.read(axes.right), other_zero))
    total = node.intermediate("sum", DataType.INT32, node.shape)
    iterators = output_iterators(node.shape)
    factor = apply("div", apply("mul", one_scale, other_scale), scale)
    result = _requantised(Access(total, iterators), factor, zero, node.output.dtype)
    return [
        node.compute(total, axes.traversal, body, [axes.depth]),
        node.compute(node.output, iterators, result),
    ]
