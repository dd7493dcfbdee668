"""The example models can be checked with: without any one bias, activation or residual, the check finds a difference.

Each such site gets a switch, a boolean input that is true unless it is fed, so that one session of ONNX Runtime serves
all the mutants of a model. The inputs and the tolerance are those of tensoropt's own check.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from examples.models import MODELS
from tensoropt.check import check_outputs, random_feeds
from tensoropt.ir.expression import Tensor
from tensoropt.ir.types import DataType, TensorType

SLOW = {"gcn", "light_densenet121", "light_inception_v2", "light_resnet50", "light_vgg19", "longformer_gathered"}

BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "BatchNormalization": 2}
"""Operators with a bias, and which operand it is."""
SUMS = ("Add", "Sum")
ACTIVATIONS = ("Relu", "PRelu", "Tanh", "Softmax")


class Switches:
    """A model under rewriting: `select` puts a switch between a value and what stands in for it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.names: list[str] = []
        self.nodes: list[onnx.NodeProto] = []
        self._graph = graph
        graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))

    def select(self, value: str, otherwise: str, output: str) -> None:
        """Append `output` = `value` where the switch is on, else `otherwise`."""
        switch = f"keep_{len(self.names)}_{output}"
        self.names.append(switch)
        self._graph.input.append(helper.make_tensor_value_info(switch, TensorProto.BOOL, [1]))
        self._graph.initializer.append(numpy_helper.from_array(np.ones(1, np.bool_), switch))
        self.nodes.append(helper.make_node("Where", [switch, value, otherwise], [output]))

    def drop(self, node: onnx.NodeProto, operand: int) -> None:
        """Let a switch replace one operand of `node` by zeros."""
        output = f"{node.output[0]}_operand_{operand}"
        self.select(node.input[operand], "nothing", output)
        node.input[operand] = output


def mutants(model: onnx.ModelProto) -> list[str]:
    """Give the model its switches, in place, and return their names."""
    graph = model.graph
    switches = Switches(graph)
    for node in list(graph.node):
        if len(node.input) > BIAS.get(node.op_type, len(node.input)):
            switches.drop(node, BIAS[node.op_type])
        elif node.op_type in SUMS:
            for operand in range(len(node.input)):
                switches.drop(node, operand)
        switches.nodes.append(node)
        if node.op_type in ACTIVATIONS:
            output = node.output[0]
            node.output[0] = f"{output}_active"
            switches.select(node.output[0], node.input[0], output)
    del graph.node[:]
    graph.node.extend(switches.nodes)
    return switches.names


def tensors(values: Iterator[onnx.ValueInfoProto]) -> list[Tensor]:
    """The declared f32 values as our tensors."""
    return [
        Tensor(value.name, TensorType(DataType.FLOAT32, tuple(d.dim_value for d in value.type.tensor_type.shape.dim)))
        for value in values
    ]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MODELS]
)
def test_check_sees_any_dropped_bias_activation_or_residual(name: str) -> None:
    model = MODELS[name](1)
    inputs, outputs = tensors(iter(model.graph.input)), tensors(iter(model.graph.output))
    feeds = random_feeds(inputs, seed=0)
    switches = mutants(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(extra: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip([tensor.name for tensor in outputs], session.run(None, feeds | extra), strict=True))

    references = run({})
    assert check_outputs(outputs, run({}), references).ok
    assert switches
    unseen = [
        switch
        for switch in switches
        if check_outputs(outputs, run({switch: np.zeros(1, np.bool_)}), references).ok is not False
    ]
    assert not unseen
