"""The loops of a contraction for one geometry: items in parallel; in each, panels packed, register tiles computed and stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx

from codegen.lower import scalar, tir
from codegen.lower.emitter import Value
from codegen.lower.reads import merge
from codegen.schedules.context import Epilogue
from codegen.schedules.cpu.context import Context, Packing, thread_range
from codegen.schedules.cpu.contraction.geometry import (
    Geometry,
    Run,
    cut,
    direct_strides,
    even_tiles,
    vector_lanes,
    vector_runs,
)
from codegen.schedules.cpu.contraction.panel import Panel
from codegen.schedules.sums_of_products import Contraction, Side
from tensoropt.ir.expression import Cast
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import HALVES, DataType


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a side: points ``first + step·size + …`` for ``step`` in a loop."""

    loop: Iterator
    first: int
    size: int

    @property
    def start(self) -> Index:
        """The first point, in terms of the loop."""
        return Index.of(self.loop) * self.size + self.first


class Emission:
    """Emits one contraction. Points of a side are counted through its iterators in row-major order."""

    def __init__(self, context: Context, epilogue: Epilogue, contraction: Contraction, geometry: Geometry) -> None:
        self.context, self.epilogue, self.contraction, self.geometry = context, epilogue, contraction, geometry
        self.side = contraction.sides[geometry.vector]
        self.rows = contraction.sides[1 - geometry.vector]
        self.lanes = vector_lanes(context, contraction)
        self.computed = tir.COMPUTED[contraction.dtype]
        self.width = context.width
        self.outer = (*contraction.batch, *geometry.outer)
        self.batch = Iterator("batch", prod(iterator.extent for iterator in self.outer))
        self.batch_mapping = merge([list(self.outer)], "b").mapping if self.outer else {}
        self.points = merge([list(geometry.inner)], "point")
        self.row_points = merge([list(self.rows.iterators)], "row_point")
        coarse = {**self.points.mapping, **self.row_points.mapping, **self._batch_points()}
        self.end = epilogue.at(
            {iterator: contraction.mapping[iterator].substitute(coarse) for iterator in epilogue.stage.scope.traversal}
        )
        self.passes = contraction.depth // geometry.depth
        self.step = Iterator("pass", self.passes)
        threads = context.target.threads
        self.vector_panel = self.row_panel = None
        if not self.side.constant and not geometry.direct_vectors:
            self.vector_panel = Panel(
                context,
                contraction,
                self.side,
                geometry.inner,
                geometry.run,
                geometry.block,
                geometry.depth,
                self.lanes,
                threads,
            )
        if not self.rows.constant and not geometry.direct_rows:
            self.row_panel = Panel(
                context, contraction, self.rows, self.rows.iterators, geometry.row_run, geometry.row_block, geometry.depth,
                self.lanes, threads,
            )  # fmt: skip
        self.partial = None
        self.partial_size = 0
        if self.passes > 1:
            columns = -(-geometry.block // self.lanes) * self.lanes
            self.partial_size = columns * geometry.row_block
            self.partial = context.workspace(self.computed, self.partial_size * threads)
        self.packed: dict[Any, Any] = {}

    def statement(self) -> Any:
        """The whole stage."""
        parts = []
        extent = prod(iterator.extent for iterator in self.geometry.inner)
        for first, count, size in cut(extent, self.geometry.block):
            for row_first, row_count, row_size in cut(self.rows.extent, self.geometry.row_block):
                block = Piece(Iterator("block", count), first, size)
                piece = Piece(Iterator("piece", row_count), row_first, row_size)
                parts.append(self._items(block, piece))
        return tir.sequence(parts)

    def _items(self, block: Piece, piece: Piece) -> Any:
        loops = (self.batch, block.loop, piece.loop)
        items = prod(loop.extent for loop in loops)
        work = items * block.size * piece.size * self.contraction.depth
        threads = self.context.target.threads if items > 1 and work >= 1 << 16 else 1

        def body(task: Any) -> Any:
            first, count = thread_range(items, threads, task, self.width)
            return tir.serial(
                count, lambda number: self._numbered(block, piece, first + number, task), "item", self.width
            )

        return tir.parallel(threads, body, self.width)

    def _numbered(self, block: Piece, piece: Piece, number: Any, task: Any) -> Any:
        statements, values = [], {}
        left = number
        for loop in (piece.loop, block.loop, self.batch):
            cell, value = tir.cell(
                left if loop is self.batch else tirx.truncmod(left, tir.integer(loop.extent, self.width))
            )
            left = tirx.truncdiv(left, tir.integer(loop.extent, self.width))
            statements += cell
            values[loop] = value
        return tir.sequence([*statements, self._passes(block, piece, values, task)])

    def _passes(self, block: Piece, piece: Piece, values: Mapping[Iterator, Any], task: Any) -> Any:
        def one(step: Any) -> Any:
            inside = {**values, self.step: step}
            parts = []
            fixed = self._batch_points()
            k_start = Index.of(self.step) * self.geometry.depth
            if self.vector_panel is not None:
                parts.append(self.vector_panel.fill(block.start, block.size, k_start, fixed, inside, task))
            if self.row_panel is not None:
                parts.append(self.row_panel.fill(piece.start, piece.size, k_start, fixed, inside, task))
            parts.append(self._tiles(block, piece, inside, task))
            return tir.sequence(parts)

        return tir.serial(self.passes, one, "pass", self.width)

    def outer_of(self, side: Side) -> list[Iterator]:
        """The outermost loops that an operand has a panel for at each of their points."""
        return [iterator for iterator in self.outer if iterator in self.contraction.batch or side is self.side]

    def _batch_points(self) -> dict[Iterator, Index]:
        if not self.outer:
            return {}
        loop = Iterator("b0", self.batch.extent)
        return {
            iterator: index.substitute({loop: Index.of(self.batch)}) for iterator, index in self.batch_mapping.items()
        }

    def _tiles(self, block: Piece, piece: Piece, values: Mapping[Iterator, Any], task: Any) -> Any:
        """All tiles of an item. The operand whose packed tile is larger than a panel's stays in the outer loop."""
        runs = vector_runs(block.size, self.geometry.vectors, self.lanes)
        row_runs = [Run(*run, lanes=0) for run in even_tiles(piece.size, self.geometry.rows)]
        parts = []
        if self.side.constant:
            for run in runs:
                inside = [(run, row_run) for row_run in row_runs]
                parts.append(self._tile_loops(block, piece, inside, values, task, vectors_outside=run))
        else:
            for row_run in row_runs:
                inside = [(run, row_run) for run in runs]
                parts.append(self._tile_loops(block, piece, inside, values, task, rows_outside=row_run))
        return tir.sequence(parts)

    def _tile_loops(
        self, block: Piece, piece: Piece, inside: list[tuple[Run, Run]], values: Mapping[Iterator, Any], task: Any,
        vectors_outside: Run | None = None, rows_outside: Run | None = None,
    ) -> Any:  # fmt: skip
        """One outer loop over the tiles of one side, in it a loop for each run of the other side."""
        outer_run = vectors_outside or rows_outside
        assert outer_run is not None
        outer = Iterator("outer_tile", outer_run.count)

        def one(value: Any) -> Any:
            parts = []
            for run, row_run in inside:
                inner = Iterator("inner_tile", row_run.count if vectors_outside else run.count)
                tile, rows = (outer, inner) if vectors_outside else (inner, outer)
                parts.append(
                    self._inner_loop(block, piece, run, row_run, tile, rows, inner, {**values, outer: value}, task)
                )
            return tir.sequence(parts)

        return tir.serial(outer_run.count, one, "outer_tile", self.width)

    def _inner_loop(
        self, block: Piece, piece: Piece, run: Run, row_run: Run, tile: Iterator, rows: Iterator, inner: Iterator,
        values: Mapping[Iterator, Any], task: Any,
    ) -> Any:  # fmt: skip
        return tir.serial(
            inner.extent,
            lambda value: _Tile(
                self, block, piece, run, row_run, tile, rows, {**values, inner: value}, task
            ).statement(),
            "inner_tile",
            self.width,
        )

    def constant_panel(
        self, side: Side, iterators: tuple[Iterator, ...], piece: Piece, run: Run, size: int, used: int
    ) -> Any:
        """A constant operand as [outer, piece, tile, reduction, size], packed when the program is compiled."""
        key = (id(side), piece.loop.extent, piece.first, piece.size, run)
        if key not in self.packed:
            axis = Iterator("tile", run.count)
            within = Iterator("point", used)
            unit = size // run.size
            point = piece.start + Index.of(axis) * size + run.first * unit + within
            points = merge([list(iterators)], "p")
            mapping = {
                iterator: index.substitute({points.loops[0]: point}) for iterator, index in points.mapping.items()
            }
            axes = (*self.outer_of(side), piece.loop, axis, *self.contraction.reduction, within)
            dtype = DataType.FLOAT32 if self.computed == "float32" else self.contraction.dtype
            body = side.body if side.body.dtype is dtype else Cast(side.body, dtype)
            self.packed[key] = self.context.packed(Packing(body, axes, mapping, dtype, size))
        return self.packed[key]


class _Tile:
    """One register tile: accumulators cleared or taken up again, the reduction, and the end."""

    def __init__(
        self, emission: Emission, block: Piece, piece: Piece, run: Run, row_run: Run, tile: Iterator, rows: Iterator,
        values: Mapping[Iterator, Any], task: Any,
    ) -> None:  # fmt: skip
        self.emission, self.block, self.piece, self.run, self.row_run = emission, block, piece, run, row_run
        self.tile, self.rows, self.values, self.task = tile, rows, values, task
        self.lanes, self.computed, self.width = emission.lanes, emission.computed, emission.width
        self.height, self.vectors = row_run.size, run.size
        self.accumulator = tir.local(self.computed, self.height * self.vectors * self.lanes, "sums")
        self.finished = tir.local(self.computed, self.height * self.vectors * self.lanes, "finished")
        self.row = Iterator("row_of_tile", self.height)
        self.emitter = emission.context.emitter(values)

    def statement(self) -> Any:
        """The tile's statements."""
        parts: list[Any] = [tir.allocate(self.accumulator), tir.allocate(self.finished)]
        everything = [(row, vector) for row in range(self.height) for vector in range(self.vectors)]
        clear = [self._save(at, tir.number(0, self.computed, self.lanes)) for at in everything]
        step, passes = self.values[self.emission.step], self.emission.passes
        kernel = self._reduction()
        start = list(self.emitter.statements)
        if passes == 1:
            return tir.sequence([*parts, *clear, *start, kernel, self._finish(everything)])
        again = [
            self._save(at, tir.load(self.emission.partial, self._partial_index(at), self.lanes)) for at in everything
        ]
        keep = [
            tir.store(self.emission.partial, self._read(at), self._partial_index(at), self.lanes) for at in everything
        ]
        is_first = tirx.EQ(step, tir.integer(0, self.width))
        is_last = tirx.EQ(step, tir.integer(passes - 1, self.width))
        return tir.sequence(
            [
                *parts,
                tirx.IfThenElse(is_first, tir.sequence(clear), tir.sequence(again)),
                *start,
                kernel,
                tirx.IfThenElse(is_last, self._finish(everything), tir.sequence(keep)),
            ]
        )  # fmt: skip

    def _where(self, row: int, vector: int) -> int:
        return (row * self.vectors + vector) * self.lanes

    def _save(self, at: tuple[int, int], value: Any) -> Any:
        return tir.store(self.accumulator, value, tir.integer(self._where(*at)), self.lanes)

    def _read(self, at: tuple[int, int]) -> Any:
        return tir.load(self.accumulator, tir.integer(self._where(*at)), self.lanes)

    def _partial_index(self, at: tuple[int, int]) -> Any:
        """Partial sums lie tile by tile: all vectors of a row tile, then the next."""
        columns = -(-self.block.size // self.lanes) * self.lanes
        row = (Index.of(self.rows) * self.height + self.row_run.first) * columns
        column = (Index.of(self.tile) * self.vectors + self.run.first) * (self.height * self.lanes)
        index = self.emitter.index(row + column + self._where(*at))
        return index + self.task * tir.integer(self.emission.partial_size, self.width)

    # -- the reduction ---------------------------------------------------------------------------------------------------

    def _reduction(self) -> Any:
        depth = self.emission.geometry.depth
        wide = [count for count in (8, 4, 2) if depth % count == 0 and count * self.height * self.vectors <= 60]
        unroll = wide[0] if wide else 1
        vector_load, row_load = self._vector_operand(), self._row_operand()

        def body(step: Any) -> Any:
            statements: list[Any] = []
            for number in range(unroll):
                k = step * tir.integer(unroll, self.width) + tir.integer(number, self.width) if unroll > 1 else step
                vectors = []
                for vector in range(self.vectors):
                    cell, value = tir.cell(vector_load(k, vector))
                    statements += cell
                    vectors.append(value)
                for row in range(self.height):
                    cell, value = tir.cell(tir.broadcast(row_load(k, row), self.lanes))
                    statements += cell
                    for vector in range(self.vectors):
                        at = (row, vector)
                        total = multiply_add(value, vectors[vector], self._read(at), self.computed, self.lanes)
                        statements.append(self._save(at, total))
            return tir.sequence(statements)

        return tir.serial(depth // unroll, body, "k", self.width)

    def _vector_operand(self) -> Any:
        emission, geometry = self.emission, self.emission.geometry
        size = self.vectors * self.lanes
        if emission.side.constant:
            used = (self.vectors - 1) * self.lanes + self.run.lanes
            buffer = emission.constant_panel(emission.side, geometry.inner, self.block, self.run, size, used)
            base = self._constant_base(buffer, emission.side, self.block, self.tile, size)
            return lambda k, vector: tir.load(
                buffer, base + k * tir.integer(size, self.width) + vector * self.lanes, self.lanes
            )
        column = Index.of(self.tile) * size + self.run.first * self.lanes
        if emission.vector_panel is not None:
            panel = emission.vector_panel
            start = self.emitter.bind(self.emitter.index(column) + panel.base(self.task))
            return lambda k, vector: tir.load(
                panel.buffer, start + k * tir.integer(panel.width, self.width) + vector * self.lanes, self.lanes
            )
        buffer, start, _, stride = self._direct(emission.side, geometry.inner, self.block.start + column)
        mask = tir.first_lanes(self.run.lanes, self.lanes)

        def load(k: Any, vector: int) -> Any:
            index = start + k * tir.integer(stride, self.width) + vector * self.lanes
            if vector == self.vectors - 1 and self.run.lanes < self.lanes:
                blank = tir.number(0, self.computed, self.lanes)
                return tir.masked_load(buffer, index, mask, blank, tir.typed(self.computed, self.lanes))
            return tir.load(buffer, index, self.lanes)

        return load

    def _row_operand(self) -> Any:
        emission = self.emission
        if emission.rows.constant:
            buffer = emission.constant_panel(
                emission.rows, emission.rows.iterators, self.piece, self.row_run, self.height, self.height
            )
            base = self._constant_base(buffer, emission.rows, self.piece, self.rows, self.height)
            return lambda k, row: tir.load(buffer, base + k * tir.integer(self.height, self.width) + row)
        local = Index.of(self.rows) * self.height + self.row_run.first
        if emission.row_panel is not None:
            panel = emission.row_panel
            start = self.emitter.bind(self.emitter.index(local) + panel.base(self.task))
            return lambda k, row: tir.load(panel.buffer, start + k * tir.integer(panel.width, self.width) + row)
        buffer, start, along, stride = self._direct(emission.rows, emission.rows.iterators, self.piece.start + local)
        return lambda k, row: tir.load(buffer, start + k * tir.integer(stride, self.width) + row * along)

    def _constant_base(self, buffer: Any, side: Side, piece: Piece, loop: Iterator, size: int) -> Any:
        emission = self.emission
        depth = emission.contraction.depth
        position = Index.of(0)
        points = emission._batch_points()
        for iterator in emission.outer_of(side):
            position = position * iterator.extent + points[iterator]
        position = position * piece.loop.extent + Index.of(piece.loop)
        position = position * loop.extent + Index.of(loop)
        start = position * (depth * size) + Index.of(emission.step) * (emission.geometry.depth * size)
        return self.emitter.bind(self.emitter.index(start))

    def _direct(self, side: Side, iterators: tuple[Iterator, ...], point: Index) -> tuple[Any, Any, int, int]:
        """Buffer, element of the first point and reduction step, and the strides of both."""
        from codegen.lower.emitter import flat_index

        emission = self.emission
        found = direct_strides(emission.context, emission.contraction, side, iterators)
        assert found is not None
        access, along, stride = found
        axes = merge([list(iterators)], "point")
        steps = merge([list(emission.contraction.reduction)], "k")
        k = Index.of(emission.step) * emission.geometry.depth
        coarse = flat_index(access).substitute({**axes.mapping, **steps.mapping, **emission._batch_points()})
        placed = coarse.substitute({axes.loops[0]: point, steps.loops[0]: k})
        start = self.emitter.bind(self.emitter.index(placed))
        return emission.context.buffers[access.source], start, along, stride

    # -- the end ---------------------------------------------------------------------------------------------------------

    def _finish(self, everything: list[tuple[int, int]]) -> Any:
        """The epilogue row by row, in a loop: from memory, as a loop cannot index registers."""
        moved = [
            tir.store(self.finished, self._read(at), tir.integer(self._where(*at)), self.lanes) for at in everything
        ]
        rows = tir.serial(
            self.height,
            lambda row: tir.sequence([self._end(row, vector) for vector in range(self.vectors)]),
            "row_of_tile",
            self.width,
        )
        return tir.sequence([*moved, rows])

    def _end(self, row: Any, vector: int) -> Any:
        """The epilogue and the store of one vector of results."""
        emission = self.emission
        last = vector == self.vectors - 1
        lane = Iterator("lane", self.run.lanes if last else self.lanes)
        size = self.vectors * self.lanes
        point = self.block.start + Index.of(self.tile) * size + (self.run.first + vector) * self.lanes + lane
        row_point = self.piece.start + Index.of(self.rows) * self.height + self.row_run.first + self.row
        access, body, position = emission.end
        where = {emission.points.loops[0]: point, emission.row_points.loops[0]: row_point}
        values = {**self.values, self.row: row}
        first = row * tir.integer(self.vectors * self.lanes, self.width) + tir.integer(vector * self.lanes, self.width)
        value = tir.load(self.finished, first, self.lanes)
        emitter = emission.context.emitter(values, lane, self.lanes, where)
        if emission.contraction.dtype in HALVES:
            value = scalar.round_half(value, emission.contraction.dtype, self.lanes, emitter.bind)
        emitter.give(access, Value(emitter.bind(value), False))
        stored = emitter.stored(body)
        written = emitter.write(emission.context.buffers[emission.epilogue.stage.result], position, stored)
        return tir.sequence([*emitter.statements, written])


def multiply_add(left: Any, right: Any, total: Any, dtype: str, lanes: int) -> Any:
    """``left · right + total``, with one rounding where the type is a float."""
    if dtype.startswith("float"):
        return tirx.call_llvm_pure_intrin(tir.typed(dtype, lanes), "llvm.fmuladd", left, right, total)
    return left * right + total
