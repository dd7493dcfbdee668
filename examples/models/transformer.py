"""A transformer encoder of four layers, normalised first (Vaswani et al. 2017, Xiong et al. 2020), over embedded tokens."""

from __future__ import annotations

import numpy as np
import onnx

from examples.models.graph import Graph

LAYERS = 4
SEQUENCE = 128
HEADS = 4
WIDTH = 64
HIDDEN = HEADS * WIDTH
CLASSES = 16


def build(batch: int = 1) -> onnx.ModelProto:
    """Return the classifier: embedded (batch, 128, 256) to logits (batch, 16)."""
    graph = Graph("transformer", seed=10)
    value = graph.input("embedded", (batch, SEQUENCE, HIDDEN))
    for _ in range(LAYERS):
        value = graph.node("Add", value, _attention(graph, batch, _normalised(graph, value)))
        inner = _gelu(graph, graph.linear(_normalised(graph, value), (HIDDEN, 4 * HIDDEN)))
        value = graph.node("Add", value, graph.linear(inner, (4 * HIDDEN, HIDDEN)))
    value = graph.node("ReduceMean", _normalised(graph, value), graph.ints(1), keepdims=0)
    graph.output(graph.linear(value, (HIDDEN, CLASSES)), "logits", (batch, CLASSES))
    return graph.finish()


def _normalised(graph: Graph, value: str) -> str:
    return graph.node("LayerNormalization", value, graph.bias(HIDDEN), graph.bias(HIDDEN), axis=-1, epsilon=1e-5)


def _gelu(graph: Graph, value: str) -> str:
    """``x · (1 + erf(x / √2)) / 2``; the operator is younger than the opset of these models."""
    half, root, one = (graph.constant(np.array(number, np.float32), "number") for number in (0.5, 0.5**0.5, 1))
    error = graph.node("Erf", graph.node("Mul", value, root))
    return graph.node("Mul", graph.node("Mul", value, half), graph.node("Add", error, one))


def _attention(graph: Graph, batch: int, value: str) -> str:
    query, key, values = (_heads(graph, batch, graph.linear(value, (HIDDEN, HIDDEN))) for _ in range(3))
    query = graph.node("Mul", query, graph.constant(np.array(WIDTH**-0.5, np.float32), "scale"))
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 1, 3, 2]))
    mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), values)
    mixed = graph.node(
        "Reshape", graph.node("Transpose", mixed, perm=[0, 2, 1, 3]), graph.ints(batch, SEQUENCE, HIDDEN)
    )
    return graph.linear(mixed, (HIDDEN, HIDDEN))


def _heads(graph: Graph, batch: int, rows: str) -> str:
    """(batch, sequence, hidden) to (batch, heads, sequence, width)."""
    rows = graph.node("Reshape", rows, graph.ints(batch, SEQUENCE, HEADS, WIDTH))
    return graph.node("Transpose", rows, perm=[0, 2, 1, 3])
