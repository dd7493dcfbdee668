"""Single kernels at the sizes of real networks, each as a small ONNX model; weights are constants where networks have them so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from examples.models.graph import Graph, Pair

HEADS, LENGTH, WIDTH, WINDOW, DILATION = 8, 10_000, 64, 1000, 4
DIAGONALS = 2 * WINDOW + 1


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel: how it is built, and what it must at least do."""

    build: Callable[[], onnx.ModelProto]
    operations: float
    """Floating-point operations of the definition, a multiply-add counting two."""
    reads: int
    writes: int
    """Bytes of inputs and weights, and of the output."""
    peers: Mapping[str, Callable[[], onnx.ModelProto]] | None = None
    """Other formulations, which the peers run instead, each the fastest."""


def _gemm(rows: int, columns: int, depth: int, constant: bool = True) -> Case:
    def build() -> onnx.ModelProto:
        graph = Graph("gemm", seed=1)
        left = graph.input("left", (rows, depth))
        right = graph.weight((depth, columns), depth, 1.0) if constant else graph.input("right", (depth, columns))
        graph.output(graph.node("MatMul", left, right), "product", (rows, columns))
        return graph.finish()

    reads = 4 * (rows * depth + depth * columns)
    return Case(build, 2.0 * rows * columns * depth, reads, 4 * rows * columns)


def _convolution(channels: Pair, size: int, groups: int = 1, kernel: int = 3) -> Case:
    fan_in = channels[0] // groups * kernel**2

    def build() -> onnx.ModelProto:
        graph = Graph("convolution", seed=2)
        image = graph.input("image", (1, channels[0], size, size))
        weight = graph.weight((channels[1], channels[0] // groups, kernel, kernel), fan_in)
        pads = [kernel // 2] * 4
        made = graph.node("Conv", image, weight, kernel_shape=[kernel] * 2, pads=pads, group=groups)
        graph.output(made, "result", (1, channels[1], size, size))
        return graph.finish()

    reads, writes = 4 * (channels[0] * size**2 + channels[1] * fan_in), 4 * channels[1] * size**2
    return Case(build, 2.0 * channels[1] * size**2 * fan_in, reads, writes)


def _transposed_convolution(batch: int, channels: Pair, size: int) -> Case:
    def build() -> onnx.ModelProto:
        graph = Graph("transposed", seed=3)
        image = graph.input("image", (batch, channels[0], size, size))
        made = graph.conv_transpose(image, channels, 4, stride=2, pad=1)
        graph.output(made, "result", (batch, channels[1], 2 * size, 2 * size))
        return graph.finish()

    reads = 4 * (batch * channels[0] * size**2 + 16 * channels[0] * channels[1])
    operations = 2.0 * batch * size**2 * channels[0] * channels[1] * 16
    return Case(build, operations, reads, 4 * batch * channels[1] * 4 * size**2)


def _softmax(rows: int, columns: int) -> Case:
    def build() -> onnx.ModelProto:
        graph = Graph("softmax", seed=4)
        made = graph.node("Softmax", graph.input("scores", (rows, columns)), axis=-1)
        graph.output(made, "shares", (rows, columns))
        return graph.finish()

    return Case(build, 4.0 * rows * columns, 4 * rows * columns, 4 * rows * columns)


def _layer_norm(rows: int, columns: int) -> Case:
    def build() -> onnx.ModelProto:
        graph = Graph("layer_norm", seed=5)
        value = graph.input("value", (rows, columns))
        scale, bias = graph.bias(columns), graph.bias(columns)
        graph.output(graph.node("LayerNormalization", value, scale, bias, axis=-1), "result", (rows, columns))
        return graph.finish()

    return Case(build, 8.0 * rows * columns, 4 * rows * columns, 4 * rows * columns)


def band_gathered() -> onnx.ModelProto:
    """out[b, i, j] = Σ_k query[b, i, k] · key[b, i + 4 (j - 1000), k], as exported from its definition.

    A constant index table gathers a row of keys for every pair (i, j): 41 GB, were they ever stored, which peers would do.
    """
    graph = Graph("band_gathered", seed=6)
    query, key = _band_inputs(graph)
    reach = DILATION * WINDOW
    table = np.arange(LENGTH)[:, None] + DILATION * np.arange(DIAGONALS)  # rows of the padded keys
    padded = graph.node("Pad", key, graph.ints(0, reach, 0, 0, reach, 0))
    rows = graph.node("Gather", padded, graph.constant(table.astype(np.int64), "window"), axis=1)
    product = graph.node("MatMul", rows, graph.node("Unsqueeze", query, graph.ints(3)))
    graph.output(graph.node("Squeeze", product, graph.ints(3)), "band", (HEADS, LENGTH, DIAGONALS))
    return graph.finish()


def band_chunked(chunk: int) -> onnx.ModelProto:
    """The same in standard operators that fit in memory: dense products of chunks of queries with the keys around them.

    The residue classes modulo the dilation become an axis, where the window is dense. A chunk of c queries meets c + 2000 keys;
    row i of that product holds its band from column i on, so a row longer by one column, by padding and reshaping the flat
    product, brings the bands below one another, and a slice takes them. 0.8 GB of products for chunks of 500.
    """
    graph = Graph(f"band_chunks_of_{chunk}", seed=6)
    query, key = _band_inputs(graph)
    length = LENGTH // DILATION  # of one residue class
    chunks, met = length // chunk, chunk + 2 * WINDOW
    query, key = (_split_residues(graph, rows, length) for rows in (query, key))
    query = graph.node("Reshape", query, graph.ints(HEADS, DILATION, chunks, chunk, WIDTH))
    key = graph.node("Pad", key, graph.ints(0, 0, WINDOW, 0, 0, 0, WINDOW, 0))
    parts = [
        graph.node("Slice", key, graph.ints(start), graph.ints(start + met), graph.ints(2))
        for start in range(0, length, chunk)
    ]
    parts = [graph.node("Unsqueeze", part, graph.ints(2)) for part in parts]
    key = graph.node("Concat", *parts, axis=2) if len(parts) > 1 else parts[0]
    product = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 1, 2, 4, 3]))
    flat = graph.node("Reshape", product, graph.ints(HEADS, DILATION, chunks, chunk * met))
    flat = graph.node("Pad", flat, graph.ints(0, 0, 0, 0, 0, 0, 0, chunk))
    skewed = graph.node("Reshape", flat, graph.ints(HEADS, DILATION, chunks, chunk, met + 1))
    band = graph.node("Slice", skewed, graph.ints(0), graph.ints(DIAGONALS), graph.ints(4))
    band = graph.node("Reshape", band, graph.ints(HEADS, DILATION, length, DIAGONALS))
    band = graph.node("Transpose", band, perm=[0, 2, 1, 3])
    band = graph.node("Reshape", band, graph.ints(HEADS, LENGTH, DIAGONALS))
    graph.output(band, "band", (HEADS, LENGTH, DIAGONALS))
    return graph.finish()


def _band_inputs(graph: Graph) -> tuple[str, str]:
    return graph.input("query", (HEADS, LENGTH, WIDTH)), graph.input("key", (HEADS, LENGTH, WIDTH))


def _split_residues(graph: Graph, rows: str, length: int) -> str:
    """(heads, length, width) to (heads, dilation, length, width): position p to (p mod 4, p div 4)."""
    rows = graph.node("Reshape", rows, graph.ints(HEADS, length, DILATION, WIDTH))
    return graph.node("Transpose", rows, perm=[0, 2, 1, 3])


def _band() -> Case:
    positions = np.arange(LENGTH)[:, None] + DILATION * (np.arange(DIAGONALS) - WINDOW)
    inside = int(
        ((positions >= 0) & (positions < LENGTH)).sum()
    )  # outside, zeros are written and nothing is multiplied
    return Case(
        band_gathered,
        2.0 * HEADS * inside * WIDTH,
        2 * 4 * HEADS * LENGTH * WIDTH,
        4 * HEADS * LENGTH * DIAGONALS,
        {f"band_chunks_of_{chunk}": lambda chunk=chunk: band_chunked(chunk) for chunk in (250, 500)},  # type: ignore[misc]
    )


CASES: Mapping[str, Case] = {
    "GEMM 1024×1024×1024": _gemm(1024, 1024, 1024),
    "GEMM 1024×1024×1024, both inputs": _gemm(1024, 1024, 1024, constant=False),
    "GEMM 3136×64×576": _gemm(3136, 64, 576),
    "GEMM 49×512×4608": _gemm(49, 512, 4608),
    "GEMM 16×4096×4096": _gemm(16, 4096, 4096),
    "GEMM 1×4096×4096": _gemm(1, 4096, 4096),
    "Conv 64→64 3×3 at 56²": _convolution((64, 64), 56),
    "Conv 128→128 3×3 at 28²": _convolution((128, 128), 28),
    "Conv 256→256 3×3 at 14²": _convolution((256, 256), 14),
    "Conv 512→512 3×3 at 7²": _convolution((512, 512), 7),
    "depthwise Conv 64 3×3 at 112²": _convolution((64, 64), 112, groups=64),
    "ConvTranspose 512→256 4×4 s2 at 8², batch 16": _transposed_convolution(16, (512, 256), 8),
    "band MatMul 8×10000×64, w 1000, d 4": _band(),
    "Softmax 4096×768": _softmax(4096, 768),
    "LayerNormalization 4096×768": _layer_norm(4096, 768),
}
"""By label; a GEMM is rows × columns × depth. Square sizes are of the input."""
