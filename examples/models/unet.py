"""U-Net (Ronneberger et al. 2015) with padded convolutions and normalisation: 256×256 images, four levels of 32 to 256 channels."""

from __future__ import annotations

import onnx

from examples.models.graph import Graph

SIZE = 256
WIDTHS = (32, 64, 128, 256)
CLASSES = 8


def build(batch: int = 1) -> onnx.ModelProto:
    """Return the segmenter: image (batch, 3, 256, 256) to logits (batch, 8, 256, 256)."""
    graph = Graph("unet", seed=9)
    value = graph.input("image", (batch, 3, SIZE, SIZE))
    kept: list[tuple[str, int]] = []
    fan = 3
    for width in WIDTHS[:-1]:
        value = _convolutions(graph, value, fan, width)
        kept.append((value, width))
        value = graph.node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
        fan = width
    value = _convolutions(graph, value, fan, WIDTHS[-1])
    fan = WIDTHS[-1]
    for skip, width in reversed(kept):
        value = graph.conv_transpose(value, (fan, width), 2, stride=2, pad=0)
        value = graph.node("Concat", skip, value, axis=1)
        value = _convolutions(graph, value, 2 * width, width)
        fan = width
    value = graph.conv(value, (fan, CLASSES), (1, 1), gain=1.0)
    graph.output(value, "logits", (batch, CLASSES, SIZE, SIZE))
    return graph.finish()


def _convolutions(graph: Graph, value: str, fan: int, width: int) -> str:
    """Two 3×3 convolutions, each normalised and rectified."""
    for channels in ((fan, width), (width, width)):
        value = graph.relu(graph.batch_norm(graph.conv(value, channels, (3, 3), (1, 1), bias=False), width))
    return value
