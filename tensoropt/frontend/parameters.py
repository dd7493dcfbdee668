"""Which of a model's weights are parameters: what training changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensoropt.frontend.weights import data_type_of

if TYPE_CHECKING:
    import onnx

_FIXED = {
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "DequantizeLinear": (1, 2),
    "Pad": (2,),
    "QuantizeLinear": (1, 2),
    "Resize": (1, 2),
    "Upsample": (1,),
}
"""Operands that say how to compute, or are measured, and are not trained."""


def parameters_of(graph: onnx.GraphProto) -> list[str]:
    """The float initializers with at least one axis that nodes read, other than as scales, bounds and running statistics."""
    read: set[str] = set()
    fixed: set[str] = set()
    for node in graph.node:
        fixed |= {node.input[place] for place in _FIXED.get(node.op_type, ()) if place < len(node.input)}
        read |= set(node.input)
    found = []
    for tensor in graph.initializer:
        dtype = data_type_of(tensor.data_type)
        trained = dtype is not None and dtype.is_float and len(tensor.dims) > 0
        if trained and tensor.name in read - fixed:
            found.append(tensor.name)
    return found


def no_parameters(graph: onnx.GraphProto) -> list[str]:
    """None: all weights are constants of the program."""
    return []
