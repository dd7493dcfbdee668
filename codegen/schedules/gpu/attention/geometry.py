"""How attention is cut for a GPU: the rows of a block, the keys that it has scores of at a time, the columns that it sums.

Every candidate is estimated in cycles of the busiest multiprocessor, as those of contractions are; the cheapest is taken, or the
one that a variant names.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import inf

import numpy as np

from codegen.lower import tir
from codegen.schedules.gpu.attention.form import Attention, recognize
from codegen.schedules.gpu.contraction.operand import AT_ONCE
from codegen.schedules.gpu.contraction.tiles import PAD, Tile
from codegen.targets.gpu import GpuTarget
from tensoropt.ir.expression import Scope

_TILES = {1: (1, 1), 2: (1, 2), 4: (2, 2), 8: (2, 4), 16: (4, 4)}
"""Rows and columns of a thread, by how many results it has. Of twice as many, beside the other product's, some would spill."""
_LATENCY = 500.0
"""Cycles from asking for a step's operands to having them, which other resident blocks may hide."""
_INDEXING = 16.0
"""Operations beside each element that is brought to shared memory."""
_WEIGHING = 40.0
"""Operations beside each score: its exponential, the largest and the sum, to shared memory and back."""
_SHARED_BYTES = 128.0
"""Of shared memory that a multiprocessor reads in a cycle."""
_MOST_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Cut:
    """The tile of a block's scores for some keys, and that of its sums, by the same threads."""

    scores: Tile
    sums: Tile
    cycles: float

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.scores.threads

    @property
    def registers(self) -> int:
        """About what a thread needs: its results of both products, and what it brings for a step of the larger."""
        brought = (self.scores.rows + self.scores.columns) * self.scores.depth // self.threads
        return self.scores.sums + self.sums.sums + brought + 40

    @property
    def resident(self) -> int:
        """Blocks that a multiprocessor's registers are to be enough for: left to itself, the compiler spills for one more."""
        return (768 if self.registers <= 80 else 512) // self.threads

    @property
    def at_once(self) -> int:
        """Elements of an operand that a thread reads together at the most: of more, where registers are full, nvcc spills some."""
        return AT_ONCE if self.registers < 80 else 2

    def shared_bytes(self, itemsize: int) -> int:
        """Of a block: the operands of either product, the scores, and what is known of each row."""
        one, other = self.scores, self.sums
        held = one.columns * (one.rows + PAD) + self.threads + one.rows
        return one.shared_bytes(itemsize) + (held + 2 * other.depth * (other.columns + PAD)) * itemsize

    def label(self) -> str:
        """A short text for reports."""
        return (
            f"{self.scores.rows} rows x {self.scores.columns} keys, {self.sums.columns} columns, {self.threads} threads"
        )


def candidates(found: Attention, target: GpuTarget) -> list[Cut]:
    """All ways to cut attention that the target can run, the cheapest first; none where no block fits its shared memory."""
    itemsize = np.dtype(tir.COMPUTED[found.sums.dtype]).itemsize
    made = [
        cut
        for rows, keys, columns, threads in product((16, 32, 64), (16, 32, 64), (16, 32, 64, 128), (64, 128, 256))
        if _sensible(rows, found.rows) and _sensible(keys, found.keys) and _sensible(columns, found.columns)
        and threads <= target.max_threads and threads >= rows
        and (cut := _cut(found, target, rows, keys, columns, threads, itemsize)) is not None
    ]  # fmt: skip
    fitting = [cut for cut in made if cut.shared_bytes(itemsize) <= target.shared_bytes]
    return sorted(fitting, key=lambda cut: (cut.cycles, -cut.threads))  # more threads have fewer registers each


def fits(expression: Scope, target: GpuTarget) -> bool:
    """Whether a kernel is attention that a target computes in one launch."""
    found = recognize(expression)
    return found is not None and bool(candidates(found, target))


def _sensible(size: int, extent: int) -> bool:
    """Whether a size of a tile is less than twice an extent, or the least."""
    return size == 16 or size < 2 * extent


def _cut(
    found: Attention, target: GpuTarget, rows: int, keys: int, columns: int, threads: int, itemsize: int
) -> Cut | None:
    own = [_TILES.get(rows * wide // threads) if rows * wide >= threads else None for wide in (keys, columns)]
    if None in own or threads // rows > keys:
        return None
    depth = min(_MOST_DEPTH, keys)
    tiles = [
        Tile(rows, wide, 8 if extent <= 8 else depth, *shape)
        for wide, extent, shape in zip((keys, columns), (found.products.depth, found.keys), own, strict=True)
        if shape is not None
    ]
    cut = Cut(tiles[0], tiles[1], 0.0)
    return Cut(cut.scores, cut.sums, _cycles(found, cut, target, itemsize))


def _cycles(found: Attention, cut: Cut, target: GpuTarget, itemsize: int) -> float:
    """Of the busiest multiprocessor, where a step of all its resident blocks lasts as long as their work or as the latency."""
    one, (scores, sums) = target.multiprocessor, (cut.scores, cut.sums)
    registers = cut.threads * cut.registers * itemsize // 4
    resident = one.resident(cut.threads, registers, cut.shared_bytes(itemsize))
    if not resident:
        return inf
    blocks = found.sums.batches * -(-found.rows // scores.rows) * -(-found.columns // sums.columns)
    mine = -(-blocks // target.multiprocessors)
    work, steps = 0.0, 0
    for tile, depth in ((scores, found.products.depth), (sums, scores.columns)):
        turns = -(-depth // tile.depth)
        brought = (tile.columns + (tile.rows if tile is scores else 0)) * tile.depth
        products = tile.rows * tile.columns * tile.depth * max(1, itemsize // 4)
        work += turns * max((products + brought * _INDEXING) / one.lanes, tile.read_bytes(itemsize) / _SHARED_BYTES)
        steps += turns
    work += scores.rows * scores.columns * _WEIGHING / one.lanes
    latency = _LATENCY * steps if target.warp > 1 else 0.0
    rounds, rest = divmod(mine, resident)
    together = rounds * max(resident * work, latency) + (max(rest * work, latency) if rest else 0.0)
    return -(-found.passed(scores.rows) // scores.columns) * together
