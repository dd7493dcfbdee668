"""Batch, layer, group, instance, RMS and Lp normalisation. (ONNX's function body does MeanVarianceNormalization.)"""

from __future__ import annotations

import math

import numpy as np

from tensoropt.frontend.lift.axes import normal_axis, output_iterators
from tensoropt.frontend.lift.node import Node, NotExpressed
from tensoropt.frontend.lift.scalars import apply, cast, literal
from tensoropt.ir.expression import Access, Scalar, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Compute, Statement
from tensoropt.ir.types import HALVES, DataType, Extent, TensorType


def lift_batch_normalization(node: Node) -> list[Statement]:
    """``x · scale + shift`` for each channel, both folded in f64 where the parameters are constant."""
    if node.attribute("training_mode", 0):
        return _batch_statistics(node)
    node.only_first_output()
    if not node.attribute("spatial", 1):
        raise NotExpressed("non-spatial batch normalisation")
    if node.opset < 7 and not node.attribute("is_test", 0):
        raise NotExpressed("training batch normalisation")
    iterators = output_iterators(node.shape)
    value = node.operand(0).at(iterators)
    epsilon = float(node.attribute("epsilon", 1e-5))
    parameters = [node.operand(position) for position in range(1, 5)]
    channel = [iterators[1]] if len(iterators) > 1 else [Index.of(0)]
    if all(parameter.array is not None for parameter in parameters):
        scale, bias, mean, variance = (np.asarray(parameter.array).astype(np.float64) for parameter in parameters)
        with np.errstate(all="ignore"):
            factor = scale / np.sqrt(variance + epsilon)
            shift = bias - mean * factor
            dtype = node.output.dtype.numpy
            factors, shifts = (
                node.new_constant("scale", factor.astype(dtype)),
                node.new_constant("shift", shift.astype(dtype)),
            )
        result = apply("add", apply("mul", value, factors.at(channel)), shifts.at(channel))
    else:
        scale_, bias_, mean_, variance_ = (cast(parameter.at(channel), value.dtype) for parameter in parameters)
        deviation = apply("sqrt", apply("add", variance_, epsilon))
        result = apply("add", apply("mul", apply("div", apply("sub", value, mean_), deviation), scale_), bias_)
    return [node.compute(node.output, iterators, result)]


def _batch_statistics(node: Node) -> list[Statement]:
    """The normalisation by the mean and the variance of the batch, and where they are used the running mean and variance."""
    iterators = output_iterators(node.shape)
    if len(iterators) < 2:
        raise NotExpressed("a batch without channels")
    value = node.operand(0).at(iterators)
    kept = [iterators[1]]
    folded = [iterator for iterator in iterators if iterator is not iterators[1]]
    epsilon = float(node.attribute("epsilon", 1e-5))
    statements, mean, deviation = _moments(node, value, kept, folded, value.dtype, epsilon)
    scale, bias, *running = (cast(node.operand(position).at(kept), value.dtype) for position in range(1, 5))
    normal = apply("mul", apply("sub", value, mean), deviation)
    result = apply("add", apply("mul", normal, scale), bias)
    written: list[Statement] = [*statements, node.compute(node.output, iterators, result)]
    momentum = float(node.attribute("momentum", 0.9))
    count = float(math.prod(iterator.extent for iterator in folded))
    variance = apply("div", Access(statements[1].output, kept), literal(count, value.dtype))
    for position, before, now in ((1, running[0], mean), (2, running[1], variance)):
        output = node.outputs[position] if position < len(node.outputs) else None
        if output is not None:
            mixed = apply("add", apply("mul", before, momentum), apply("mul", now, 1 - momentum))
            written.append(node.compute(output, kept, cast(mixed, output.dtype)))
    return written


def _wide(dtype: DataType, stash: int) -> DataType:
    """The type in which statistics are computed: stash_type 1 is f32."""
    return DataType.FLOAT32 if stash == 1 and dtype in HALVES else dtype


def lift_layer_normalization(node: Node) -> list[Statement]:
    """Sum, sum of squared deviations, and the normalised value; Mean and InvStdDev where they are used."""
    operand = node.operand(0)
    axis = normal_axis(int(node.attribute("axis", -1)), operand.rank)
    wide = _wide(operand.dtype, int(node.attribute("stash_type", 1)))
    iterators = output_iterators(node.shape)
    value = cast(operand.at(iterators), wide)
    kept, folded = list(iterators[:axis]), list(iterators[axis:])
    statements, mean, deviation = _moments(node, value, kept, folded, wide, float(node.attribute("epsilon", 1e-5)))
    normal = cast(apply("mul", apply("sub", value, mean), deviation), node.output.dtype)
    result = apply("mul", normal, node.operand(1).broadcast(iterators))
    bias = node.optional(2)
    if bias is not None:
        result = apply("add", result, bias.broadcast(iterators))
    statements.append(node.compute(node.output, iterators, result))
    for position, statistic in ((1, mean), (2, deviation)):
        extra = node.outputs[position] if position < len(node.outputs) else None
        if extra is not None:
            ones = [Iterator(f"o{number}", 1) for number in range(len(folded))]
            statements.append(node.compute(extra, [*kept, *ones], cast(statistic, extra.dtype)))
    return list(statements)


def _moments(
    node: Node, value: Scalar, kept: list[Iterator], folded: list[Iterator], dtype: DataType, epsilon: float
) -> tuple[list[Compute], Scalar, Scalar]:
    """Statements for the sum and the sum of squared deviations; the mean and 1/√(variance + ε) as scalars over ``kept``."""
    shape = [iterator.extent for iterator in kept]
    count = float(math.prod(iterator.extent for iterator in folded))
    total = node.intermediate("sum", dtype, shape)
    spread = node.intermediate("deviation", dtype, shape)
    mean = apply("div", Access(total, kept), literal(count, dtype))
    difference = apply("sub", value, mean)
    statements = [
        node.compute(total, kept, value, folded),
        node.compute(spread, kept, apply("mul", difference, difference), folded),
    ]
    variance = apply("div", Access(spread, kept), literal(count, dtype))
    return statements, mean, apply("rsqrt", apply("add", variance, literal(epsilon, dtype)))


def lift_rms_normalization(node: Node) -> list[Statement]:
    """``x / √(mean x² + ε) · scale`` over the axes from ``axis`` on."""
    operand = node.operand(0)
    axis = normal_axis(int(node.attribute("axis", -1)), operand.rank)
    wide = _wide(operand.dtype, int(node.attribute("stash_type", 1)))
    iterators = output_iterators(node.shape)
    value = cast(operand.at(iterators), wide)
    kept, folded = list(iterators[:axis]), list(iterators[axis:])
    total = node.intermediate("square_sum", wide, [iterator.extent for iterator in kept])
    count = literal(float(math.prod(iterator.extent for iterator in folded)), wide)
    root = apply(
        "rsqrt", apply("add", apply("div", Access(total, kept), count), float(node.attribute("epsilon", 1e-5)))
    )
    normal = cast(apply("mul", value, root), node.output.dtype)
    scale = cast(node.operand(1).broadcast(iterators), node.output.dtype)
    return [
        node.compute(total, kept, apply("mul", value, value), folded),
        node.compute(node.output, iterators, apply("mul", normal, scale)),
    ]


def lift_instance_normalization(node: Node) -> list[Statement]:
    """Each channel of each image is normalised over space."""
    iterators = output_iterators(node.shape)
    value = node.operand(0).at(iterators)
    kept, folded = list(iterators[:2]), list(iterators[2:])
    statements, mean, deviation = _moments(
        node, value, kept, folded, value.dtype, float(node.attribute("epsilon", 1e-5))
    )
    normal = apply("mul", apply("sub", value, mean), deviation)
    channel = [iterators[1]]
    result = apply("add", apply("mul", normal, node.operand(1).at(channel)), node.operand(2).at(channel))
    return [*statements, node.compute(node.output, iterators, result)]


def lift_group_normalization(node: Node) -> list[Statement]:
    """Each group of channels is normalised together. Before opset 21 ONNX's function body does this."""
    operand = node.operand(0)
    groups = int(node.attribute("num_groups"))
    wide = _wide(operand.dtype, int(node.attribute("stash_type", 1)))
    size = node.shape[1] // groups
    batch, group, inner = Iterator("n", node.shape[0]), Iterator("g", groups), Iterator("c", size)
    space = output_iterators(node.shape)[2:]
    grouped = cast(operand.at([batch, Index.of(group) * size + inner, *space]), wide)
    epsilon = float(node.attribute("epsilon", 1e-5))
    total = Tensor(node.declare(f"{node.output.name}.sum"), TensorType(wide, (Extent(batch.extent), Extent(groups))))
    spread = Tensor(node.declare(f"{node.output.name}.deviation"), total.type)
    count = literal(float(size * math.prod(iterator.extent for iterator in space)), wide)
    difference = apply("sub", grouped, apply("div", Access(total, [batch, group]), count))
    iterators = output_iterators(node.shape)
    statistic = [Index.of(iterators[0]), Index.of(iterators[1]) // size]
    value = cast(operand.at(iterators), wide)
    variance = apply("div", Access(spread, statistic), count)
    centred = apply("sub", value, apply("div", Access(total, statistic), count))
    normal = cast(apply("mul", centred, apply("rsqrt", apply("add", variance, epsilon))), node.output.dtype)
    parameter = [iterators[1]]
    result = apply("add", apply("mul", normal, node.operand(1).at(parameter)), node.operand(2).at(parameter))
    return [
        node.compute(total, [batch, group], grouped, [inner, *space]),
        node.compute(spread, [batch, group], apply("mul", difference, difference), [inner, *space]),
        node.compute(node.output, iterators, result),
    ]


def lift_lp_normalization(node: Node) -> list[Statement]:
    """``x / ‖x‖_p`` along one axis, zero where the norm is zero (as ONNX Runtime does)."""
    iterators = list(output_iterators(node.shape))
    axis = normal_axis(int(node.attribute("axis", -1)), len(iterators))
    value = node.operand(0).at(iterators)
    kept = [iterator for position, iterator in enumerate(iterators) if position != axis]
    total = node.intermediate("norm", value.dtype, [iterator.extent for iterator in kept])
    first = int(node.attribute("p", 2)) == 1
    power = apply("abs", value) if first else apply("mul", value, value)
    norm: Scalar = Access(total, kept)
    norm = norm if first else apply("sqrt", norm)
    quotient = apply("where", apply("eq", norm, 0), literal(0, value), apply("div", value, norm))
    return [node.compute(total, kept, power, [iterators[axis]]), node.compute(node.output, iterators, quotient)]
