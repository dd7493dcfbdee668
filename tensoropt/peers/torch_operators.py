"""ONNX operators as PyTorch functions: from a node with its attributes to an operation on tensors.

Shapes, axes and pads are read when the operation is made, from constants, so that nothing in it depends on data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tensoropt.peers.peer import Refused
from tensoropt.peers.torch_node import Node, Operation, flat_pads, split_pads
from tensoropt.peers.torch_pointwise import POINTWISE
from tensoropt.peers.torch_windows import average_pool, convolution, max_pool, overlap_add, transposed_convolution


def _same(function: Operation) -> Callable[[Node], Operation]:
    """An operator without attributes."""
    return lambda node: function


def _batch_normalization(node: Node) -> Operation:
    """In training mode the running statistics, which nothing reads, are left out."""
    epsilon = node.get("epsilon", 1e-5)
    if node.get("training_mode", 0):
        return lambda value, scale, bias, mean, variance: functional.batch_norm(
            value, None, None, scale, bias, training=True, eps=epsilon
        )
    return lambda value, scale, bias, mean, variance: functional.batch_norm(
        value, mean, variance, scale, bias, eps=epsilon
    )


def _layer_normalization(node: Node) -> Operation:
    axis, epsilon = node.get("axis", -1), node.get("epsilon", 1e-5)
    return lambda value, scale, bias=None: functional.layer_norm(value, value.shape[axis:], scale, bias, epsilon)


def _cross_entropy(node: Node) -> Operation:
    """Without the logarithms as a second output."""
    reduction, ignored = node.get("reduction", "mean"), node.get("ignore_index", -100)
    return lambda scores, labels, weight=None: functional.cross_entropy(
        scores, labels.long(), weight, ignore_index=ignored, reduction=reduction
    )


def _lrn(node: Node) -> Operation:
    size, alpha = node.get("size", None), node.get("alpha", 1e-4)
    beta, bias = node.get("beta", 0.75), node.get("bias", 1.0)
    return lambda value: functional.local_response_norm(value, size, alpha, beta, bias)


def _gemm(node: Node) -> Operation:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    first, second = bool(node.get("transA", 0)), bool(node.get("transB", 0))

    def run(left: Any, right: Any, bias: Any = None) -> Any:
        left, right = left.T if first else left, right.T if second else right
        if bias is None:
            return alpha * (left @ right)
        return torch.addmm(bias, left, right, beta=beta, alpha=alpha)

    return run


def _softmax(node: Node) -> Operation:
    axis = node.get("axis", -1 if node.opset >= 13 else 1)
    if node.opset >= 13:
        return lambda value: torch.softmax(value, axis)
    return lambda value: torch.softmax(value.flatten(axis), axis).reshape(value.shape)


def _reshape(node: Node) -> Operation:
    extents = node.list(1, "shape") or []
    if node.get("allowzero", 0):
        return lambda value, shape=None: value.reshape(extents)
    return lambda value, shape=None: value.reshape(
        [value.shape[place] if extent == 0 else extent for place, extent in enumerate(extents)]
    )


def _flatten(node: Node) -> Operation:
    axis = node.get("axis", 1)
    return lambda value: value.reshape(math.prod(value.shape[:axis]), -1)


def _transpose(node: Node) -> Operation:
    order = node.get("perm", None)
    return lambda value: value.permute(order or list(reversed(range(value.ndim))))


def _unsqueeze(node: Node) -> Operation:
    axes = node.list(1, "axes") or []

    def run(value: Any, given: Any = None) -> Any:
        rank = value.ndim + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            value = value.unsqueeze(axis)
        return value

    return run


def _squeeze(node: Node) -> Operation:
    axes = node.list(1, "axes")
    return lambda value, given=None: value.squeeze() if axes is None else value.squeeze(tuple(axes))


def _pad(node: Node) -> Operation:
    pads, fill = node.list(1, "pads") or [], node.list(2) or [node.get("value", 0.0)]
    if node.get("mode", "constant") != "constant" or node.list(3) is not None:
        raise Refused("Pad in another mode or with axes is not written for torch")
    amounts = flat_pads(*split_pads(pads))
    return lambda value, *given: functional.pad(value, amounts, value=fill[0])


def _slice(node: Node) -> Operation:
    starts, ends = node.list(1, "starts") or [], node.list(2, "ends") or []
    axes = node.list(3, "axes") or list(range(len(starts)))
    steps = node.list(4) or [1] * len(starts)
    if any(step < 1 for step in steps):
        raise Refused("Slice with a negative step is not written for torch")

    def run(value: Any, *given: Any) -> Any:
        index = [slice(None)] * value.ndim
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            index[axis] = slice(start, end, step)
        return value[tuple(index)]

    return run


def _gather(node: Node) -> Operation:
    axis = node.get("axis", 0)

    def run(value: Any, indices: Any) -> Any:
        place = axis % value.ndim
        shape = (*value.shape[:place], *indices.shape, *value.shape[place + 1 :])
        return torch.index_select(value, place, indices.reshape(-1)).reshape(shape)

    return run


def _concat(node: Node) -> Operation:
    axis = node.get("axis", 0)
    return lambda *values: torch.cat(values, axis)


def _resize(node: Node) -> Operation:
    how, mode = node.get("coordinate_transformation_mode", "half_pixel"), node.get("mode", "nearest")
    scales, sizes = node.list(2) or None, node.list(3) or None
    linear = mode == "linear" and how in ("half_pixel", "pytorch_half_pixel", "align_corners")
    nearest = mode == "nearest" and how == "asymmetric" and node.get("nearest_mode", "") == "floor"
    if not (linear or nearest) or len(scales or sizes or []) != 4:
        raise Refused(f"Resize with {mode} interpolation and {how} coordinates is not written for torch")

    def run(value: Any, *given: Any) -> Any:
        if sizes:
            target = sizes[2:]
        else:
            assert scales is not None
            target = [int(extent * scale) for extent, scale in zip(value.shape[2:], scales[2:], strict=True)]
        if nearest:
            return functional.interpolate(value, target, mode="nearest")
        return functional.interpolate(value, target, mode="bilinear", align_corners=how == "align_corners")

    return run


def _clip(node: Node) -> Operation:
    low, high = (node.list(place, name) if node.opset >= 11 else None for place, name in ((1, "min"), (2, "max")))
    least = low[0] if low else node.get("min", None)
    most = high[0] if high else node.get("max", None)
    return lambda value, *given: torch.clamp(value, least, most)


def _leaky_relu(node: Node) -> Operation:
    return partial(functional.leaky_relu, negative_slope=node.get("alpha", 0.01))


def _einsum(node: Node) -> Operation:
    return partial(torch.einsum, node.get("equation", ""))


def _reduction(function: Callable[..., Any]) -> Callable[[Node], Operation]:
    def make(node: Node) -> Operation:
        axes, keep = node.list(1, "axes"), bool(node.get("keepdims", 1))
        if axes is None and node.get("noop_with_empty_axes", 0):
            return lambda value, given=None: value
        return lambda value, given=None: function(value, axes or list(range(value.ndim)), keep)

    return make


def _expand(node: Node) -> Operation:
    extents = node.list(1) or []
    return lambda value, given: value.expand(torch.broadcast_shapes(value.shape, tuple(extents)))


def _cast(node: Node) -> Operation:
    from onnx import helper

    kind = torch.from_numpy(np.empty(0, helper.tensor_dtype_to_np_dtype(node.get("to", 1)))).dtype
    return lambda value: value.to(kind)


OPERATORS: Mapping[str, Callable[[Node], Operation]] = {
    **{name: _same(function) for name, function in POINTWISE.items()},
    "LeakyRelu": _leaky_relu,
    "Clip": _clip,
    "Cast": _cast,
    "MatMul": _same(torch.matmul),
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Col2Im": overlap_add,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": _same(lambda value: value.mean(list(range(2, value.ndim)), keepdim=True)),
    "ReduceSum": _reduction(torch.sum),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMin": _reduction(torch.amin),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "SoftmaxCrossEntropyLoss": _cross_entropy,
    "LRN": _lrn,
    "Softmax": _softmax,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Expand": _expand,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "Gather": _gather,
    "Resize": _resize,
}
"""By the name of the ONNX operator."""
