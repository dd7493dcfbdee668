"""A softmax over keys that come tile by tile: the largest score and the sum of the weights so far, and the weights of a tile."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from codegen.lower import scalar, tir
from codegen.lower.emitter import Emitter
from codegen.schedules.gpu.attention.geometry import Cut
from codegen.schedules.gpu.context import Context, allocate, barrier, shared
from codegen.schedules.gpu.contraction.tiles import PAD
from tensoropt.ir.types import DataType


class Softmax:
    """What threads know of rows: several threads have a row together, each its share of the keys."""

    def __init__(self, context: Context, cut: Cut, memory: Any, factors: Any, thread: Any) -> None:
        self.context, self.cut, self.memory, self.factors = context, cut, memory, factors
        self.kind, self.width = memory.dtype, context.width
        self.sharers = cut.threads // cut.scores.rows
        self.parts = shared(self.kind, cut.threads, "part_of_row")
        self.top, self.total, self.part = (tir.local(self.kind, 1, name) for name in ("top", "total", "part"))
        rows = tir.integer(cut.scores.rows, self.width)
        self.thread, self.row, self.own = thread, tirx.truncmod(thread, rows), tirx.truncdiv(thread, rows)

    def allocations(self) -> list[Any]:
        """Of the memories that are only used here."""
        return [allocate(self.parts), *(tir.allocate(one) for one in (self.top, self.total, self.part))]

    def start(self) -> Any:
        """Nothing seen yet."""
        lowest, zero = tir.number(float("-inf"), self.kind), tir.number(0, self.kind)
        return tir.sequence([self._set(self.top, lowest), self._set(self.total, zero)])

    def weights(self) -> Any:
        """Scores in shared memory become weights. What was summed with earlier ones is to be multiplied by the row's factor.

        Of a row that has had minus infinities only, weights and sums are zero, and what they are divided by.
        """
        emitter = self.context.emitter({})
        steps = [
            self._set(self.part, tir.number(float("-inf"), self.kind)),
            self._each_key(
                lambda inner, place: self._set(self.part, self._larger(inner, tir.load(self.memory, place)))
            ),
            tir.store(self.parts, self._get(self.part), self.thread),
            barrier(),
            self._set(self.part, self._get(self.top)),
            self._each_part(lambda inner, part: self._set(self.part, self._larger(inner, part))),
        ]
        largest = self._get(self.part)
        lowest = tirx.EQ(largest, tir.number(float("-inf"), self.kind))
        by = emitter.bind(tirx.Select(lowest, tir.number(0, self.kind), largest))
        factor = emitter.bind(self._exp(emitter, self._get(self.top) - by))

        def weigh(inner: Emitter, place: Any) -> Any:
            weight = inner.bind(self._exp(inner, tir.load(self.memory, place) - by))
            return tir.sequence(
                [tir.store(self.memory, weight, place), self._set(self.total, self._get(self.total) + weight)]
            )

        steps += [
            *emitter.statements,
            self._set(self.top, largest),
            self._set(self.total, self._get(self.total) * factor),
            self._each_key(weigh),
            tir.when(tirx.EQ(self.own, tir.integer(0, self.width)), tir.store(self.factors, factor, self.row)),
            barrier(),
        ]
        return tir.sequence(steps)

    def totals(self) -> Any:
        """Each row's sum of weights, where its factor was."""
        summed = [
            self._set(self.part, tir.number(0, self.kind)),
            self._each_part(lambda inner, part: self._set(self.part, self._get(self.part) + part)),
            tir.store(self.factors, self._get(self.part), self.row),
        ]
        first = tirx.EQ(self.own, tir.integer(0, self.width))
        kept = tir.store(self.parts, self._get(self.total), self.thread)
        return tir.sequence([kept, barrier(), tir.when(first, tir.sequence(summed)), barrier()])

    def _each_key(self, body: Any) -> Any:
        """The body for each of a thread's keys: every so manieth."""

        def one(turn: Any) -> Any:
            emitter = self.context.emitter({})
            key = self.own + turn * tir.integer(self.sharers, self.width)
            place = emitter.bind(key * tir.integer(self.cut.scores.rows + PAD, self.width) + self.row)
            done = body(emitter, place)
            return tir.sequence([*emitter.statements, done])

        return tir.serial(self.cut.scores.columns // self.sharers, one, "turn", self.width)

    def _each_part(self, body: Any) -> Any:
        """The body for what each of the row's threads has left in shared memory."""

        def one(other: Any) -> Any:
            emitter = self.context.emitter({})
            part = tir.load(self.parts, other * tir.integer(self.cut.scores.rows, self.width) + self.row)
            done = body(emitter, emitter.bind(part))
            return tir.sequence([*emitter.statements, done])

        return tir.serial(self.sharers, one, "other", self.width)

    def _larger(self, emitter: Emitter, value: Any) -> Any:
        kept = emitter.bind(self._get(self.part))
        return scalar.apply("max", [kept, emitter.bind(value)], self._dtype, 1, emitter.bind)

    def _exp(self, emitter: Emitter, value: Any) -> Any:
        return scalar.apply("exp", [emitter.bind(value)], self._dtype, 1, emitter.bind)

    @property
    def _dtype(self) -> DataType:
        return DataType.FLOAT64 if self.kind == "float64" else DataType.FLOAT32

    def _get(self, buffer: Any) -> Any:
        return tir.load(buffer, tir.integer(0))

    def _set(self, buffer: Any, value: Any) -> Any:
        return tir.store(buffer, value, tir.integer(0))
