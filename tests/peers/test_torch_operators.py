"""ONNX operators as functions of PyTorch mean what ONNX says they mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tensoropt.peers.peer import Refused

torch = pytest.importorskip("torch")


@dataclass(frozen=True)
class Node:
    """A node with the shapes of its inputs; arrays are constants."""

    operator: str
    operands: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 18

    def model(self) -> onnx.ModelProto:
        names = [f"x{place}" if operand is not None else "" for place, operand in enumerate(self.operands)]
        pairs = list(zip(names, self.operands, strict=True))
        graph = helper.make_graph(
            [helper.make_node(self.operator, names, ["y"], **self.attributes)],
            "node",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, o) for n, o in pairs if isinstance(o, tuple)],
            [onnx.ValueInfoProto(name="y")],
            [numpy_helper.from_array(o, n) for n, o in pairs if isinstance(o, np.ndarray)],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


IMAGE, WINDOW = (2, 4, 7, 6), {"kernel_shape": [3, 2], "strides": [2, 1]}
NODES = [
    *(Node(name, ((2, 3),)) for name in ("Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Exp", "Erf", "Sin", "Cos")),
    *(Node(name, ((2, 3), (3,))) for name in ("Max", "Min", "Sub", "Div")),
    *(Node(name, ((2, 3), (3,))) for name in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")),
    Node("Where", (np.array([True, False, True]), (2, 3), (3,))),
    Node("Expand", ((3, 1), ints(2, 1, 4))),
    Node("Cast", ((2, 3),), {"to": TensorProto.INT64}),
    Node("ReduceSum", ((2, 3, 4), ints(0, -1)), {"keepdims": 0}),
    Node("ReduceSum", ((2, 3),), {"noop_with_empty_axes": 1}),
    Node("ReduceMax", ((2, 3, 4), ints(1))),
    Node("ReduceMean", ((2, 3, 4),), {"axes": [1]}, opset=13),
    Node("ReduceMin", ((2, 3, 4),)),
    Node("Col2Im", ((1, 12, 6), ints(5, 7), ints(2, 3)), {"strides": [2, 2], "pads": [0, 0, 0, 0]}),
    Node("Sum", ((2, 3), (3,), (2, 1))),
    Node("PRelu", (IMAGE, np.full((4, 1, 1), 0.25, np.float32))),
    Node("Clip", ((5,), np.array(-0.5, np.float32), np.array(0.5, np.float32))),
    Node("Clip", ((5,), None, np.array(0.5, np.float32))),
    Node("Clip", ((5,),), {"min": -0.25}, opset=9),
    Node("LeakyRelu", ((5,),), {"alpha": 0.3}),
    Node("Dropout", ((5,),), opset=9),
    Node("Gemm", ((3, 2), (4, 3), (4,)), {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    Node("Gemm", ((2, 3), (3, 4))),
    Node("Einsum", ((2, 3), (3, 4)), {"equation": "ij,jk->ki"}),
    Node("Conv", (IMAGE, (6, 2, 3, 2), (6,)), {**WINDOW, "group": 2, "pads": [1, 0, 1, 0], "dilations": [1, 2]}),
    Node("Conv", (IMAGE, (6, 4, 3, 2)), {**WINDOW, "pads": [2, 0, 1, 1]}),
    Node("ConvTranspose", (IMAGE, (4, 3, 3, 3), (3,)), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    Node("MaxPool", (IMAGE,), {**WINDOW, "pads": [0, 1, 2, 0]}),
    Node("MaxPool", (IMAGE,), {**WINDOW, "ceil_mode": 1}),
    Node("AveragePool", (IMAGE,), {**WINDOW, "pads": [1, 1, 1, 1]}),
    Node("AveragePool", (IMAGE,), {**WINDOW, "pads": [0, 0, 1, 1]}),
    Node("AveragePool", (IMAGE,), {**WINDOW, "pads": [0, 0, 1, 1], "count_include_pad": 1}),
    Node("GlobalAveragePool", (IMAGE,)),
    Node("LRN", (IMAGE,), {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 2.0}),
    Node("LayerNormalization", ((3, 4, 5), (4, 5), (4, 5)), {"axis": 1, "epsilon": 0.1}),
    Node("Softmax", ((2, 3, 4),), {"axis": 1}),
    Node("Softmax", ((2, 3, 4),), opset=9),
    Node("Reshape", ((2, 3, 4), ints(0, -1))),
    Node("Flatten", ((2, 3, 4),), {"axis": 2}),
    Node("Transpose", ((2, 3, 4),)),
    Node("Transpose", ((2, 3, 4),), {"perm": [1, 0, 2]}),
    Node("Unsqueeze", ((2, 3), ints(-1, 0))),
    Node("Unsqueeze", ((2, 3),), {"axes": [1, 3]}, opset=9),
    Node("Squeeze", ((1, 3, 1), ints(2))),
    Node("Squeeze", ((1, 3, 1),)),
    Node("Concat", ((2, 3), (2, 1)), {"axis": -1}),
    Node("Pad", ((2, 3), ints(0, 1, 2, 0))),
    Node("Pad", ((2, 3), ints(0, 1, 2, 0), np.array(7, np.float32))),
    Node("Slice", ((5, 6), ints(1, -4), ints(5, -1), ints(0, 1), ints(2, 1))),
    Node("Gather", ((5, 6), ints(3, 0, 3).reshape(3, 1)), {"axis": 1}),
    Node("Resize", (IMAGE, None, np.array([1, 1, 2, 3], np.float32)), {"mode": "linear"}),
]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.operator)
def test_an_operator_means_what_onnx_says(node: Node) -> None:
    from tensoropt.peers.torch_graph import TorchGraph

    model, generator = node.model(), np.random.default_rng(0)
    graph = TorchGraph(model)
    shapes = dict(zip(model.graph.node[0].input, node.operands, strict=True))
    feeds = {name: np.asarray(generator.standard_normal(shapes[name]), np.float32) for name in graph.inputs}
    (result,) = graph(*(torch.from_numpy(feeds[name]) for name in graph.inputs))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feeds)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (Node("Hardmax", ((2, 3),)), "the operator Hardmax is not written"),
        (Node("Conv", (IMAGE, (6, 4, 3, 2)), {"auto_pad": "SAME_UPPER"}), "Conv with auto_pad"),
        (Node("Reshape", ((2, 3), (2,))), "Reshape with an operand 'x1' that is not constant"),
        (Node("Pad", ((2, 3), ints(0, 1, 0, 1)), {"mode": "reflect"}), "Pad in another mode"),
        (Node("Slice", ((5,), ints(4), ints(0), ints(0), ints(-1))), "Slice with a negative step"),
        (Node("Resize", (IMAGE, None, np.array([1, 1, 2, 2], np.float32)), {"mode": "cubic"}), "Resize with cubic"),
    ],
    ids=lambda value: getattr(value, "operator", ""),
)
def test_what_is_not_written_is_refused(node: Node, reason: str) -> None:
    from tensoropt.peers.torch_graph import TorchGraph

    with pytest.raises(Refused, match=reason):
        TorchGraph(node.model())
