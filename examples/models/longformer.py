"""One Longformer layer (Beltagy et al. 2020): attention to a dilated window, in two formulations with equal weights.

Sequence 2,048, 8 heads of 64 (512 hidden), window 128 to each side, dilation 2: query i attends to the keys
i + 2·(j - 128) for j in [0, 257). Keys outside the sequence do not take part: their rows are padded with zeros and
their scores get -10⁹ before the softmax, which makes their weight exactly zero in f32.

The layer is that of the published derivation-based optimizers: three projections, attention, then two linear layers
with Relu and a residual addition. The keys have no bias: it would add the same to every score of a query, which the
softmax cancels. Both formulations compute the same function:

* gathered, as a model exported from its definition: a constant index table of 2,048×257 gathers a row of keys and of
  values for every pair (i, j), so the intermediates are 257 times the keys;
* chunked, as the Longformer and BigBird codes do: the residue classes modulo the dilation become a batch axis, where
  the window is dense; queries in chunks of 128 meet the three chunks of keys around them in dense matrix products, and
  a constant mask removes what is outside the window.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from examples.models.graph import Graph
from examples.models.weights import Array

SEQUENCE = 2048
HEADS = 8
WIDTH = 64
HIDDEN = HEADS * WIDTH
WINDOW = 128
DILATION = 2
OUTSIDE = -1e9

Attention = Callable[[Graph, int, str, str, str], str]


def build_gathered(batch: int = 1) -> onnx.ModelProto:
    """Return the layer in the gathered formulation: hidden to result, both (batch, 2048, 512)."""
    return _layer("longformer_gathered", batch, _gathered)


def build_chunked(batch: int = 1) -> onnx.ModelProto:
    """Return the layer in the chunked formulation: hidden to result, both (batch, 2048, 512)."""
    return _layer("longformer_chunked", batch, _chunked)


def _layer(name: str, batch: int, attention: Attention) -> onnx.ModelProto:
    """Build the layer around `attention`, which draws no weights, so that both formulations get the same ones."""
    graph = Graph(name, seed=8)
    hidden = graph.input("hidden", (batch, SEQUENCE, HIDDEN))
    query, value = (graph.linear(hidden, (HIDDEN, HIDDEN)) for _ in range(2))
    key = graph.project(hidden, (HIDDEN, HIDDEN))
    query = graph.node("Mul", query, graph.constant(np.array(WIDTH**-0.5, np.float32), "scale"))
    context = attention(graph, batch, *(_split_heads(graph, batch, rows) for rows in (query, key, value)))
    context = graph.node("Transpose", context, perm=[0, 2, 1, 3])
    context = graph.node("Reshape", context, graph.ints(batch, SEQUENCE, HIDDEN))
    for _ in range(2):
        context = graph.relu(graph.linear(context, (HIDDEN, HIDDEN), gain=2**0.5))
    graph.output(graph.node("Add", context, hidden), "result", (batch, SEQUENCE, HIDDEN))
    return graph.finish()


def _split_heads(graph: Graph, batch: int, rows: str) -> str:
    """(batch, sequence, hidden) to (batch, heads, sequence, width)."""
    rows = graph.node("Reshape", rows, graph.ints(batch, SEQUENCE, HEADS, WIDTH))
    return graph.node("Transpose", rows, perm=[0, 2, 1, 3])


def _gathered(graph: Graph, batch: int, query: str, key: str, value: str) -> str:
    """Attention by an index table; all of shape (batch, heads, sequence, width)."""
    reach = DILATION * WINDOW
    diagonals = 2 * WINDOW + 1
    table = np.arange(SEQUENCE)[:, None] + DILATION * np.arange(diagonals)  # rows of the padded keys
    inside = (table >= reach) & (table < reach + SEQUENCE)
    indices = graph.constant(table.astype(np.int64), "window")
    pads = graph.ints(0, 0, reach, 0, 0, 0, reach, 0)
    key, value = (graph.node("Gather", graph.node("Pad", rows, pads), indices, axis=2) for rows in (key, value))
    query = graph.node("Unsqueeze", query, graph.ints(4))
    scores = graph.node("MatMul", key, query)  # (batch, heads, sequence, diagonals, 1)
    scores = graph.node("Squeeze", scores, graph.ints(4))
    scores = graph.node("Add", scores, graph.constant(_mask(inside), "mask"))
    shares = graph.node("Unsqueeze", graph.node("Softmax", scores, axis=-1), graph.ints(3))
    context = graph.node("MatMul", shares, value)  # (batch, heads, sequence, 1, width)
    return graph.node("Squeeze", context, graph.ints(3))


def _chunked(graph: Graph, batch: int, query: str, key: str, value: str) -> str:
    """Attention by dense products of chunks; all of shape (batch, heads, sequence, width)."""
    length = SEQUENCE // DILATION  # of one residue class
    chunks = length // WINDOW
    query, key, value = (_split_residues(graph, batch, length, rows) for rows in (query, key, value))
    query = graph.node("Reshape", query, graph.ints(batch, HEADS, DILATION, chunks, WINDOW, WIDTH))
    key, value = (_neighbours(graph, batch, chunks, rows) for rows in (key, value))
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 1, 2, 3, 5, 4]))
    position = np.arange(chunks)[:, None, None] * WINDOW + np.arange(3 * WINDOW) - WINDOW  # of a key, in its class
    offset = np.arange(3 * WINDOW) - np.arange(WINDOW)[:, None] - WINDOW  # from a query to a key
    inside = (np.abs(offset) <= WINDOW) & (position >= 0) & (position < length)
    scores = graph.node("Add", scores, graph.constant(_mask(inside), "mask"))
    context = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
    context = graph.node("Reshape", context, graph.ints(batch, HEADS, DILATION, length, WIDTH))
    context = graph.node("Transpose", context, perm=[0, 1, 3, 2, 4])
    return graph.node("Reshape", context, graph.ints(batch, HEADS, SEQUENCE, WIDTH))


def _split_residues(graph: Graph, batch: int, length: int, rows: str) -> str:
    """(batch, heads, sequence, width) to (batch, heads, dilation, length, width): position p to (p mod 2, p div 2)."""
    rows = graph.node("Reshape", rows, graph.ints(batch, HEADS, length, DILATION, WIDTH))
    return graph.node("Transpose", rows, perm=[0, 1, 3, 2, 4])


def _neighbours(graph: Graph, batch: int, chunks: int, rows: str) -> str:
    """For every chunk its rows and those of the chunks before and after it: (…, chunks, 3·window, width)."""
    rows = graph.node("Pad", rows, graph.ints(0, 0, 0, WINDOW, 0, 0, 0, 0, WINDOW, 0))
    rows = graph.node("Reshape", rows, graph.ints(batch, HEADS, DILATION, chunks + 2, WINDOW, WIDTH))
    parts = (
        graph.node("Slice", rows, graph.ints(shift), graph.ints(shift + chunks), graph.ints(3)) for shift in range(3)
    )
    return graph.node("Concat", *parts, axis=4)


def _mask(inside: Array) -> Array:
    """0 where a key takes part and -10⁹ where it does not."""
    return np.where(inside, np.float32(0), np.float32(OUTSIDE))
