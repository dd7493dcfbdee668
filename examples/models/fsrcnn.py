"""FSRCNN (Dong et al. 2016) with d = 56, s = 12, m = 4: 32×32 to 128×128 by a last transposed convolution, stride 4.

As in the PyTorch version: PRelu after every convolution, and the last layer is 9×9, stride 4, pad 3, output padding 1.
"""

from __future__ import annotations

import onnx

from examples.models.graph import Graph

LAYERS = ((1, 56, 5), (56, 12, 1), (12, 12, 3), (12, 12, 3), (12, 12, 3), (12, 12, 3), (12, 56, 1))
"""(channels in, channels out, kernel), each padded to keep the size."""


def build(batch: int = 1) -> onnx.ModelProto:
    """Return the network: small (batch, 1, 32, 32) to large (batch, 1, 128, 128)."""
    graph = Graph("fsrcnn", seed=5)
    value = graph.input("small", (batch, 1, 32, 32))
    for fan, out, kernel in LAYERS:
        pad = kernel // 2
        value = graph.prelu(graph.conv(value, (fan, out), (kernel, kernel), (pad, pad)), out)
    value = graph.conv_transpose(value, (56, 1), 9, stride=4, pad=3, output_padding=1, gain=1.0)
    graph.output(value, "large", (batch, 1, 128, 128))
    return graph.finish()
