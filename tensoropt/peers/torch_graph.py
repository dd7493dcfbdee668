"""An ONNX graph as a PyTorch module: weights are buffers, ``forward`` walks the nodes, ``torch.compile`` traces it whole.

No converter on PyPI takes all example models (onnx2torch 1.5.15, of August 2024, refuses Dropout 7, Pad 18, Resize 18 and
asymmetric average pooling), so the operators that they have are written here (`torch_operators`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tensoropt.peers.peer import Refused
from tensoropt.peers.torch_node import Node, Operation
from tensoropt.peers.torch_operators import OPERATORS

if TYPE_CHECKING:
    import onnx


class TorchGraph(torch.nn.Module):  # type: ignore[misc]  # checked without torch too
    """The graph of a model. Takes its inputs in order and gives its outputs in order, as a tuple.

    Refused for an operator, or a form of one, that is not written in ``torch_operators``.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        super().__init__()
        graph = model.graph
        opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
        # copied, because an array from a message cannot be written to, which torch warns of
        constants = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in graph.initializer}
        self.inputs = [value.name for value in graph.input if value.name not in constants]
        self.outputs = [value.name for value in graph.output]
        self.steps: list[tuple[Operation, list[str], list[str]]] = []
        for proto in graph.node:
            if proto.op_type == "Constant" and proto.domain in ("", "ai.onnx"):
                constants[proto.output[0]] = _constant(proto)
                continue
            node = Node(proto, opset, {name: constants[name] for name in proto.input if name in constants})
            self.steps.append((_operation(node), list(proto.input), list(proto.output)))
        self.places: dict[str, str] = {}
        read = {name for _, names, _ in self.steps for name in names} | set(self.outputs)
        for number, name in enumerate(sorted(read & constants.keys())):
            self.places[name] = f"constant_{number}"
            self.register_buffer(self.places[name], torch.from_numpy(constants[name]))

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        for name, place in self.places.items():
            values[name] = getattr(self, place)
        values[""] = None
        for operation, operands, outputs in self.steps:
            results = operation(*(values[name] for name in operands))
            several = results if isinstance(results, tuple) else (results,)
            for name, value in zip(outputs, several, strict=False):
                values[name] = value
        return tuple(values[name] for name in self.outputs)


def _operation(node: Node) -> Operation:
    if node.domain not in ("", "ai.onnx") or node.operator not in OPERATORS:
        raise Refused(f"the operator {node.operator} is not written for torch")
    return OPERATORS[node.operator](node)


def _constant(proto: onnx.NodeProto) -> Any:
    import numpy as np
    from onnx import helper, numpy_helper

    (attribute,) = proto.attribute
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value).copy()
    return np.array(value, np.int64 if "int" in attribute.name else np.float32)
