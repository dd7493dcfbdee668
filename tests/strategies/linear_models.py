"""Random small ONNX models of linear algebra: products, scales, shifts, convolutions, with several readers and outputs."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Node = onnx.NodeProto


class _Graph:
    def __init__(self, seed: int) -> None:
        self.nodes: list[Node] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        values = self._random.uniform(0.5, 1.5, shape) * self._random.choice([-1, 1], shape)
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))  # type: ignore[arg-type]
        return name

    def model(self, inputs: dict[str, tuple[int, ...]], outputs: list[str]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "linear",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@st.composite
def matrix_models(draw: st.DrawFn) -> onnx.ModelProto:
    """Values of shape [rows, width]: each node reads earlier values, so some are read twice and some are outputs too."""
    graph = _Graph(draw(st.integers(0, 99)))
    rows, width = draw(st.integers(2, 3)), draw(st.integers(2, 4))
    values = {"x": width, "z": width}
    for _ in range(draw(st.integers(2, 7))):
        source = draw(st.sampled_from(list(values)[-3:]))
        own = values[source]
        operator = draw(
            st.sampled_from(["MatMul", "MatMul", "MatMul", "Add", "Mul", "Sub", "Div", "Neg", "Relu", "Values"])
        )
        if operator == "MatMul":
            wider = draw(st.integers(2, 4))
            name, own = graph.add("MatMul", source, graph.weight(own, wider)), wider
        elif operator in ("Neg", "Relu"):
            name = graph.add(operator, source)
        elif operator == "Values":
            other = draw(st.sampled_from([value for value, extent in values.items() if extent == own]))
            name = graph.add(draw(st.sampled_from(["Add", "Sub", "Mul"])), source, other)
        else:
            weight = graph.weight(*draw(st.sampled_from([(own,), (1,), (rows, own), (rows, 1)])))
            swapped = operator != "Div" and draw(st.booleans())
            name = graph.add(operator, *((weight, source) if swapped else (source, weight)))
        values[name] = own
    made = [value for value in values if value not in ("x", "z")]
    extra = draw(st.lists(st.sampled_from(made), max_size=2, unique=True))
    return graph.model({"x": (rows, width), "z": (rows, width)}, list(dict.fromkeys([*extra, made[-1]])))


@st.composite
def image_models(draw: st.DrawFn) -> onnx.ModelProto:
    """Convolutions, transposed ones, scales and shifts of channels, poolings and activations of one image."""
    graph = _Graph(draw(st.integers(0, 99)))
    channels = draw(st.integers(1, 3))
    values = [("x", channels)]
    for _ in range(draw(st.integers(2, 6))):
        source, own = draw(st.sampled_from(values[-2:]))
        operator = draw(
            st.sampled_from(["Conv", "Conv", "ConvTranspose", "Mul", "Add", "Affine", "Relu", "AveragePool"])
        )
        filters, size = draw(st.integers(1, 3)), draw(st.sampled_from([1, 3]))
        pads = [size // 2] * 4
        if operator == "Conv":
            weight, bias = graph.weight(filters, own, size, size), graph.weight(filters)
            name, own = graph.add("Conv", source, weight, bias, pads=pads), filters
        elif operator == "ConvTranspose":
            name, own = graph.add("ConvTranspose", source, graph.weight(own, filters, size, size), pads=pads), filters
        elif operator == "Relu":
            name = graph.add("Relu", source)
        elif operator == "AveragePool":
            counted = draw(st.sampled_from([0, 1]))
            name = graph.add("AveragePool", source, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=counted)
        else:
            scaled = source if operator == "Add" else graph.add("Mul", source, graph.weight(own, 1, 1))
            name = scaled if operator == "Mul" else graph.add("Add", scaled, graph.weight(own, 1, 1))
        values.append((name, own))
    extra = draw(st.lists(st.sampled_from([name for name, _ in values[1:]]), max_size=1))
    return graph.model({"x": (1, channels, 4, 5)}, list(dict.fromkeys([*extra, values[-1][0]])))
