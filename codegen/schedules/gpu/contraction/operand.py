"""One operand's block in shared memory, twice: one is read while the other is filled.

It lies there as [depth, points], for tensor cores as [points, depth].
Whatever the operand is (a matrix as it lies, windows of an image, an element-wise value), each of its elements is computed here,
once for a block, guards of its padding included; a thread has several neighbours at a time where they can be read at once. Points
and depth beyond their ends are read at the last one: such results are never written, and such products are made zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tvm import tirx

from codegen.device.table import ALIGNED
from codegen.lower import tir
from codegen.lower.emitter import Emitter
from codegen.lower.reads import plain, reads
from codegen.schedules.gpu.context import Context, allocate, shared
from codegen.schedules.gpu.contraction.tiles import PAD, PAD_BYTES, WORD, TensorTile, Tile
from codegen.schedules.gpu.neighbours import Neighbours, begin_together, neighbours
from tensoropt.ir.expression import Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType

AT_ONCE = 4
"""Elements that a thread reads at once at the most: with 8 halves nvcc spills."""
_REGISTERS = 16
"""Of what a thread brings, which may be several side by side. Of more, as of half as many with clamped places, nvcc spills some."""


@dataclass(frozen=True)
class Operand:
    """A value of each ``point`` and ``step`` (and batch), of which a block holds ``size`` x ``depth``.

    Each time a thread brings the ``neighbours`` of one chunk of points (``along_points``) or of steps, the next thread the next.
    In shared memory an element lies at ``point * point_stride + step * step_stride``, in the first or the second ``half`` (their
    elements).
    """

    neighbours: Neighbours
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
    rounded: bool = False
    """Whether elements, f32, are rounded to tf32 on their way."""

    @property
    def turns(self) -> int:
        """How often a thread brings something."""
        return -(-self._chunks // self.threads)

    @property
    def dtype(self) -> DataType:
        """Of an element, which is computed with in another type where it is a half."""
        return self.neighbours.bodies[0].dtype

    @cached_property
    def staged(self) -> Any:
        """What a thread has on the way to shared memory."""
        return tir.local(self.memory.dtype, self.turns * self.neighbours.count, f"{self.memory.name}_staged")

    def allocations(self) -> list[Any]:
        """Of the shared memory, and of what a thread has on the way to it."""
        return [allocate(self.memory), tir.allocate(self.staged)]

    def fetch(self, context: Context, block: Any, turn: Any, own: Iterator, values: Mapping[Iterator, Any]) -> Any:
        """Reads a thread's elements of a block of points and a block of steps, by their numbers; ``own`` counts the threads."""
        parts = []
        count = self.neighbours.count
        points, steps = (count, 1) if self.along_points else (1, count)
        for number in range(self.turns):
            local, step = self._place(own, number)
            index = context.emitter(values)
            size, depth = self.size // points, self.depth // steps
            point = block * tir.integer(size, context.width) + index.index(local)
            reached = turn * tir.integer(depth, context.width) + index.index(step)
            cells, at = [], []
            for value, loop, counted, stretch in (
                (point, self.point, points, size),
                (reached, self.step, steps, depth),
            ):
                cell, named = tir.cell(_within(value, loop.extent // counted, stretch, context.width))
                cells += cell
                at.append(named)
            chunks = (self.neighbours.chunk, self.step) if self.along_points else (self.point, self.neighbours.chunk)
            emitter = context.emitter({**values, **dict(zip(chunks, at, strict=True))})
            self.neighbours.read(context, emitter)
            found = [self._value(emitter, body) for body in self.neighbours.bodies]
            if self.step.extent % self.depth:
                inside = reached < tir.integer(self.step.extent // steps, context.width)
                found = [tirx.Select(inside, value, tir.number(0, self.staged.dtype)) for value in found]
            kept = [
                tir.store(self.staged, value, tir.integer(number * count + lane)) for lane, value in enumerate(found)
            ]
            parts += [*index.statements, *cells, *emitter.statements, *kept]
        return self._by_those_that_bring(parts, values[own], context.width)

    def put(self, context: Context, half: Any, own: Iterator, values: Mapping[Iterator, Any]) -> Any:
        """Puts a thread's elements in the first or the second half of the shared memory.

        Only here are they rounded, since nothing has to wait for them before.
        """
        parts = []
        count = self.neighbours.count
        for number in range(self.turns):
            emitter = context.emitter(values)
            local, step = self._place(own, number)
            places = [
                (local * count + lane) * self.point_stride + step * self.step_stride
                if self.along_points
                else local * self.point_stride + (step * count + lane) * self.step_stride
                for lane in range(count)
            ]
            start, several = half * tir.integer(self.half, context.width), self._put_at_once(places)
            stores = []
            for lane in range(0, count, several):
                where, first = emitter.index(places[lane]) + start, tir.integer(number * count + lane)
                if several > 1:
                    ways = [tir.integer(number * count + lane + one) for one in range(several if self.rounded else 0)]
                    stores += [tir.store(self.staged, self._element(place), place) for place in ways]
                    stores.append(tir.store_at_once(self.memory, where, self.staged, first, several))
                else:
                    stores.append(tir.store(self.memory, self._element(first), where))
            parts += [*emitter.statements, *stores]
        return self._by_those_that_bring(parts, values[own], context.width)

    def _element(self, place: Any) -> Any:
        """What a thread has on the way, as it is put: rounded by the function of the source's prelude where it is to be."""
        found = tir.load(self.staged, place)
        return tirx.call_pure_extern("float32", "rounded_to_tf32", found) if self.rounded else found

    def _put_at_once(self, places: Sequence[Index]) -> int:
        """How many of a thread's neighbours lie side by side in shared memory too, so that one store puts them there."""
        several = min(len(places), ALIGNED // tir.itemsize(self.memory.dtype))
        together = (
            all(begin_together(places[lane : lane + several]) for lane in range(0, len(places), several))
            and self.half % several == 0
        )
        return several if together else 1

    def _value(self, emitter: Emitter, body: Scalar) -> Any:
        """An element on its way: as it is computed with, or for tensor cores as it is stored."""
        if self.step_stride == 1:
            return emitter.stored(body)
        return emitter.vector(emitter.value(body))

    @property
    def _chunks(self) -> int:
        """What a block has to bring."""
        return self.size * self.depth // self.neighbours.count

    def _place(self, own: Iterator, turn: int) -> tuple[Index, Index]:
        """The point and the step of what a thread brings in the block, one of them in chunks."""
        number, count = Index.of(own) + turn * self.threads, self.neighbours.count
        if not self.along_points:
            return number // (self.depth // count), number % (self.depth // count)
        size = self.size // count
        if self.step_stride == 1 and count > 1:
            return _across(number, size, self.depth)
        return number % size, number // size

    def _by_those_that_bring(self, parts: list[Any], thread: Any, width: str) -> Any:
        together = tir.sequence(parts)
        few = self._chunks < self.threads
        return tir.when(thread < tir.integer(self._chunks, width), together) if few else together


def _across(number: Index, chunks: int, depth: int) -> tuple[Index, Index]:
    """The chunk of points and the step of a number, for elements that are read along points and stored along steps.

    Threads side by side have 16 steps of two chunks: whole sectors of 32 bytes are read, and few of what is stored by a warp at a
    time lies in one bank.
    """
    low, beside = min(16, depth), min(2, chunks)
    rows = number // (low * beside)
    step = number % low + rows % (depth // low) * low
    return number // low % beside + rows // (depth // low) * beside, step


def operand(
    context: Context, name: str, body: Scalar, point: Iterator, step: Iterator, size: int, tile: Tile, at_once: int
) -> Operand:
    """An operand with memory of its own, computed with: step after step."""
    depth, computed = tile.depth, tir.COMPUTED[body.dtype]
    half = depth * (size + PAD)
    memory = shared(computed, 2 * half, name)
    along, found = _neighbours(context, body, point, step, size, tile, at_once, tir.itemsize(computed))
    return Operand(found, point, step, size, depth, along, 1, size + PAD, half, tile.threads, memory)


def tensor_operand(
    context: Context,
    name: str,
    body: Scalar,
    point: Iterator,
    step: Iterator,
    size: int,
    tile: TensorTile,
    at_once: int,
) -> Operand:
    """An operand with memory of its own for tensor cores, point after point: halves as they are stored, or tf32 in words."""
    depth, pitch = tile.depth, tile.depth + PAD_BYTES // tile.itemsize
    memory = shared(tir.stored(body.dtype), 2 * size * pitch, name)
    along, found = _neighbours(context, body, point, step, size, tile, at_once, tile.itemsize)
    return Operand(
        found, point, step, size, depth, along, pitch, 1, size * pitch, tile.threads, memory, tile.itemsize == WORD
    )


def _neighbours(
    context: Context, body: Scalar, point: Iterator, step: Iterator, size: int, tile: Tile, at_once: int, itemsize: int
) -> tuple[bool, Neighbours]:
    """Whether a thread's neighbours are points, and the neighbours: no more than there are for every thread.

    An element on its way to shared memory has ``itemsize`` bytes; one register holds 4.
    """
    along = _along_points(context, body, point, step)
    loop, stretch = (point, size) if along else (step, tile.depth)
    registers = (tile.rows + tile.columns) * tile.depth * itemsize // (4 * tile.threads)
    clamped = point.extent % size != 0 or step.extent % tile.depth != 0
    most = at_once if registers <= (_REGISTERS // 2 if clamped else _REGISTERS) else 4 // itemsize
    most = min(most, size * tile.depth // tile.threads)
    return along, neighbours(context, body, loop, 0, lambda count, _: stretch % count == 0 and count <= most)


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
