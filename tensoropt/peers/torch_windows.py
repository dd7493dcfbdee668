"""ONNX operators over windows as PyTorch functions: convolutions, poolings, and sums of overlapping blocks."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from tensoropt.peers.peer import Refused
from tensoropt.peers.torch_node import Node, Operation, flat_pads, split_pads


def _padding(node: Node, rank: int) -> tuple[list[int], list[int] | None]:
    """The symmetric padding of a window operator, and what must be padded before in ``functional.pad``'s order instead."""
    before, after = split_pads(node.get("pads", [0] * 2 * rank))
    if before == after:
        return before, None
    return [0] * rank, flat_pads(before, after)


def convolution(node: Node) -> Operation:
    """Conv in one to three dimensions."""
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


def transposed_convolution(node: Node) -> Operation:
    """ConvTranspose with symmetric pads."""
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


def max_pool(node: Node) -> Operation:
    """MaxPool in one or two dimensions, without indices."""
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


def average_pool(node: Node) -> Operation:
    """AveragePool in two dimensions; behind asymmetric pads, sums are divided by how many elements each window has."""
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


def overlap_add(node: Node) -> Operation:
    """Col2Im in two dimensions with symmetric pads."""
    padding, before = _padding(node, 2)
    image, block = node.list(1) or [], node.list(2) or []
    if before is not None or len(image) != 2:
        raise Refused("Col2Im with asymmetric pads or in other than two dimensions is not written for torch")
    settings = {"padding": padding, "stride": node.get("strides", [1, 1]), "dilation": node.get("dilations", [1, 1])}
    return lambda value, *given: functional.fold(value, image, block, **settings)
