"""SRCNN 9-5-5 (Dong et al. 2014): super-resolution of a 224×224 luminance image, every convolution keeping the size."""

from __future__ import annotations

import onnx

from examples.models.graph import Graph


def build(batch: int = 1) -> onnx.ModelProto:
    """Return the network: blurred (batch, 1, 224, 224) to sharp (batch, 1, 224, 224)."""
    graph = Graph("srcnn", seed=4)
    value = graph.input("blurred", (batch, 1, 224, 224))
    value = graph.relu(graph.conv(value, (1, 64), (9, 9), (4, 4)))
    value = graph.relu(graph.conv(value, (64, 32), (5, 5), (2, 2)))
    value = graph.conv(value, (32, 1), (5, 5), (2, 2), gain=1.0)
    graph.output(value, "sharp", (batch, 1, 224, 224))
    return graph.finish()
