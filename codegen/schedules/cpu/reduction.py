"""Reductions without reuse: pooling, depthwise convolution, sums and maxima along axes.

Lanes run along the innermost output axis where the reads are contiguous there (pooling, column sums), otherwise along the
innermost reduced axis (row sums, global pooling); then the lanes are folded at the end. Small windows are unrolled, so that
the guards of their taps are decided when the kernel is generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm import tirx

from codegen.lower import tir
from codegen.lower.reads import operations, unflatten
from codegen.schedules.context import Epilogue
from codegen.schedules.cpu.context import Context, thread_range
from codegen.schedules.cpu.injective import PARALLEL_WORK
from codegen.schedules.reducing import Reduction, along_output, merged
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType


def schedule(context: Context, epilogue: Epilogue) -> Any:
    """The statement that computes a reduction stage with its epilogue."""
    scope = epilogue.stage.scope
    kept, folded = merged(context, epilogue)
    along = along_output(context, scope, kept, folded)
    work = kept.points * folded.points * max(1, operations(scope.body))
    threads = context.target.threads if work >= PARALLEL_WORK else 1
    nest = Nest(context, epilogue, kept, folded)
    return nest.along_output(threads) if along else nest.along_reduction(threads)


class Nest(Reduction[Context]):
    """The loops of one reduction stage on a CPU."""

    def _parallel_rows(self, rows: int, threads: int, body: Any) -> Any:
        workers = threads if rows >= threads else 1

        def some(task: Any) -> Any:
            first, count = thread_range(rows, workers, task, self.width)
            return tir.serial(count, lambda row: body(first + row), "row", self.width)

        return tir.parallel(workers, some, self.width)

    # -- lanes along the output ------------------------------------------------------------------------------------------

    def along_output(self, threads: int) -> Any:
        """A vector of neighbouring outputs at a time; several vectors share the loops over the reduction."""
        *outer, inner = self.kept.loops
        lanes = self.context.target.lanes if inner.extent >= 4 else 1
        chunks = -(-inner.extent // lanes)
        together = min(chunks, 4)
        blocks = -(-chunks // together)
        rows = prod(loop.extent for loop in outer)
        row, block = Iterator("row", rows), Iterator("block", max(1, chunks // together))

        def pieces(start: Index, first: int, count: int, variables: Any) -> Any:
            used = [min(lanes, inner.extent - (first + chunk) * lanes) for chunk in range(count)]
            return self._vectors(row, start, used, lanes, variables)

        full_blocks, rest = divmod(chunks, together)
        if inner.extent % lanes and not rest:
            full_blocks, rest = full_blocks - 1, together

        def one_row(row_value: Any) -> Any:
            parts = []
            if full_blocks:
                parts.append(
                    tir.serial(
                        full_blocks,
                        lambda value: pieces(
                            Index.of(block) * (together * lanes), 0, together, {row: row_value, block: value}
                        ),
                        "block",
                        self.width,
                    )
                )
            if rest:
                first = full_blocks * together
                parts.append(pieces(Index.of(first * lanes), first, rest, {row: row_value}))
            return tir.sequence(parts)

        if rows >= threads or threads == 1:
            return self._parallel_rows(rows, threads, one_row)
        items = rows * blocks

        def item(value: Any) -> Any:
            count = tir.integer(blocks, self.width)
            row_value, block_value = tirx.truncdiv(value, count), tirx.truncmod(value, count)
            full = pieces(Index.of(block) * (together * lanes), 0, together, {row: row_value, block: block_value})
            if not rest:
                return full
            first = full_blocks * together
            tail = pieces(Index.of(first * lanes), first, rest, {row: row_value})
            if not full_blocks:
                return tail
            return tirx.IfThenElse(block_value < tir.integer(full_blocks, self.width), full, tail)

        return self._parallel_rows(items, threads, item)

    def _vectors(self, row: Iterator, start: Index, used: list[int], lanes: int, variables: Any) -> Any:
        *outer, inner = self.kept.loops
        where = unflatten(Index.of(row), outer)
        accumulators = [tir.local(self.computed, lanes, f"sum{number}") for number in range(len(used))]
        boolean = self.dtype is DataType.BOOL
        if boolean:
            accumulators = [tir.local("uint8", lanes, f"sum{number}") for number in range(len(used))]
        zero = tir.integer(0)
        parts: list[Any] = [tir.allocate(accumulator) for accumulator in accumulators]

        def save(accumulator: Any, value: Any) -> Any:
            return tir.store(
                accumulator, tirx.Cast(tir.typed("uint8", lanes), value) if boolean else value, zero, lanes
            )

        def read(accumulator: Any) -> Any:
            value = tir.load(accumulator, zero, lanes)
            return tirx.NE(value, tir.number(0, "uint8", lanes)) if boolean else value

        parts += [save(accumulator, self.start(lanes)) for accumulator in accumulators]
        lane_loops = [Iterator("lane", count) for count in used]

        def step(reduced: Mapping[Iterator, Index], values: Any) -> Any:
            statements = []
            for number, lane in enumerate(lane_loops):
                offset = start + number * lanes + (Index.of(lane) if lanes > 1 else 0)
                placed = {**where, inner: offset, **reduced}
                emitter = self.context.emitter({**variables, **values}, lane, lanes, placed)
                value = emitter.vector(emitter.value(self.body))
                total = self.fold(emitter, read(accumulators[number]), value)
                statements += [*emitter.statements, save(accumulators[number], total)]
            return tir.sequence(statements)

        parts.append(self.loops(step))
        for number, lane in enumerate(lane_loops):
            offset = start + number * lanes + (Index.of(lane) if lanes > 1 else 0)
            parts.append(self.finish({**where, inner: offset}, variables, lane, lanes, read(accumulators[number])))
        return tir.sequence(parts)

    # -- lanes along the reduction ---------------------------------------------------------------------------------------

    def along_reduction(self, threads: int) -> Any:
        """One output at a time: every lane folds its share of the innermost reduced axis, then the lanes are folded."""
        row = Iterator("row", self.kept.points)
        return self._parallel_rows(self.kept.points, threads, lambda value: self.one(row, value))

    def one(self, row: Iterator, row_value: Any) -> Any:
        """One output, which ``row`` counts."""
        *rolled, inner = self.folded.loops
        lanes = self.context.target.lanes
        where = unflatten(Index.of(row), self.kept.loops)
        together = max(1, min(4, inner.extent // lanes))
        chunks, rest = divmod(inner.extent, lanes)
        blocks, single = divmod(chunks, together)
        boolean = self.dtype is DataType.BOOL
        kind = "uint8" if boolean else self.computed
        totals = tir.local(kind, lanes * together, "sum")
        parts: list[Any] = [tir.allocate(totals)]

        def save(number: int, value: Any) -> Any:
            raw = tirx.Cast(tir.typed("uint8", lanes), value) if boolean else value
            return tir.store(totals, raw, tir.integer(number * lanes), lanes)

        def read(number: int) -> Any:
            value = tir.load(totals, tir.integer(number * lanes), lanes)
            return tirx.NE(value, tir.number(0, "uint8", lanes)) if boolean else value

        parts += [save(number, self.start(lanes)) for number in range(together)]

        def piece(start: Index, used: int, number: int, values: Any) -> Any:
            lane = Iterator("lane", used)
            emitter = self.context.emitter(values, lane, lanes, {**where, inner: start + Index.of(lane)})
            value = emitter.vector(emitter.value(self.body))
            if used < lanes:
                value = tirx.Select(tir.first_lanes(used, lanes), value, self.start(lanes))
            total = self.fold(emitter, read(number), value)
            return tir.sequence([*emitter.statements, save(number, total)])

        block, chunk = Iterator("block", max(1, blocks)), Iterator("chunk", max(1, single))

        def nest(depth: int, values: Any) -> Any:
            if depth < len(rolled):
                loop = rolled[depth]
                return tir.serial(
                    loop.extent, lambda value: nest(depth + 1, {**values, loop: value}), loop.name, self.width
                )
            inside = []
            if blocks:
                inside.append(
                    tir.serial(
                        blocks,
                        lambda value: tir.sequence(
                            [
                                piece(Index.of(block) * (together * lanes) + number * lanes, lanes, number,
                                      {**values, block: value})
                                for number in range(together)
                            ]
                        ),
                        "block",
                        self.width,
                    )
                )  # fmt: skip
            if single:
                inside.append(
                    tir.serial(
                        single,
                        lambda value: piece(
                            Index.of(chunk) * lanes + blocks * together * lanes, lanes, 0, {**values, chunk: value}
                        ),
                        "chunk",
                        self.width,
                    )
                )
            if rest:
                inside.append(piece(Index.of(chunks * lanes), rest, 0, values))
            return tir.sequence(inside)

        parts.append(nest(0, {row: row_value}))
        return tir.sequence([*parts, self._fold_lanes(row, row_value, where, read, lanes, together)])

    def _fold_lanes(self, row: Iterator, row_value: Any, where: Any, read: Any, lanes: int, together: int) -> Any:
        emitter = self.context.emitter({row: row_value}, None, 1)
        emitter.lanes = lanes
        total = emitter.bind(read(0))
        for number in range(1, together):
            total = emitter.bind(self.fold(emitter, total, read(number)))
        width = lanes
        while width > 1:
            width //= 2
            emitter.lanes = width
            low = emitter.bind(tirx.Shuffle([total], list(range(width))))
            high = emitter.bind(tirx.Shuffle([total], list(range(width, 2 * width))))
            total = emitter.bind(self.fold(emitter, low, high))
        done = self.finish(where, {row: row_value}, None, 1, total)
        return tir.sequence([*emitter.statements, done])
