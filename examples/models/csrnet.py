"""CSRNet's back end (Li et al. 2018): six dilated 3×3 convolutions without bias, each with Relu, on 14×14 features.

The channels and the size are those of the published derivation-based optimizers.
"""

from __future__ import annotations

import itertools

import onnx

from examples.models.graph import Graph

CHANNELS = (512, 512, 512, 512, 256, 128, 64)


def build(batch: int = 1) -> onnx.ModelProto:
    """Return the back end: features (batch, 512, 14, 14) to density features (batch, 64, 14, 14)."""
    graph = Graph("csrnet", seed=3)
    value = graph.input("features", (batch, 512, 14, 14))
    for channels in itertools.pairwise(CHANNELS):
        value = graph.relu(graph.conv(value, channels, (3, 3), (2, 2), dilation=2, bias=False))
    graph.output(value, "density", (batch, 64, 14, 14))
    return graph.finish()
