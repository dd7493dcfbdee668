"""Output shapes of pooling in ceil mode.

A window that would start in the padding after the input is dropped, as ONNX says since opset 22 and as ONNX Runtime and
PyTorch do for every opset; onnx's shape inference keeps it for older opsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tensoropt.ir.types import Extent, TensorType

POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})


def without_empty_windows(attributes: Mapping[str, Any], image: TensorType, output: TensorType) -> TensorType:
    """The output type without windows that start after the input and the padding before it."""
    if not attributes.get("ceil_mode", 0):
        return output
    rank = len(image.shape) - 2
    strides: Sequence[int] = attributes.get("strides", [1] * rank)
    begins: Sequence[int] = list(attributes.get("pads", [0] * 2 * rank))[:rank]
    extents = [int(extent) for extent in output.shape]
    for axis in range(rank):
        while (
            extents[2 + axis] > 1
            and (extents[2 + axis] - 1) * strides[axis] >= int(image.shape[2 + axis]) + begins[axis]
        ):
            extents[2 + axis] -= 1
    return replace(output, shape=tuple(Extent(extent) for extent in extents))
