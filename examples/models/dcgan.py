"""DCGAN's generator (Radford et al. 2015) in the sizes of the published derivation-based optimizers: 64×64 images.

Five transposed convolutions with bias, Relu between, Tanh at the end. The PyTorch model has batch normalisation too;
it is left out here as in the published evaluation, since it folds into the convolutions.
"""

from __future__ import annotations

import onnx

from examples.models.graph import Graph

LAYERS = ((100, 512, 4, 1, 0), (512, 256, 4, 2, 1), (256, 128, 4, 2, 1), (128, 64, 4, 2, 1), (64, 3, 4, 2, 1))
"""(channels in, channels out, kernel, stride, pad): 1×1, 4×4, 8×8, 16×16, 32×32 in, 64×64 out."""


def build(batch: int = 1) -> onnx.ModelProto:
    """Return the generator: latent (batch, 100, 1, 1) to image (batch, 3, 64, 64)."""
    graph = Graph("dcgan", seed=2)
    value = graph.input("latent", (batch, 100, 1, 1))
    for index, (fan, out, kernel, stride, pad) in enumerate(LAYERS):
        if index:
            value = graph.relu(value)
        gain = 0.7 if index == len(LAYERS) - 1 else 2**0.5  # keeps Tanh off its flat ends
        value = graph.conv_transpose(value, (fan, out), kernel, stride=stride, pad=pad, gain=gain)
    graph.output(graph.node("Tanh", value), "image", (batch, 3, 64, 64))
    return graph.finish()
