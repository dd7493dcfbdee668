"""One block of a sum of products: operands to shared memory step by step, products in registers, and the end of each result.

While a step's products are computed, the next step's elements are on their way from memory; they are put in the other half of the
shared memory, so one barrier a step is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm import tirx

from codegen.lower import tir
from codegen.lower.emitter import Emitter
from codegen.lower.reads import Axes, merge
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.context import Body, Context, Threads, barrier, wide
from codegen.schedules.gpu.contraction.geometry import innermost, sides
from codegen.schedules.gpu.contraction.operand import AT_ONCE, Operand, operand
from codegen.schedules.gpu.contraction.tiles import Tile
from codegen.schedules.gpu.neighbours import Neighbours, at_once, begin_together, each, neighbours, write
from codegen.schedules.reducing import Reduction
from codegen.schedules.sums_of_products import Contraction, Side
from tensoropt.ir.expression import Constant, Scalar, map_scalar, substitute
from tensoropt.ir.index import Index, Iterator

_VECTOR = 4
"""Elements of 32 bits that a thread reads from shared memory at once."""
_WRITTEN = 4
"""Bytes that a thread writes at once at the most: what is larger has to lie in registers side by side, and nvcc spills."""


class Emission(Reduction[Context]):
    """Emits one contraction. The points of each side, the batch and the depth are counted through their iterators.

    ``at_once``: how many elements of an operand a thread reads together at the most.
    """

    def __init__(
        self, context: Context, epilogue: Epilogue, contraction: Contraction, tile: Tile, at_once: int = AT_ONCE
    ) -> None:
        rows, columns = self.sides(epilogue, contraction)
        groups = (contraction.batch, rows.iterators, columns.iterators, contraction.reduction)
        axes = [merge([list(group)], name) for group, name in zip(groups, ("batch", "row", "column", "k"), strict=True)]
        coarse = {iterator: index for one in axes for iterator, index in one.mapping.items()}
        scope = epilogue.stage.scope
        placed = {iterator: index.substitute(coarse) for iterator, index in contraction.mapping.items()}
        kept = Axes(
            tuple(one.loops[0] for one in axes[:3]), {iterator: placed[iterator] for iterator in scope.traversal}
        )
        super().__init__(
            context, epilogue, kept, Axes(axes[3].loops, {iterator: placed[iterator] for iterator in scope.reduction})
        )
        self.tile, self.at_once = tile, at_once
        self.batch, self.row, self.column = kept.loops
        (self.step,) = self.folded.loops
        self.thread = Iterator("thread", tile.threads)
        self.left = self.operand("rows", substitute(rows.body, coarse), self.row, tile.rows)
        self.right = self.operand("columns", substitute(columns.body, coarse), self.column, tile.columns)
        self.sums = tir.local(self.computed, tile.sums, "sums")

    def sides(self, epilogue: Epilogue, contraction: Contraction) -> tuple[Side, Side]:
        """Rows and columns."""
        return sides(contraction, innermost(epilogue, contraction))

    def operand(self, name: str, body: Scalar, point: Iterator, size: int) -> Operand:
        """One side's block in shared memory."""
        return operand(self.context, name, body, point, self.step, size, self.tile, self.at_once)

    def launch(self) -> Body:
        """A block of threads for each block of the result."""
        tile = self.tile
        blocks = [-(-loop.extent // size) for loop, size in ((self.row, tile.rows), (self.column, tile.columns))]
        threads = Threads((self.batch.extent * blocks[0] * blocks[1],), (tile.threads,))
        statements, left = [], wide(threads.block[0], self.width)
        numbers = []
        for count in (blocks[1], blocks[0]):
            cell, number = tir.cell(tirx.truncmod(left, tir.integer(count, self.width)))
            left = tirx.truncdiv(left, tir.integer(count, self.width))
            statements += cell
            numbers.append(number)
        cell, batch = tir.cell(left)
        cells, thread = tir.cell(wide(threads.thread[0], self.width))
        values = {self.batch: batch, self.thread: thread}
        block = list(reversed(numbers))
        steps = -(-self.step.extent // tile.depth)
        parts = [
            *self.left.allocations(), *self.right.allocations(), tir.allocate(self.sums), *statements, *cell, *cells,
            self.clear(), self.steps(block, values, tir.integer(0, self.width), steps), self.ends(block, values),
        ]  # fmt: skip
        return Body(tir.sequence(parts), threads)

    def clear(self) -> Any:
        """No products yet."""
        zero = tir.number(0, self.computed)
        return tir.unrolled(self.tile.sums, lambda place: tir.store(self.sums, zero, place), "cleared")

    def brought(self) -> tuple[Operand, ...]:
        """The sides that come from memory, step by step."""
        return self.left, self.right

    def begins(self, side: Operand, step: Any, vector: int) -> Any:
        """Where a step's block of a side begins in shared memory, in vectors of so many elements."""
        return tirx.truncmod(step, tir.integer(2, self.width)) * tir.integer(side.half // vector, self.width)

    def steps(self, block: Sequence[Any], values: Mapping[Iterator, Any], first: Any, count: Any) -> Any:
        """Adds the products of ``count`` steps of the depth from the ``first`` on.

        ``block`` are the numbers of the blocks of points of the sides that are brought. Of one step, the threads must wait before
        they bring more.
        """
        one, two = (tir.integer(value, self.width) for value in (1, 2))
        sides = list(zip(self.brought(), block, strict=True))

        def fetch(step: Any) -> list[Any]:
            return [side.fetch(self.context, number, first + step, self.thread, values) for side, number in sides]

        def put(half: Any) -> list[Any]:
            return [side.put(self.context, half, self.thread, values) for side, _ in sides]

        def turn(step: Any) -> Any:
            if isinstance(count, int) and count == 1:
                return self.products(step, values)
            more = step + one < (tir.integer(count, self.width) if isinstance(count, int) else count)
            return tir.sequence(
                [
                    tir.when(more, tir.sequence(fetch(step + one))),
                    self.products(step, values),
                    tir.when(more, tir.sequence(put(tirx.truncmod(step + one, two)))),
                    barrier(),
                ]
            )

        zero = tir.integer(0, self.width)
        return tir.sequence([*fetch(zero), *put(zero), barrier(), tir.serial(count, turn, "step", self.width)])

    def products(self, step: Any, values: Mapping[Iterator, Any]) -> Any:
        """All products of a step: a column of rows and a row of columns from shared memory, and what they make."""
        tile = self.tile
        rows, columns = (
            tir.local(self.computed, tile.height, "own_rows"),
            tir.local(self.computed, tile.width, "own_columns"),
        )
        emitter = self.context.emitter(values)
        bases = []
        for side, number, count in (
            (self.left, self._row_number(), tile.height),
            (self.right, self._column_number(), tile.width),
        ):
            bases.append(emitter.bind(emitter.index(number) + self.begins(side, step, self._vector(count))))

        def one(place_in_step: Any) -> Any:
            read = []
            for own, side, base, count, size in (
                (rows, self.left, bases[0], tile.height, tile.rows),
                (columns, self.right, bases[1], tile.width, tile.columns),
            ):
                vector = self._vector(count)
                for group in range(count // vector):
                    place = base + place_in_step * tir.integer(side.step_stride // vector, self.width)
                    place = place + tir.integer(group * self._stride(count, size) // vector, self.width)
                    where = place * tir.integer(vector, self.width)  # whole vectors, as TVM's generator then sees
                    loaded = tir.load(side.memory, where, vector)
                    read.append(tir.store(own, loaded, tir.integer(group * vector), vector))
            made = []
            for row in range(tile.height):
                for column in range(tile.width):
                    place = tir.integer(row * tile.width + column)
                    product = tir.load(rows, tir.integer(row)) * tir.load(columns, tir.integer(column))
                    made.append(tir.store(self.sums, tir.load(self.sums, place) + product, place))
            return tir.sequence([tir.allocate(rows), tir.allocate(columns), *read, *made])

        return tir.sequence([*emitter.statements, tir.serial(tile.depth, one, "k", self.width)])

    # -- which results are a thread's ------------------------------------------------------------------------------------

    def _vector(self, count: int) -> int:
        """How many neighbours a thread has of a side: what it reads at once."""
        return min(_VECTOR, count) if self.computed == "float32" else 1

    def _stride(self, count: int, size: int) -> int:
        """From one group of a thread's neighbours to its next: every thread has one of each stretch."""
        return size * self._vector(count) // count

    def _row_number(self) -> Index:
        """Of a thread's first stretch of neighbours."""
        return Index.of(self.thread) // (self.tile.columns // self.tile.width)

    def _column_number(self) -> Index:
        return Index.of(self.thread) % (self.tile.columns // self.tile.width)

    def ways(self) -> tuple[Iterator, Iterator]:
        """Loops over a thread's results: down and across."""
        return Iterator("down", self.tile.height), Iterator("across", self.tile.width)

    def reached(self, down: Iterator, across: Iterator) -> tuple[Index, Index]:
        """Row and column in the block of a thread's result."""
        tile, found = self.tile, []
        for loop, number, size in (
            (down, self._row_number(), tile.rows),
            (across, self._column_number(), tile.columns),
        ):
            vector = self._vector(loop.extent)
            stretch = Index.of(loop) // vector * self._stride(loop.extent, size)
            found.append(stretch + Index.of(loop) % vector + number * vector)
        return found[0], found[1]

    def kept_at(self, down: Iterator, across: Iterator) -> Index:
        """Where among a thread's sums a result is."""
        return Index.of(down) * self.tile.width + across

    # -- the end ---------------------------------------------------------------------------------------------------------

    def ends(self, block: Sequence[Any], values: Mapping[Iterator, Any]) -> Any:
        """The epilogue and the store of each result that there is. Loops are unrolled, so that sums stay in registers."""
        tile, result = self.tile, self.epilogue.stage.result
        access, body, position = self.end
        down, across = self.ways()
        reached = self.reached(down, across)
        found = self._ended_together(across, reached[1])
        count = found.count
        group = Iterator("across", across.extent // count)
        extents = {self.row: (self.row.extent, tile.rows), found.chunk: (found.chunk.extent, tile.columns // count)}

        def at(number: Any, loop: Iterator, local: Index, values: Mapping[Iterator, Any]) -> tuple[list[Any], Any]:
            emitter = self.context.emitter(values)
            size = tir.integer(extents[loop][1], self.width)
            cell, point = tir.cell(number * size + emitter.index(local))
            return [*emitter.statements, *cell], point

        def guarded(point: Any, loop: Iterator, body: Any) -> Any:
            extent, size = extents[loop]
            return tir.when(point < tir.integer(extent, self.width), body) if extent % size else body

        def row(number: Any) -> Any:
            inside = {**values, down: number}
            cells, point = at(block[0], self.row, reached[0], inside)

            def several(place: Any) -> Any:
                here = {**inside, group: place}
                local = each(reached[1], across, group, count)[0] // count
                own, chunk = at(block[1], found.chunk, local, here)
                emitter = self.context.emitter({**here, self.row: point, found.chunk: chunk})
                found.read(self.context, emitter)
                at_each = [{self.column: place} for place in found.places(Index.of(self.column))]
                for one, kept in zip(at_each, each(self.kept_at(down, across), across, group, count), strict=True):
                    self.give(emitter, substitute(access, one), self.reduced(emitter, kept, reached[0]))
                stored = [emitter.stored(substitute(body, one)) for one in at_each]
                end = write(self.context, emitter, result, found.places(position)[0], stored)
                return tir.sequence([*own, guarded(chunk, found.chunk, end)])

            return tir.sequence(
                [*cells, guarded(point, self.row, tir.unrolled(group.extent, several, "across", self.width))]
            )

        return tir.unrolled(down.extent, row, "down", self.width)

    def _ended_together(self, across: Iterator, reached: Index) -> Neighbours:
        """The columns that a thread ends together: as many as it has side by side, and as can be read and written at once."""
        access, body, position = self.end
        result = self.epilogue.stage.result

        def wanted(count: int, chunk: Iterator) -> bool:
            return (
                count * result.dtype.itemsize <= _WRITTEN
                and self.tile.columns % count == across.extent % count == 0
                and begin_together(each(reached, across, Iterator("across", across.extent // count), count))
                and at_once(self.context, result, each(position, self.column, chunk, count))
            )

        rest = map_scalar(body, lambda node: Constant(0, node.dtype) if node is access else node)
        return neighbours(self.context, rest, self.column, result.dtype.itemsize, wanted)

    def reduced(self, emitter: Emitter, kept: Index, row: Index) -> Any:
        """The reduced value of a thread's result, by its place among the sums and its row in the block."""
        return tir.load(self.sums, emitter.index(kept))
