"""The two products of attention, by the blocks of contractions: one leaves results in shared memory, one has an operand there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx

from codegen.lower import scalar, tir
from codegen.lower.emitter import Emitter, Value
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.attention.geometry import Cut
from codegen.schedules.gpu.context import Context
from codegen.schedules.gpu.contraction.emit import Emission
from codegen.schedules.gpu.contraction.operand import Operand
from codegen.schedules.gpu.contraction.tiles import PAD
from codegen.schedules.gpu.neighbours import alone
from codegen.schedules.sums_of_products import Contraction, Side
from tensoropt.ir.expression import Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import HALVES


class Ordered(Emission):
    """A contraction whose rows are those of attention, however its result lies."""

    def sides(self, epilogue: Epilogue, contraction: Contraction) -> tuple[Side, Side]:
        """Rows and columns."""
        return contraction.sides


class Scores(Ordered):
    """The scores of a block's rows for a tile of keys."""

    def store(self, memory: Any, block: tuple[Any, Any], values: Mapping[Iterator, Any]) -> Any:
        """Puts a thread's scores of a block of rows and keys in shared memory, [keys, rows]: minus infinity behind the last key.

        Rows behind the last one are given its arithmetic, so that nothing is read outside of a mask; their scores do not matter.
        """
        down, across = self.ways()
        places, width = self.reached(down, across), self.width
        access, body, _ = self.end
        sizes = self.tile.rows, self.tile.columns
        first = [number * tir.integer(size, width) for number, size in zip(block, sizes, strict=True)]
        ends = tir.integer(self.row.extent - 1, width), tir.integer(self.column.extent - 1, width)
        outside = tir.number(float("-inf"), memory.dtype)

        def row(number: Any) -> Any:
            def column(place: Any) -> Any:
                here = {**values, down: number, across: place}
                index = self.context.emitter(here)
                local = [index.bind(index.index(one)) for one in places]
                at = [
                    index.bind(tirx.Min(start + one, end)) for start, one, end in zip(first, local, ends, strict=True)
                ]
                emitter = self.context.emitter({**here, self.row: at[0], self.column: at[1]})
                value = self.reduced(emitter, self.kept_at(down, across), places[0])
                if self.dtype in HALVES:
                    value = scalar.round_half(value, self.dtype, 1, emitter.bind)
                emitter.give(access, Value(emitter.bind(value), True))
                score = emitter.vector(emitter.value(body))
                if self.column.extent % self.tile.columns:
                    score = tirx.Select(first[1] + local[1] <= ends[1], score, outside)
                where = local[1] * tir.integer(self.tile.rows + PAD, width) + local[0]
                return tir.sequence([*index.statements, *emitter.statements, tir.store(memory, score, where)])

            return tir.unrolled(across.extent, column, "across", width)

        return tir.unrolled(down.extent, row, "down", width)


class Sums(Ordered):
    """The sums of a block's rows: the weights lie in ``memory``, the values are brought. ``totals`` divide them at the end."""

    def __init__(
        self, context: Context, epilogue: Epilogue, contraction: Contraction, cut: Cut, memory: Any, totals: Any
    ) -> None:
        self.memory, self.totals, self.keys = memory, totals, cut.scores.columns
        super().__init__(context, epilogue, contraction, cut.sums, cut.at_once)

    def operand(self, name: str, body: Scalar, point: Iterator, size: int) -> Operand:
        """The values' block in shared memory, or the weights, of which all steps are there."""
        if name != "rows":
            return super().operand(name, body, point, size)
        stride = size + PAD
        return Operand(
            alone(body, point), point, self.step, size, self.keys, True, 1, stride, self.tile.depth * stride,
            self.tile.threads, self.memory,
        )  # fmt: skip

    def brought(self) -> tuple[Operand, ...]:
        """The sides that come from memory, step by step."""
        return (self.right,)

    def begins(self, side: Operand, step: Any, vector: int) -> Any:
        """Where a step's block of a side begins in shared memory, in vectors of so many elements."""
        if side is not self.left:
            return super().begins(side, step, vector)
        return step * tir.integer(side.half // vector, self.width)

    def scaled(self, values: Mapping[Iterator, Any]) -> Any:
        """What a thread has summed so far, by the factor of its row."""

        def one(down: Iterator, across: Iterator, here: Mapping[Iterator, Any]) -> Any:
            emitter = self.context.emitter(here)
            place = emitter.bind(emitter.index(self.kept_at(down, across)))
            factor = self._of_row(emitter, self.reached(down, across)[0])
            return tir.sequence([*emitter.statements, tir.store(self.sums, tir.load(self.sums, place) * factor, place)])

        down, across = self.ways()
        return tir.unrolled(
            down.extent,
            lambda row: tir.unrolled(
                across.extent,
                lambda column: one(down, across, {**values, down: row, across: column}),
                "across", self.width,
            ),
            "down", self.width,
        )  # fmt: skip

    def reduced(self, emitter: Emitter, kept: Index, row: Index) -> Any:
        """The weighted mean of a thread's result."""
        return super().reduced(emitter, kept, row) / self._of_row(emitter, row)

    def _of_row(self, emitter: Emitter, row: Index) -> Any:
        return tir.load(self.totals, emitter.index(row))
