"""One operand's block in shared memory, twice: one is read while the other is filled.

It lies there as [depth, points], for tensor cores as [points, depth].
Whatever the operand is (a matrix as it lies, windows of an image, an element-wise value), each of its elements is computed here,
once for a block, guards of its padding included. Points and depth beyond their ends are read at the last one: such results are
never written, and such products are made zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from codegen.lower import tir
from codegen.lower.emitter import Emitter
from codegen.lower.reads import plain, reads
from codegen.schedules.gpu.context import Context, allocate, shared
from codegen.schedules.gpu.contraction.tiles import HALF_PAD, PAD
from tensoropt.ir.expression import Scalar
from tensoropt.ir.index import Index, Iterator


@dataclass(frozen=True, slots=True)
class Operand:
    """``body`` in terms of ``point`` and ``step`` (and the batch), of which a block holds ``size`` x ``depth``.

    ``along_points`` where neighbouring threads bring neighbouring points, otherwise they bring neighbouring steps. In shared memory
    an element lies at ``point * point_stride + step * step_stride``, in the first or the second ``half`` (their elements).
    """

    body: Scalar
    point: Iterator
    step: Iterator
    size: int
    depth: int
    along_points: bool
    point_stride: int
    step_stride: int
    half: int
    threads: int
    memory: Any
    staged: Any

    @property
    def turns(self) -> int:
        """Elements that a thread brings."""
        return -(-self.size * self.depth // self.threads)

    def allocations(self) -> list[Any]:
        """Of the shared memory, and of what a thread has on the way to it."""
        return [allocate(self.memory), tir.allocate(self.staged)]

    def fetch(self, context: Context, first: Any, start: Any, own: Iterator, values: Mapping[Iterator, Any]) -> Any:
        """Reads a thread's elements of the block whose first point and step are given; ``own`` counts the threads."""
        parts = []
        for turn in range(self.turns):
            local, step = self._place(own, turn)
            index = context.emitter(values)
            point = _within(first + index.index(local), self.point.extent, self.size, context.width)
            reached = start + index.index(step)
            position = _within(reached, self.step.extent, self.depth, context.width)
            cells, at = [], []
            for value in (point, position):
                cell, named = tir.cell(value)
                cells += cell
                at.append(named)
            emitter = context.emitter({**values, self.point: at[0], self.step: at[1]})
            value = self._value(emitter)
            if self.step.extent % self.depth:
                inside = reached < tir.integer(self.step.extent, context.width)
                value = tirx.Select(inside, value, tir.number(0, self.staged.dtype))
            parts += [*index.statements, *cells, *emitter.statements, tir.store(self.staged, value, tir.integer(turn))]
        return self._by_those_that_bring(parts, values[own], context.width)

    def put(self, context: Context, half: Any, own: Iterator, values: Mapping[Iterator, Any]) -> Any:
        """Puts a thread's elements in the first or the second half of the shared memory."""
        parts = []
        for turn in range(self.turns):
            local, step = self._place(own, turn)
            emitter = context.emitter(values)
            where = emitter.index(step * self.step_stride + local * self.point_stride) + half * tir.integer(
                self.half, context.width
            )
            stored = tir.store(self.memory, tir.load(self.staged, tir.integer(turn)), where)
            parts += [*emitter.statements, stored]
        return self._by_those_that_bring(parts, values[own], context.width)

    def _value(self, emitter: Emitter) -> Any:
        """An element as it lies in shared memory: as it is computed with, or for tensor cores a half as it is stored."""
        if self.step_stride == 1:
            return emitter.stored(self.body)
        return emitter.vector(emitter.value(self.body))

    def _place(self, own: Iterator, turn: int) -> tuple[Index, Index]:
        """The point in the block and the step of a thread's element."""
        element = Index.of(own) + turn * self.threads
        if self.along_points:
            return element % self.size, element // self.size
        return element // self.depth, element % self.depth

    def _by_those_that_bring(self, parts: list[Any], thread: Any, width: str) -> Any:
        count = self.size * self.depth
        together = tir.sequence(parts)
        return tir.when(thread < tir.integer(count, width), together) if count < self.threads else together


def operand(
    context: Context, name: str, body: Scalar, point: Iterator, step: Iterator, size: int, depth: int, threads: int
) -> Operand:
    """An operand with memory of its own, computed with: step after step."""
    turns, computed = -(-size * depth // threads), tir.COMPUTED[body.dtype]
    half = depth * (size + PAD)
    return Operand(
        body, point, step, size, depth, _along_points(context, body, point, step), 1, size + PAD, half, threads,
        shared(computed, 2 * half, name), tir.local(computed, turns, f"{name}_staged"),
    )  # fmt: skip


def half_operand(
    context: Context, name: str, body: Scalar, point: Iterator, step: Iterator, size: int, depth: int, threads: int
) -> Operand:
    """An operand with memory of its own for tensor cores: halves as they are stored, point after point."""
    turns, stored = -(-size * depth // threads), tir.stored(body.dtype)
    half = size * (depth + HALF_PAD)
    return Operand(
        body, point, step, size, depth, _along_points(context, body, point, step), depth + HALF_PAD, 1, half, threads,
        shared(stored, 2 * half, name), tir.local(stored, turns, f"{name}_staged"),
    )  # fmt: skip


def _along_points(context: Context, body: Scalar, point: Iterator, step: Iterator) -> bool:
    """Whether more loads are of neighbours along the points than along the steps."""
    found = reads(body, context.buffers.keys())

    def neighbours(loop: Iterator) -> int:
        return sum(_unit(flat, loop) for _, flat in found.loads if loop in flat.iterators())

    return neighbours(point) >= neighbours(step)


def _unit(index: Index, loop: Iterator) -> bool:
    """Whether an index grows by one with a loop, at least within the innermost of the axes that the loop stands for."""
    if plain(index, loop):
        return index.coefficient(loop) == 1
    return any(
        coefficient == 1 and not isinstance(atom, Iterator) and loop in atom.index.iterators()
        for atom, coefficient in index.terms
    )


def _within(value: Any, extent: int, size: int, width: str) -> Any:
    """A position, or the last one where blocks of a size pass the end."""
    return tirx.Min(value, tir.integer(extent - 1, width)) if extent % size else value
