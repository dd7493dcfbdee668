"""How a convolution by products at points is cut: lines of tiles in blocks, register tiles of the products, who does what."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from codegen.schedules.cpu.context import Context
from codegen.schedules.cpu.contraction.geometry import even_tiles
from codegen.schedules.cpu.filtering.linear import combination
from codegen.schedules.cpu.filtering.recognize import Filtering

_PANEL_BYTES = 512 << 10
"""What the products of one point of the features at a time may take, so that they are transformed from the second cache."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to cut.

    ``lanes`` tiles are transformed at once; a block is ``lines`` lines of tiles; products are computed in tiles of ``rows``
    features times ``vectors``; ``features`` of them are transformed together. ``together``: all threads share a block, phase by
    phase; otherwise every thread has blocks of its own.
    """

    lanes: int
    lines: int
    rows: int
    vectors: int
    features: int
    together: bool
    cycles: float = 0.0

    def label(self) -> str:
        """A short text for reports."""
        who = "shared" if self.together else "own"
        return f"lines{self.lines} lanes{self.lanes} {self.rows}x{self.vectors} features{self.features} {who}"


def lines_of(filtering: Filtering) -> int:
    """Lines of tiles."""
    return prod(iterator.extent for iterator in filtering.lines)


def cuts(context: Context, filtering: Filtering) -> list[Cut]:
    """All ways that make sense, the cheapest first."""
    width = filtering.across.tile.extent
    lanes = context.target.lanes
    while lanes > 4 and lanes // 2 >= width:
        lanes //= 2
    lines, found = lines_of(filtering), []
    for wanted in (16, 32, 48, 64, 96, 128, 192):
        block = max(1, min(lines, wanted // width))
        for rows, vectors in _register_tiles(context, filtering, block * width):
            panel = filtering.points * 4 * block * width
            features = max(rows, min(filtering.height, _PANEL_BYTES // panel // rows * rows))
            for together in (False, True):
                cut = Cut(lanes, block, rows, vectors, features, together)
                if cut not in found:
                    found.append(cut)
    rated = [_rated(context, filtering, cut) for cut in found]
    return sorted(rated, key=lambda cut: cut.cycles)


def _register_tiles(context: Context, filtering: Filtering, tiles: int) -> list[tuple[int, int]]:
    """(rows, vectors): as many rows as leave registers for vectors and a broadcast, of even size over the features."""
    total = -(-tiles // context.target.lanes)
    found = []
    for vectors in (1, 2, 3, 4):
        if vectors > total:
            continue
        most = min(24, (context.target.registers - 2 - vectors) // vectors)
        rows = -(-filtering.height // -(-filtering.height // most))
        found.append((rows, vectors))
    return found


def _rated(context: Context, filtering: Filtering, cut: Cut) -> Cut:
    """With the cycles of the slowest thread."""
    target = context.target
    down, across = filtering.down, filtering.across
    width, lanes = across.tile.extent, target.lanes
    high = down.points if down is not None else 1
    step = down.step if down is not None else 1
    scale = max(cut.lanes * 32 / target.vector_bits, 0.5)  # half vectors take half the time, quarters no less
    chunks = -(-width // cut.lanes)
    vectors = across.step + 1
    load = high * vectors * 2 + vectors * (combination(down.inputs).operations if down is not None else 0)
    spread = high * (3.0 * across.step + combination(across.inputs).operations + across.points * 2)
    one_in = (load + spread) * scale
    gather = high * across.points + high * combination(across.outputs).operations
    fold = across.step * (combination(down.outputs).operations if down is not None else 0)
    one_out = (gather + fold + step * across.step * 6.0) * scale
    blocks = -(-lines_of(filtering) // cut.lines)
    tiles = cut.lines * width
    column = -(-tiles // lanes)
    products = 0.0
    for _, count, rows in even_tiles(filtering.height, cut.rows):
        for _, many, used in even_tiles(column, cut.vectors):
            work = max(float(rows * used), rows / 2 + used, used * 2.1)
            products += count * many * (filtering.depth * work + rows * used * 2.0 + 12)
    products *= filtering.points
    streamed = (
        filtering.points * filtering.depth * filtering.height * 4 / 8.0
    )  # weights, from the third cache or memory
    inputs = filtering.depth * cut.lines * chunks * one_in
    outputs = filtering.height * cut.lines * chunks * one_out
    if cut.together:
        share = (inputs + outputs + max(products, streamed)) / target.threads + 12_000
        cycles = blocks * share
    else:
        cycles = -(-blocks // target.threads) * (inputs + outputs + max(products, streamed)) + 4_000
    return Cut(cut.lanes, cut.lines, cut.rows, cut.vectors, cut.features, cut.together, cycles)
