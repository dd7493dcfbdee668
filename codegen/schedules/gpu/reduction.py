"""Reductions, in two forms.

Where outputs are many and neighbours read neighbours, a thread folds an output alone, or several of a row over small windows. Where
they are few, or lie so that neighbouring threads would read far apart, a block folds one output: each thread its share, then a tree
in shared memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from tvm import tirx

from codegen.lower import tir
from codegen.lower.reads import unflatten
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu import strips
from codegen.schedules.gpu.context import Body, Context, Threads, allocate, barrier, shared, wide
from codegen.schedules.gpu.injective import THREADS, block_sizes, in_blocks, one_each
from codegen.schedules.reducing import Reduction, along_output, merged
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType

SHARED = 32
"""Reductions of fewer points are not worth a block's barriers, as far as is known without measuring."""
_LEAST_SHARED = 8
"""Of fewer it is not even tried."""

_LEAST_THREADS = 16
"""Of a block for a row."""
RESIDENT = 1024
"""Threads on a multiprocessor from which on it has something to do while others wait for memory."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a reduction may be computed: ``neighbours`` outputs by a thread, or where that is 0 an output by a block; blocks have
    ``size`` threads."""

    neighbours: int
    size: int

    def label(self, usual: int) -> str:
        """A name for reports; blocks that have the ``usual`` size are not described."""
        if not self.neighbours:
            return f"reduction by blocks{'' if self.size == usual else f' of {self.size}'}"
        beside = f" with {self.neighbours} neighbours" if self.neighbours > 1 else ""
        return f"reduction by threads{beside}{in_blocks(self.size, usual)}"


def schedule(context: Context, epilogue: Epilogue) -> tuple[str, Body]:
    """The name of the form and the launch that computes a reduction stage with its epilogue."""
    kept, folded = merged(context, epilogue)
    fold = Fold(context, epilogue, kept, folded)
    form = context.chosen("reduction", _forms(fold))
    if not form.neighbours:
        return form.label(block_size(context, folded.points)), fold.by_blocks(form.size)
    label = form.label(block_sizes(context)[0])
    if form.neighbours > 1:
        return label, strips.schedule(fold, form.neighbours, form.size)
    return label, fold.by_threads(form.size)


def _forms(fold: Fold) -> list[Form]:
    """What is taken first, and what else there is: by blocks where the points of one output are more than a thread or two want."""
    context, points = fold.context, fold.folded.points
    few = fold.kept.points < RESIDENT * context.target.multiprocessors
    by_blocks = points >= SHARED and (
        few or not along_output(context, fold.epilogue.stage.scope, fold.kept, fold.folded)
    )
    blocks = [Form(0, size) for size in row_sizes(context, points)] if points >= _LEAST_SHARED else []
    threads = [Form(count, size) for size, count in product(block_sizes(context), strips.lengths(fold))]
    return [*blocks, *threads] if by_blocks else [*threads, *blocks]


class Fold(Reduction[Context]):
    """The statements of one reduction stage on a GPU, whose compiler unrolls loops itself."""

    unrolled_taps = 1

    def by_threads(self, size: int) -> Body:
        """A thread for each output, ``size`` in a block."""
        element = Iterator("element", self.kept.points)
        where = unflatten(Index.of(element), self.kept.loops)

        def one(number: Any) -> Any:
            variables = {element: number}
            total = _Total(self)

            def step(reduced: Mapping[Iterator, Index], values: Any) -> Any:
                return self._add(total, {**where, **reduced}, {**variables, **values})

            ends = self.finish(where, variables, None, 1, total.read())
            return tir.sequence([total.allocate(), total.write(self.start(1)), self.loops(step), ends])

        return one_each(self.context, self.kept.points, one, size)

    def by_blocks(self, size: int) -> Body:
        """A block of so many threads for each output."""
        threads = Threads((self.kept.points,), (size,))
        row = Iterator("row", self.kept.points)
        return Body(self.one(row, wide(threads.block[0], self.width), threads), threads)

    def one(self, row: Iterator, row_value: Any, threads: Threads) -> Any:
        """The output that ``row`` counts, by all threads of a block, of which there is a power of two."""
        size, thread = threads.size[0], wide(threads.thread[0], self.width)
        where = unflatten(Index.of(row), self.kept.loops)
        points = self.folded.points
        rounds, rest = divmod(points, size)
        own, turn = Iterator("thread", size), Iterator("turn", max(1, rounds))
        total = _Total(self)
        variables = {row: row_value, own: thread}

        def share(first: Index, values: Mapping[Iterator, Any]) -> Any:
            taps = unflatten(first + Index.of(own), self.folded.loops)
            return self._add(total, {**where, **taps}, {**variables, **values})

        parts = [total.allocate(), total.write(self.start(1))]
        if rounds:
            every = Index.of(turn) * size
            parts.append(tir.serial(rounds, lambda value: share(every, {turn: value}), "turn", self.width))
        if rest:
            parts.append(tir.when(thread < tir.integer(rest, self.width), share(Index.of(rounds * size), {})))
        cells = shared(total.kind, size, "partial")
        number = threads.thread[0]
        parts += [allocate(cells), tir.store(cells, total.raw(), number), barrier()]
        while size > 1:
            size //= 2
            emitter = self.context.emitter(variables)
            left, right = (total.of(tir.load(cells, place)) for place in (number, number + tir.integer(size)))
            both = total.as_raw(self.fold(emitter, emitter.bind(left), emitter.bind(right)))
            folded = tir.sequence([*emitter.statements, tir.store(cells, both, number)])
            parts += [tir.when(number < tir.integer(size), folded), barrier()]
        result = total.of(tir.load(cells, tir.integer(0)))
        ends = self.finish(where, variables, None, 1, result)
        return tir.sequence([*parts, tir.when(tirx.EQ(number, tir.integer(0)), ends)])

    def _add(self, total: _Total, where: Mapping[Iterator, Index], variables: Mapping[Iterator, Any]) -> Any:
        emitter = self.context.emitter(variables, where=where)
        value = emitter.vector(emitter.value(self.body))
        both = self.fold(emitter, total.read(), value)
        return tir.sequence([*emitter.statements, total.write(both)])


class _Total:
    """A thread's accumulator. Truth values are kept as bytes."""

    def __init__(self, fold: Fold) -> None:
        self.boolean = fold.dtype is DataType.BOOL
        self.kind = "uint8" if self.boolean else fold.computed
        self.buffer = tir.local(self.kind, 1, "sum")

    def allocate(self) -> Any:
        return tir.allocate(self.buffer)

    def as_raw(self, value: Any) -> Any:
        return tirx.Cast("uint8", value) if self.boolean else value

    def of(self, raw: Any) -> Any:
        return tirx.NE(raw, tir.number(0, "uint8")) if self.boolean else raw

    def raw(self) -> Any:
        return tir.load(self.buffer, tir.integer(0))

    def read(self) -> Any:
        return self.of(self.raw())

    def write(self, value: Any) -> Any:
        return tir.store(self.buffer, self.as_raw(value), tir.integer(0))


def block_size(context: Context, points: int) -> int:
    """Threads for so many points of one row: a power of two, at most as many as there are points, but one warp."""
    most = min(THREADS, context.target.max_threads)
    size = 1 << (most.bit_length() - 1)
    least = min(size, max(1, context.target.warp))
    while size > least and size > points:
        size //= 2
    return size


def row_sizes(context: Context, points: int) -> list[int]:
    """Threads of a block that computes a row of so many points: what is taken, and other powers of two that can be tried."""
    usual = block_size(context, points)
    others, size = [], min(THREADS, context.target.max_threads)
    while size >= max(_LEAST_THREADS, context.target.warp):
        others.append(1 << (size.bit_length() - 1))
        size //= 2
    return [usual, *(other for other in others if other != usual)]
