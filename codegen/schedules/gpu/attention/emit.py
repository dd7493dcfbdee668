"""One block of attention: some rows of a batch, past all keys, a tile of keys at a time (FlashAttention, Dao et al. 2022).

The tile's scores lie in shared memory, where they become weights: exponentials less the largest score that each row has had so far.
Their products with the values are added to sums in registers. Where a later tile has a larger score, what was summed before is made
smaller by the same factor as its weights would have been; the sums are divided at the end. So a row's weights are never all there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx

from codegen.lower import tir
from codegen.lower.emitter import Emitter
from codegen.schedules.gpu.attention.form import Attention
from codegen.schedules.gpu.attention.geometry import Cut
from codegen.schedules.gpu.attention.products import Scores, Sums
from codegen.schedules.gpu.attention.softmax import Softmax
from codegen.schedules.gpu.context import Body, Context, Threads, allocate, barrier, shared, wide
from codegen.schedules.gpu.contraction.tiles import PAD
from tensoropt.ir.index import Iterator


def schedule(context: Context, found: Attention, cut: Cut) -> tuple[str, Body]:
    """The name of the schedule and the launch that computes attention. ``context.buffers`` holds its result."""
    return f"attention {cut.label()}", _Block(context, found, cut).launch()


class _Block:
    """The statement of a thread."""

    def __init__(self, context: Context, found: Attention, cut: Cut) -> None:
        self.context, self.found, self.cut, self.width = context, found, cut, context.width
        kind = tir.COMPUTED[found.sums.dtype]
        self.memory = shared(kind, cut.scores.columns * (cut.scores.rows + PAD), "scores")
        self.factors = shared(kind, cut.scores.rows, "factor_of_row")
        self.scores = Scores(context, context.epilogue(found.scores), found.products, cut.scores, cut.at_once)
        ending = context.epilogue(found.values)
        self.sums = Sums(context, ending, found.sums, cut, self.memory, self.factors)

    def launch(self) -> Body:
        """A block of threads for some rows and columns of a batch."""
        scores, sums = self.scores, self.sums
        sizes = (sums.row, self.cut.sums.rows), (sums.column, self.cut.sums.columns)
        rows, columns = (-(-loop.extent // size) for loop, size in sizes)
        threads = Threads((sums.batch.extent * rows * columns,), (self.cut.threads,), self.cut.resident)
        emitter = self.context.emitter({})
        thread = emitter.bind(wide(threads.thread[0], self.width))
        left = wide(threads.block[0], self.width)
        numbers = []
        for count in (columns, rows):
            numbers.append(emitter.bind(tirx.truncmod(left, tir.integer(count, self.width))))
            left = tirx.truncdiv(left, tir.integer(count, self.width))
        batch = emitter.bind(left)
        column, row = numbers
        values = {scores.batch: batch, sums.batch: batch, scores.thread: thread}
        softmax = Softmax(self.context, self.cut, self.memory, self.factors, thread)
        kept = [self.memory, self.factors]
        parts = [
            *(allocate(one) for one in kept), *softmax.allocations(),
            *scores.left.allocations(), *scores.right.allocations(), *sums.right.allocations(),
            tir.allocate(scores.sums), tir.allocate(sums.sums),
            *emitter.statements, softmax.start(), sums.clear(),
            self._keys(softmax, row, column, values), softmax.totals(), sums.ends([row, column], values),
        ]  # fmt: skip
        return Body(tir.sequence(parts), threads)

    def _keys(self, softmax: Softmax, row: Any, column: Any, values: Mapping[Iterator, Any]) -> Any:
        """All keys that the block's rows have, tile after tile.

        The block waits at the first step of the scores before it overwrites those of the tile before, and wherever else it must.
        """
        scores, sums, width = self.scores, self.sums, self.width
        size, depth = self.cut.scores.columns, self.cut.sums.depth
        zero, steps = tir.integer(0, width), -(-scores.step.extent // self.cut.scores.depth)
        all_steps = -(-sums.step.extent // depth)
        about = self.context.emitter({})
        first, tiles = self._tiles(about, row)

        def tile(turn: Any) -> Any:
            emitter = self.context.emitter({})
            number = turn if first is None else emitter.bind(first + turn)
            before = emitter.bind(number * tir.integer(size // depth, width))
            count = emitter.bind(tirx.Min(tir.integer(size // depth, width), tir.integer(all_steps, width) - before))
            return tir.sequence(
                [
                    *emitter.statements,
                    scores.clear(),
                    scores.steps([row, number], values, zero, steps),
                    scores.store(self.memory, (row, number), values),
                    barrier(),
                    softmax.weights(),
                    sums.scaled(values),
                    sums.steps([column], values, before, count),
                ]
            )

        return tir.sequence([*about.statements, tir.serial(tiles, tile, "tile", width)])

    def _tiles(self, emitter: Emitter, row: Any) -> tuple[Any | None, Any]:
        """The first tile of keys of a block of rows, None where that is the first of all, and how many there are."""
        rows, size, keys, width = self.cut.scores.rows, self.cut.scores.columns, self.found.keys, self.width
        passed = self.found.passed(rows)
        if passed == keys:
            return None, -(-keys // size)
        begin = row * tir.integer(rows, width)
        end = tirx.Min(begin + tir.integer(passed + size - 1, width), tir.integer(keys + size - 1, width))
        first = emitter.bind(tirx.truncdiv(begin, tir.integer(size, width)))
        return first, emitter.bind(tirx.truncdiv(end, tir.integer(size, width)) - first)
