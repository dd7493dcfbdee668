"""Packing of an operand into a panel [reduction, points] that a task keeps in its cache.

Guards (padding) are evaluated here, once for each element, and not in the multiply-adds. A row of the panel is filled
stretch by stretch; whole vectors are written even where a stretch ends within one, and the next stretch overwrites the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import merge
from codegen.schedules.cpu.context import Context
from codegen.schedules.sums_of_products import Contraction, Side
from tensoropt.ir.expression import Scalar, substitute
from tensoropt.ir.index import Index, Iterator

_WRITTEN_OUT = 8
"""Stretches of at most so many vectors are written out."""


class Panel:
    """Scratch memory for one operand, a part of it for each thread."""

    def __init__(
        self, context: Context, contraction: Contraction, side: Side, iterators: tuple[Iterator, ...], run: int, block: int,
        depth: int, lanes: int, threads: int,
    ) -> None:  # fmt: skip
        self.context, self.contraction, self.side, self.iterators = context, contraction, side, iterators
        self.run, self.depth, self.lanes = run, depth, lanes
        self.computed = tir.COMPUTED[contraction.dtype]
        self.points = merge([list(iterators)], "point")
        vectors = -(-block // lanes)
        self.width = (vectors + 1 - vectors % 2) * lanes  # an odd number of lines: rows do not meet in one cache set
        self.elements = self.width * depth + lanes
        self.buffer = context.workspace(self.computed, self.elements * threads)

    def base(self, task: Any) -> Any:
        """The first element of a thread's part."""
        return task * tir.integer(self.elements, self.context.width)

    def fill(
        self,
        start: Index,
        size: int,
        k_start: Index,
        fixed: Mapping[Iterator, Index],
        values: Mapping[Iterator, Any],
        task: Any,
    ) -> Any:
        """The loops that pack ``size`` points from ``start`` on, for the reduction from ``k_start`` on."""
        loops, k_mapping, k_flat, where = self._reduction_loops(k_start)
        body = substitute(self.side.body, {**self.points.mapping, **k_mapping, **fixed})
        run = min(self.run, size)
        stretches = size // run
        stretch = Iterator("stretch", stretches)

        def inner(inside: Mapping[Iterator, Any]) -> Any:
            def one(value: Any) -> Any:
                return self._stretch(body, start, run, stretch, k_flat, where, {**inside, stretch: value}, task)

            return tir.serial(stretches, one, "stretch", self.context.width)

        def nest(depth: int, inside: Mapping[Iterator, Any]) -> Any:
            if depth == len(loops):
                return inner(inside)
            loop = loops[depth]
            return tir.serial(
                loop.extent, lambda value: nest(depth + 1, {**inside, loop: value}), loop.name, self.context.width
            )

        return nest(0, values)

    def _reduction_loops(
        self, k_start: Index
    ) -> tuple[list[Iterator], dict[Iterator, Index], Index, dict[Iterator, Index]]:
        """Loops over a part of the reduction, and in terms of them: its iterators, the row of the panel, the coarse iterator."""
        where: dict[Iterator, Index] = {}
        reduction = self.contraction.reduction
        split, inside = len(reduction), 1
        while split and self.depth % (inside * reduction[split - 1].extent) == 0:
            split -= 1
            inside *= reduction[split].extent
        own = [Iterator(f"k_{iterator.name}", iterator.extent) for iterator in reduction[split:]]
        mapping = {iterator: Index.of(loop) for iterator, loop in zip(reduction[split:], own, strict=True)}
        flat, stride = Index.of(0), 1
        for loop in reversed(own):
            flat = flat + Index.of(loop) * stride
            stride *= loop.extent
        loops = own
        if split:
            lead = Iterator("k_lead", self.depth // inside)
            axes = merge([list(reduction[:split])], "lead_")
            where[axes.loops[0]] = k_start // inside + lead
            mapping.update(axes.mapping)
            flat = flat + Index.of(lead) * inside
            loops = [lead, *own]
        return loops, mapping, flat, where

    def _stretch(
        self, body: Scalar, start: Index, run: int, stretch: Iterator, k_flat: Index, fixed: Mapping[Iterator, Index],
        values: Mapping[Iterator, Any], task: Any,
    ) -> Any:  # fmt: skip
        lanes, width = self.lanes, self.context.width
        whole, rest = divmod(run, lanes)
        loop = Iterator("vector", max(whole, 1))

        def vector(offset: Index, used: int, inside: Mapping[Iterator, Any]) -> Any:
            lane = Iterator("lane", used)
            point = start + Index.of(stretch) * run + offset + lane
            emitter = self.context.emitter(inside, lane, lanes, {**fixed, self.points.loops[0]: point})
            value = emitter.vector(emitter.value(body))
            row = emitter.index(k_flat * self.width + Index.of(stretch) * run + offset)
            return tir.sequence([*emitter.statements, tir.store(self.buffer, value, self.base(task) + row, lanes)])

        parts = []
        if whole > _WRITTEN_OUT:
            parts.append(
                tir.serial(
                    whole, lambda value: vector(Index.of(loop) * lanes, lanes, {**values, loop: value}), "vector", width
                )
            )
        else:
            parts += [vector(Index.of(number * lanes), lanes, values) for number in range(whole)]
        if rest:
            parts.append(vector(Index.of(whole * lanes), rest, values))
        return tir.sequence(parts)
