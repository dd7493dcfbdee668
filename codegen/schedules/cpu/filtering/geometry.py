"""How a convolution by products at points is cut: lines of tiles in blocks, register tiles of the products, who does what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from codegen.schedules.cpu.context import Context
from codegen.schedules.cpu.contraction.geometry import even_tiles
from codegen.schedules.cpu.filtering.linear import combination
from codegen.schedules.cpu.filtering.recognize import Filtering
from codegen.targets.cpu import CYCLES, CpuTarget
from tensoropt.features import Features

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
    width = filtering.across.tile.extent * filtering.across.apart
    lanes = context.target.lanes
    while lanes > 4 and lanes // 2 >= filtering.across.tile.extent:
        lanes //= 2
    lines, found = lines_of(filtering), []
    for wanted in (16, 32, 48, 64, 96, 128, 192):
        block = max(1, min(lines, wanted // width))
        for rows, vectors in _register_tiles(context, filtering, block * width):
            panel = filtering.points * 4 * block * width
            features = max(rows, min(filtering.height, _PANEL_BYTES // panel // rows * rows))
            for together in (False, True) if block < lines else (True,):
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
    threads = context.target.threads
    blocks = -(-lines_of(filtering) // cut.lines)
    inputs, products, outputs = features(context.target, filtering, cut)
    block = CYCLES.total([inputs, outputs]) + CYCLES.cost(products)
    if cut.together:
        cycles = blocks * (block / threads + CYCLES.cost(Features(starts=2.0)))
    else:
        cycles = -(-blocks // threads) * block + CYCLES.cost(Features(starts=0.5))
    return replace(cut, cycles=cycles)


def features(
    target: CpuTarget, filtering: Filtering, cut: Cut
) -> tuple[tuple[float, Features], Features, tuple[float, Features]]:
    """What one thread does for a block: strips transformed, so many times; all products; strips transformed back."""
    down, across = filtering.down, filtering.across
    lanes = target.lanes
    high, step = (down.points, down.step) if down is not None else (1, 1)
    scale = max(cut.lanes / lanes, 0.5)  # half vectors take half the time, quarters no less
    chunks = -(-across.tile.extent // cut.lanes)
    vectors = across.step * across.apart + 1
    first = combination(down.inputs).operations * vectors if down is not None else 0
    last = combination(down.outputs).operations * across.step if down is not None else 0
    inputs = Features(
        operations=first + high * combination(across.inputs).operations * across.apart,
        shuffles=high * (2.0 * (vectors - 1) + (across.points - across.step) * across.apart),
        stores=(high * across.points * across.apart + high * vectors) / 2,
    )
    outputs = Features(
        operations=(last + high * combination(across.outputs).operations) * across.apart,
        shuffles=2.0 * step * (vectors - 1),
        stores=step * (vectors - 1) * 1.5 + high * across.points * across.apart / 3,
    )
    tiles = -(-cut.lines * across.tile.extent * across.apart // lanes)
    products = Features(far_bytes=filtering.points * filtering.depth * filtering.height * 4.0)
    for _, count, rows in even_tiles(filtering.height, cut.rows):
        for _, many, used in even_tiles(tiles, cut.vectors):
            one = Features(rows * used * 1.0, loads=rows + used, near_bytes=used * lanes * 4.0, steps=1.0)
            end = Features(stores=rows * used, overheads=10.0)
            products = products + (one * filtering.depth + end) * (count * many * filtering.points)
    strips = cut.lines * chunks * scale
    return (filtering.depth * strips, inputs), products, (filtering.height * strips, outputs)
