"""Global Convolutional Network (Peng et al. 2017, arXiv 1703.02719) for 21 classes on a ResNet50-GCN backbone.

Sizes as in the published derivation-based optimizers, whose model has 121 convolutions: the backbone's third and fourth
stages have a global block (two paths of k×1 and 1×k) in place of the 3×3 convolution, four heads do the same with
k = 11 on every stage's features, nine boundary refinements follow, and bilinear resizing lies between. Backbone
convolutions carry batch normalisation and no bias, those of blocks, heads and refinements carry bias.
"""

from __future__ import annotations

import numpy as np
import onnx

from examples.models.graph import Graph

CLASSES = 21


def build(batch: int = 1) -> onnx.ModelProto:
    """Return the network: image (batch, 3, 224, 224) to class scores (batch, 21, 224, 224)."""
    graph = Graph("gcn", seed=7)
    value = graph.input("image", (batch, 3, 224, 224))
    value = graph.conv(value, (3, 64), (7, 7), (3, 3), stride=2, bias=False)
    value = graph.relu(graph.batch_norm(value, 64))
    value = graph.node("MaxPool", value, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    features = _backbone(graph, value)
    heads = [
        _refine(graph, _global(graph, feature, (channels, CLASSES), 11, gain=0.7))
        for feature, channels in zip(features, (256, 512, 1024, 2048), strict=True)
    ]
    value = heads[3]
    for head in (heads[2], heads[1], heads[0]):
        value = _refine(graph, graph.node("Add", _enlarge(graph, value, 2), head))
    value = _refine(graph, value)
    value = _refine(graph, _enlarge(graph, value, 4))
    graph.output(graph.conv(value, (CLASSES, CLASSES), (1, 1), gain=1.0), "scores", (batch, CLASSES, 224, 224))
    return graph.finish()


def _backbone(graph: Graph, value: str) -> list[str]:
    """Return the features of the four stages: 256 at 56², 512 at 28², 1024 at 14², 2048 at 7²."""
    features = []
    fan = 64
    for index, (middle, blocks, kernel) in enumerate(((64, 3, 0), (128, 4, 0), (85, 6, 5), (128, 6, 7))):
        out = 256 << index
        for block in range(blocks):
            stride = 2 if index and not block else 1
            value = _bottleneck(graph, value, (fan, out), middle, kernel, stride)
            fan = out
        features.append(value)
    return features


def _bottleneck(graph: Graph, value: str, channels: tuple[int, int], middle: int, kernel: int, stride: int) -> str:
    """A residual block: 1×1, 3×3, 1×1, or, with a `kernel`, a global block and a 1×1 that carries the stride."""
    fan, out = channels
    if kernel:
        inner = graph.relu(graph.batch_norm(_global(graph, value, (fan, middle), kernel, gain=0.8), middle))
        last_stride = stride
    else:
        inner = graph.relu(graph.batch_norm(graph.conv(value, (fan, middle), (1, 1), bias=False), middle))
        inner = graph.conv(inner, (middle, middle), (3, 3), (1, 1), stride=stride, bias=False)
        inner = graph.relu(graph.batch_norm(inner, middle))
        last_stride = 1
    inner = graph.conv(inner, (middle, out), (1, 1), stride=last_stride, gain=0.6, bias=False)
    inner = graph.batch_norm(inner, out)
    if fan != out:
        value = graph.conv(value, (fan, out), (1, 1), stride=stride, gain=0.8, bias=False)
        value = graph.batch_norm(value, out)
    return graph.relu(graph.node("Add", inner, value))


def _global(graph: Graph, value: str, channels: tuple[int, int], kernel: int, gain: float) -> str:
    """The global convolution: k×1 then 1×k, beside 1×k then k×1, added."""
    inside = (channels[1], channels[1])
    pad = kernel // 2
    left = graph.conv(value, channels, (kernel, 1), (pad, 0), gain=gain)
    left = graph.conv(left, inside, (1, kernel), (0, pad), gain=gain)
    right = graph.conv(value, channels, (1, kernel), (0, pad), gain=gain)
    right = graph.conv(right, inside, (kernel, 1), (pad, 0), gain=gain)
    return graph.node("Add", left, right)


def _refine(graph: Graph, value: str) -> str:
    """Boundary refinement: value + conv(relu(conv(value)))."""
    inner = graph.relu(graph.conv(value, (CLASSES, CLASSES), (3, 3), (1, 1)))
    return graph.node("Add", value, graph.conv(inner, (CLASSES, CLASSES), (3, 3), (1, 1), gain=0.7))


def _enlarge(graph: Graph, value: str, factor: int) -> str:
    """Bilinear resizing of the last two axes by a whole factor."""
    scales = graph.constant(np.array([1, 1, factor, factor], np.float32), "scales")
    return graph.node("Resize", value, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
