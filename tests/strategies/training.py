"""Small models with a loss, to be trained."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def classifier(batch: int = 3, size: int = 10) -> onnx.ModelProto:
    """Convolution, normalisation by the batch, rectifier, max-pooling, residual, and cross entropy, in f32."""
    generator = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((generator.standard_normal(shape) / 4).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], "first", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c0", "scale", "bias", "m", "v"], ["n0", "rm", "rv"], "bn", training_mode=1),
        helper.make_node("Relu", ["n0"], ["a0"]),
        helper.make_node("Conv", ["a0", "w1"], ["c1"], "second", pads=[1] * 4),
        helper.make_node("Add", ["c1", "a0"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Flatten", ["p1"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["scores"], transB=1),
        helper.make_node("SoftmaxCrossEntropyLoss", ["scores", "labels"], ["loss"], "loss"),
    ]  # fmt: skip
    pooled = (((size - 1) // 2 + 1) - 1) // 2 + 1
    initializers = [
        weight("w0", 6, 3, 3, 3),
        weight("w1", 6, 6, 3, 3),
        weight("w2", 5, 6 * pooled * pooled),
        weight("b2", 5),
        weight("scale", 6),
        weight("bias", 6),
        numpy_helper.from_array(np.zeros(6, np.float32), "m"),
        numpy_helper.from_array(np.ones(6, np.float32), "v"),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, size, size]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [batch]),
        ],
        [
            helper.make_tensor_value_info("loss", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5]),
        ],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def tower(layers: int = 8, batch: int = 512, width: int = 32) -> onnx.ModelProto:
    """Matrix products with hyperbolic tangents, whose results are all needed on the way back."""
    generator = np.random.default_rng(0)
    nodes, values, value = [], [], "x"
    for layer in range(layers):
        weight = (generator.standard_normal((width, width)) / width**0.5).astype(np.float32)
        values.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [f"f{layer}"]))
        value = f"f{layer}"
    nodes.append(helper.make_node("ReduceSumSquare", [value], ["loss"], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, width])],
        [helper.make_tensor_value_info("loss", TensorProto.FLOAT, [])],
        values,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
