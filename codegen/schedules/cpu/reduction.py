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

from codegen.lower import scalar, tir
from codegen.lower.emitter import Emitter, Value
from codegen.lower.reads import Axes, Reads, contiguous_groups, merge, operations, plain, reads
from codegen.schedules.cpu.context import Context, Epilogue, thread_range
from codegen.schedules.cpu.injective import PARALLEL_WORK
from tensoropt.ir.expression import Apply, Reducer, Scalar, Scope, reducer_identity, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType

UNROLLED_TAPS = 32
"""Reductions of at most so many points are written out."""

_FOLD = {Reducer.SUM: "add", Reducer.PROD: "mul", Reducer.MAX: "max", Reducer.MIN: "min"}


def schedule(context: Context, epilogue: Epilogue) -> Any:
    """The statement that computes a reduction stage with its epilogue."""
    scope = epilogue.stage.scope
    found = reads(scope.body, context.buffers.keys())
    outside = reads(epilogue.body, {*context.buffers, scope})
    watched = (*found.watched, *outside.watched, epilogue.output_index())
    kept = merge(contiguous_groups(scope.traversal, watched, "f") or [[]], "f")
    folded = merge(_folded_groups(scope, found), "k")
    along_output = _along_output(context, scope, found, kept, folded)
    work = kept.points * folded.points * max(1, operations(scope.body))
    threads = context.target.threads if work >= PARALLEL_WORK else 1
    nest = Nest(context, epilogue, kept, folded)
    return nest.along_output(threads) if along_output else nest.along_reduction(threads)


def _folded_groups(scope: Scope, found: Reads) -> list[list[Iterator]]:
    return contiguous_groups(scope.reduction, found.watched, "k") or [[]]


def _along_output(context: Context, scope: Scope, found: Reads, kept: Axes, folded: Axes) -> bool:
    """Whether lanes run along the innermost output axis rather than the innermost reduced one."""
    outer, inner = kept.loops[-1], folded.loops[-1]
    if inner.extent < 4:
        return True
    if outer.extent < 4:
        return False
    return _awkward(found, kept.mapping, outer) * min(inner.extent, 16) <= _awkward(found, folded.mapping, inner) * min(
        outer.extent, 16
    )


def _awkward(found: Reads, mapping: Mapping[Iterator, Index], loop: Iterator) -> int:
    """How many loads are neither contiguous nor the same along a loop, plus one."""
    count = 1
    for _, flat in found.loads:
        index = flat.substitute(mapping)
        if not plain(index, loop) or index.coefficient(loop) not in (0, 1):
            count += 1
    return count


class Nest:
    """The loops of one reduction stage."""

    def __init__(self, context: Context, epilogue: Epilogue, kept: Axes, folded: Axes) -> None:
        self.context, self.epilogue, self.kept, self.folded = context, epilogue, kept, folded
        self.scope = epilogue.stage.scope
        self.dtype: DataType = self.scope.dtype
        self.computed = tir.COMPUTED[self.dtype]
        assert self.scope.reducer is not None
        self.reducer: Reducer = self.scope.reducer
        self.width = context.width
        zero = Index.of(0)
        points = {iterator: kept.mapping.get(iterator, zero) for iterator in self.scope.traversal}
        taps = {iterator: folded.mapping.get(iterator, zero) for iterator in self.scope.reduction}
        self.body: Scalar = substitute(self.scope.body, {**points, **taps})
        self.end = epilogue.at(points)

    # -- shared ----------------------------------------------------------------------------------------------------------

    def _start(self, lanes: int) -> Any:
        return tir.number(reducer_identity(self.reducer, self.dtype), self.computed, lanes)

    def _fold(self, emitter: Emitter, left: Any, right: Any) -> Any:
        """Folds without rounding: half types are rounded when the reduction is done."""
        dtype = DataType.FLOAT32 if self.computed == "float32" else self.dtype
        return scalar.apply(_FOLD[self.reducer], [left, right], dtype, emitter.lanes, emitter.bind)

    def _finish(
        self, where: Mapping[Iterator, Index], variables: Any, lane: Iterator | None, lanes: int, folded: Any
    ) -> Any:
        """The epilogue and the store at a point (the kept loops in terms of what runs), given the reduced value."""
        access, body, position = self.end
        emitter = self.context.emitter(variables, lane, lanes, where)
        half = self.dtype in (DataType.FLOAT16, DataType.BFLOAT16)
        value = scalar.round_half(folded, self.dtype, lanes, emitter.bind) if half else folded
        emitter.give(access, Value(emitter.bind(value), lanes == 1))
        stored = emitter.stored(body)
        written = emitter.write(self.context.buffers[self.epilogue.stage.result], position, stored)
        return tir.sequence([*emitter.statements, written])

    def _outer(self, loops: tuple[Iterator, ...], row: Iterator) -> dict[Iterator, Index]:
        mapping: dict[Iterator, Index] = {}
        stride = 1
        for loop in reversed(loops):
            position = Index.of(row) // stride
            mapping[loop] = position if loop is loops[0] else position % loop.extent
            stride *= loop.extent
        return mapping

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
        where = self._outer(tuple(outer), row)
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

        parts += [save(accumulator, self._start(lanes)) for accumulator in accumulators]
        lane_loops = [Iterator("lane", count) for count in used]

        def step(reduced: Mapping[Iterator, Index], values: Any) -> Any:
            statements = []
            for number, lane in enumerate(lane_loops):
                offset = start + number * lanes + (Index.of(lane) if lanes > 1 else 0)
                placed = {**where, inner: offset, **reduced}
                emitter = self.context.emitter({**variables, **values}, lane, lanes, placed)
                value = emitter.vector(emitter.value(self.body))
                total = self._fold(emitter, read(accumulators[number]), value)
                statements += [*emitter.statements, save(accumulators[number], total)]
            return tir.sequence(statements)

        parts.append(self._reduction_loops(step))
        for number, lane in enumerate(lane_loops):
            offset = start + number * lanes + (Index.of(lane) if lanes > 1 else 0)
            parts.append(self._finish({**where, inner: offset}, variables, lane, lanes, read(accumulators[number])))
        return tir.sequence(parts)

    def _reduction_loops(self, step: Any) -> Any:
        """Loops over the reduction; small inner ones are unrolled."""
        loops = self.folded.loops
        split, points = len(loops), 1
        while split and points * loops[split - 1].extent <= UNROLLED_TAPS:
            split -= 1
            points *= loops[split].extent
        rolled, unrolled = loops[:split], loops[split:]

        def taps(values: Any) -> Any:
            fixed: list[dict[Iterator, Index]] = [{}]
            for loop in unrolled:
                fixed = [{**one, loop: Index.of(position)} for one in fixed for position in range(loop.extent)]
            own = {loop: Index.of(loop) for loop in rolled}
            return tir.sequence([step({**own, **one}, values) for one in fixed])

        def nest(depth: int, values: Any) -> Any:
            if depth == len(rolled):
                return taps(values)
            loop = rolled[depth]
            return tir.serial(
                loop.extent, lambda value: nest(depth + 1, {**values, loop: value}), loop.name, self.width
            )

        return nest(0, {})

    # -- lanes along the reduction ---------------------------------------------------------------------------------------

    def along_reduction(self, threads: int) -> Any:
        """One output at a time: every lane folds its share of the innermost reduced axis, then the lanes are folded."""
        row = Iterator("row", self.kept.points)
        return self._parallel_rows(self.kept.points, threads, lambda value: self.one(row, value))

    def one(self, row: Iterator, row_value: Any) -> Any:
        """One output, which ``row`` counts."""
        *rolled, inner = self.folded.loops
        lanes = self.context.target.lanes
        where = self._outer(self.kept.loops, row)
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

        parts += [save(number, self._start(lanes)) for number in range(together)]

        def piece(start: Index, used: int, number: int, values: Any) -> Any:
            lane = Iterator("lane", used)
            emitter = self.context.emitter(values, lane, lanes, {**where, inner: start + Index.of(lane)})
            value = emitter.vector(emitter.value(self.body))
            if used < lanes:
                value = tirx.Select(tir.first_lanes(used, lanes), value, self._start(lanes))
            total = self._fold(emitter, read(number), value)
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
            total = emitter.bind(self._fold(emitter, total, read(number)))
        width = lanes
        while width > 1:
            width //= 2
            emitter.lanes = width
            low = emitter.bind(tirx.Shuffle([total], list(range(width))))
            high = emitter.bind(tirx.Shuffle([total], list(range(width, 2 * width))))
            total = emitter.bind(self._fold(emitter, low, high))
        done = self._finish(where, {row: row_value}, None, 1, total)
        return tir.sequence([*emitter.statements, done])


def product_of(body: Scalar) -> list[Scalar]:
    """The factors of a body, products within products written out."""
    if isinstance(body, Apply) and body.operation == "mul":
        return [factor for argument in body.arguments for factor in product_of(argument)]
    return [body]
