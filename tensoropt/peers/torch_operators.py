"""ONNX operators as PyTorch functions: from a node with its attributes to an operation on tensors.

Shapes, axes and pads are read when the operation is made, from constants, so that nothing in it depends on data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from tensoropt.peers.peer import Refused

if TYPE_CHECKING:
    import numpy as np
    import onnx

Operation = Callable[..., Any]
"""Tensors to a tensor, or to a tuple of them; None stands for an operand that is left out."""


class Node:
    """One node: its attributes, and those of its operands that are constant."""

    def __init__(self, proto: onnx.NodeProto, opset: int, constants: Mapping[str, np.ndarray[Any, Any]]) -> None:
        from onnx import helper

        self.operator, self.domain, self.opset = proto.op_type, proto.domain, opset
        self.attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute}
        self._operands, self._constants = list(proto.input), constants
        self.outputs = len(proto.output)
        if self.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            raise Refused(f"{self.operator} with auto_pad is not written for torch")

    def get(self, name: str, otherwise: Any) -> Any:
        """An attribute; a text as text."""
        value = self.attributes.get(name, otherwise)
        return value.decode() if isinstance(value, bytes) else value

    def list(self, position: int, attribute: str = "") -> list[Any] | None:
        """A constant operand as a list, or the attribute that older versions have in its place; None where there is neither."""
        if attribute in self.attributes:
            return list(self.attributes[attribute])
        if position >= len(self._operands) or not self._operands[position]:
            return None
        name = self._operands[position]
        if name not in self._constants:
            raise Refused(f"{self.operator} with an operand {name!r} that is not constant is not written for torch")
        return list(self._constants[name].reshape(-1).tolist())

    def rank_of(self, position: int) -> int | None:
        """The rank of a constant operand."""
        name = self._operands[position]
        return self._constants[name].ndim if name in self._constants else None


def _same(function: Operation) -> Callable[[Node], Operation]:
    """An operator without attributes."""
    return lambda node: function


def _split_pads(pads: Sequence[int]) -> tuple[list[int], list[int]]:
    half = len(pads) // 2
    return list(pads[:half]), list(pads[half:])


def _padding(node: Node, rank: int) -> tuple[list[int], list[int] | None]:
    """The symmetric padding of a window operator, and what must be padded before in ``functional.pad``'s order instead."""
    before, after = _split_pads(node.get("pads", [0] * 2 * rank))
    if before == after:
        return before, None
    return [0] * rank, _flat(before, after)


def _flat(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Pads in PyTorch's order: the last axis first, before and after each."""
    return [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]


def _convolution(node: Node) -> Operation:
    kernel = node.rank_of(1)
    rank = len(node.attributes["kernel_shape"]) if "kernel_shape" in node.attributes else (kernel or 4) - 2
    padding, before = _padding(node, rank)
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    settings = {
        "stride": node.get("strides", [1] * rank),
        "padding": padding,
        "dilation": node.get("dilations", [1] * rank),
        "groups": node.get("group", 1),
    }

    def run(image: Any, weight: Any, bias: Any = None) -> Any:
        return function(image if before is None else functional.pad(image, before), weight, bias, **settings)

    return run


def _transposed_convolution(node: Node) -> Operation:
    rank = len(node.attributes["kernel_shape"]) if "kernel_shape" in node.attributes else (node.rank_of(1) or 4) - 2
    padding, before = _padding(node, rank)
    if before is not None or "output_shape" in node.attributes:
        raise Refused("ConvTranspose with asymmetric pads or an output shape is not written for torch")
    function = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[rank - 1]
    settings = {
        "stride": node.get("strides", [1] * rank),
        "padding": padding,
        "output_padding": node.get("output_padding", [0] * rank),
        "dilation": node.get("dilations", [1] * rank),
        "groups": node.get("group", 1),
    }
    return lambda image, weight, bias=None: function(image, weight, bias, **settings)


def _max_pool(node: Node) -> Operation:
    kernel = node.get("kernel_shape", None)
    if node.outputs > 1 or len(kernel) > 2:
        raise Refused("MaxPool with indices or in three dimensions is not written for torch")
    padding, before = _padding(node, len(kernel))
    function = (functional.max_pool1d, functional.max_pool2d)[len(kernel) - 1]
    settings = {
        "kernel_size": kernel,
        "stride": node.get("strides", [1] * len(kernel)),
        "padding": padding,
        "dilation": node.get("dilations", [1] * len(kernel)),
        "ceil_mode": bool(node.get("ceil_mode", 0)),
    }

    def run(image: Any) -> Any:
        if before is not None:
            image = functional.pad(image, before, value=-math.inf)
        return function(image, **settings)

    return run


def _average_pool(node: Node) -> Operation:
    kernel = node.get("kernel_shape", None)
    if len(kernel) != 2:
        raise Refused("AveragePool in other than two dimensions is not written for torch")
    counted, ceil = bool(node.get("count_include_pad", 0)), bool(node.get("ceil_mode", 0))
    padding, before = _padding(node, 2)
    pool = partial(functional.avg_pool2d, kernel_size=kernel, stride=node.get("strides", [1, 1]), ceil_mode=ceil)
    if before is None:
        return lambda image: pool(image, padding=padding, count_include_pad=counted)

    def run(image: Any) -> Any:
        total = pool(functional.pad(image, before))
        if counted:
            return total
        return total / pool(functional.pad(torch.ones_like(image[:1, :1]), before))

    return run


def _batch_normalization(node: Node) -> Operation:
    epsilon = node.get("epsilon", 1e-5)
    return lambda value, scale, bias, mean, variance: functional.batch_norm(
        value, mean, variance, scale, bias, eps=epsilon
    )


def _layer_normalization(node: Node) -> Operation:
    axis, epsilon = node.get("axis", -1), node.get("epsilon", 1e-5)
    return lambda value, scale, bias=None: functional.layer_norm(value, value.shape[axis:], scale, bias, epsilon)


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
    amounts = _flat(*_split_pads(pads))
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


def _prelu(value: Any, slope: Any) -> Any:
    return torch.where(value < 0, value * slope, value)


def _clip(node: Node) -> Operation:
    low, high = (node.list(place, name) if node.opset >= 11 else None for place, name in ((1, "min"), (2, "max")))
    least = low[0] if low else node.get("min", None)
    most = high[0] if high else node.get("max", None)
    return lambda value, *given: torch.clamp(value, least, most)


def _leaky_relu(node: Node) -> Operation:
    return partial(functional.leaky_relu, negative_slope=node.get("alpha", 0.01))


def _einsum(node: Node) -> Operation:
    return partial(torch.einsum, node.get("equation", ""))


OPERATORS: Mapping[str, Callable[[Node], Operation]] = {
    "Add": _same(torch.add),
    "Sub": _same(torch.sub),
    "Mul": _same(torch.mul),
    "Div": _same(torch.div),
    "Pow": _same(torch.pow),
    "Sum": _same(lambda *values: reduce(torch.add, values)),
    "Relu": _same(torch.relu),
    "LeakyRelu": _leaky_relu,
    "PRelu": _same(_prelu),
    "Clip": _clip,
    "Tanh": _same(torch.tanh),
    "Sigmoid": _same(torch.sigmoid),
    "Exp": _same(torch.exp),
    "Erf": _same(torch.erf),
    "Sqrt": _same(torch.sqrt),
    "Identity": _same(lambda value: value),
    "Dropout": _same(lambda value, *given: value),
    "MatMul": _same(torch.matmul),
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _same(lambda value: value.mean(list(range(2, value.ndim)), keepdim=True)),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "LRN": _lrn,
    "Softmax": _softmax,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "Gather": _gather,
    "Resize": _resize,
}
"""By the name of the ONNX operator."""
