"""ResNet-18 (He et al. 2016) as torchvision defines it: convolutions without bias, each with batch normalisation."""

from __future__ import annotations

import onnx

from examples.models.graph import Graph


def build(batch: int = 1) -> onnx.ModelProto:
    """Return the classifier: image (batch, 3, 224, 224) to logits (batch, 1000)."""
    graph = Graph("resnet18", seed=6)
    value = graph.input("image", (batch, 3, 224, 224))
    value = graph.conv(value, (3, 64), (7, 7), (3, 3), stride=2, bias=False)
    value = graph.relu(graph.batch_norm(value, 64))
    value = graph.node("MaxPool", value, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    fan = 64
    for out in (64, 128, 256, 512):
        value = _block(graph, value, fan, out)
        value = _block(graph, value, out, out)
        fan = out
    value = graph.node("Flatten", graph.node("GlobalAveragePool", value), axis=1)
    value = graph.node("Gemm", value, graph.weight((1000, 512), 512, gain=0.5), graph.bias(1000), transB=1)
    graph.output(value, "logits", (batch, 1000))
    return graph.finish()


def _block(graph: Graph, value: str, fan: int, out: int) -> str:
    """Two 3×3 convolutions and a shortcut; where the channels change, stride 2 and a 1×1 convolution in the shortcut."""
    stride = 1 if fan == out else 2
    inner = graph.conv(value, (fan, out), (3, 3), (1, 1), stride=stride, bias=False)
    inner = graph.relu(graph.batch_norm(inner, out))
    inner = graph.batch_norm(graph.conv(inner, (out, out), (3, 3), (1, 1), gain=0.6, bias=False), out)
    if fan != out:
        value = graph.batch_norm(graph.conv(value, (fan, out), (1, 1), stride=stride, gain=0.8, bias=False), out)
    return graph.relu(graph.node("Add", inner, value))
