"""The loops of a convolution by products at points: a block of lines is transformed, multiplied and transformed back.

What lies between the three phases stays in the caches: ``V[point, channel, tile]`` and, for some features at a time,
``M[point, feature, tile]``. Either every thread has blocks of its own, or all share each phase of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import merge
from codegen.lower.stages import Stage
from codegen.schedules.context import Epilogue, Offer
from codegen.schedules.cpu.context import Context, thread_range
from codegen.schedules.cpu.contraction.geometry import cut as cut_evenly
from codegen.schedules.cpu.filtering.geometry import Cut, cuts, lines_of
from codegen.schedules.cpu.filtering.products import Products
from codegen.schedules.cpu.filtering.recognize import Filtering, recognize
from codegen.schedules.cpu.filtering.transforms import DTYPE, Strip, input_strip, output_strip
from tensoropt.ir.index import Index, Iterator


def schedule(context: Context, stages: Sequence[Stage]) -> tuple[str, Any] | None:
    """The name of the schedule and the statement that computes all stages; None where they are something else."""
    filtering = recognize(context, stages)
    if filtering is None:
        return None
    found = cuts(context, filtering)
    context.offers.append(Offer("filtering", filtering, found))
    chosen = found[min(int(context.variant.get("filtering", 0)), len(found) - 1)]
    emission = Emission(context, filtering, context.epilogue(stages[-1]), chosen)
    return f"filtering {chosen.label()}", emission.statement()


@dataclass(frozen=True, slots=True)
class Block:
    """``count`` blocks of ``lines`` lines, from line ``first`` on."""

    first: int
    count: int
    lines: int


class Emission:
    """Emits one such convolution."""

    def __init__(self, context: Context, filtering: Filtering, epilogue: Epilogue, cut: Cut) -> None:
        self.context, self.filtering, self.epilogue, self.cut = context, filtering, epilogue, cut
        self.width = context.width
        self.lanes = context.target.lanes
        self.tiles_of_line = filtering.across.tile.extent * filtering.across.apart
        self.line = Iterator("line", lines_of(filtering))
        self.channel = Iterator("channel", filtering.depth)
        self.feature = Iterator("feature", filtering.height)
        self.where: dict[Iterator, Index] = {}
        for iterators, loop in (
            (filtering.lines, self.line),
            (filtering.channels, self.channel),
            (filtering.features, self.feature),
        ):
            merged = merge([list(iterators)], "merged_")
            replaced = {merged.loops[0]: Index.of(loop)}
            self.where |= {iterator: index.substitute(replaced) for iterator, index in merged.mapping.items()}
        most = cut.lines * self.tiles_of_line
        self.row = -(-(most - 1 + cut.lanes) // self.lanes) * self.lanes
        self.input_plane = _odd_lines(filtering.depth * self.row)
        self.features = min(cut.features, filtering.height)
        self.output_plane = _odd_lines(self.features * self.row)
        self.copies = 1 if cut.together else context.target.threads
        self.transformed = context.workspace(DTYPE, self.input_plane * filtering.points * self.copies)
        self.products = context.workspace(DTYPE, self.output_plane * filtering.points * self.copies)
        self.groups = _groups(filtering.height, self.features)
        buffers = self.transformed, self.products
        strides = self.row, self.input_plane, self.output_plane
        self.multiply = {group: Products(context, filtering, cut, group, buffers, strides) for group in self.groups}

    def statement(self) -> Any:
        """The whole kernel."""
        blocks = [Block(*piece) for piece in cut_evenly(self.line.extent, self.cut.lines)]
        return tir.sequence([self._shared(block) if self.cut.together else self._own(block) for block in blocks])

    def _own(self, block: Block) -> Any:
        threads = self.context.target.threads if block.count > 1 else 1

        def task(number: Any) -> Any:
            first, count = thread_range(block.count, threads, number, self.width)

            def one(position: Any) -> Any:
                return self._phases(block, first + position, number, self._alone)

            return tir.serial(count, one, "block", self.width)

        return tir.parallel(threads, task, self.width)

    def _alone(self, extent: int, body: Callable[[Any, Any], Any]) -> Any:
        return body(tir.integer(0, self.width), tir.integer(extent, self.width))

    def _shared(self, block: Block) -> Any:
        threads = self.context.target.threads

        def split(extent: int, body: Callable[[Any, Any], Any]) -> Any:
            workers = min(threads, extent)
            return tir.parallel(
                workers, lambda number: body(*thread_range(extent, workers, number, self.width)), self.width
            )

        zero = tir.integer(0, self.width)
        return tir.serial(block.count, lambda position: self._phases(block, position, zero, split), "block", self.width)

    def _phases(self, block: Block, position: Any, copy: Any, ranges: Ranges) -> Any:
        """Transform, and for some features after others multiply and transform back; ``ranges`` shares out an extent."""
        cell, start = tir.cell(position * tir.integer(block.lines, self.width) + tir.integer(block.first, self.width))
        parts = [*cell, ranges(self.filtering.depth, partial(self._inputs, block, start, copy))]
        columns = -(-block.lines * self.tiles_of_line // self.lanes)
        for group in self.groups:
            parts.append(ranges(self.filtering.points, partial(self.multiply[group].points, columns, copy)))
            parts.append(ranges(group[1], partial(self._outputs, group, block, start, copy)))
        return tir.sequence(parts)

    # -- transforms ------------------------------------------------------------------------------------------------------

    def _strips(self, body: Callable[[Strip, Any, Any], Any]) -> Any:
        """The strips of a line: whole chunks in a loop, and the last one, which may be shorter."""
        lanes, step = self.cut.lanes, self.filtering.across.step * self.filtering.across.apart
        whole = self.filtering.along(self.filtering.across).extent // (lanes * step)
        chunk = Iterator("chunk", max(whole, 1))
        parts = []
        if whole:
            strip = Strip(chunk, 0, lanes, lanes)
            parts.append(tir.serial(whole, lambda value: body(strip, value, value * lanes), "chunk", self.width))
        rest = self.filtering.across.tile.extent - whole * lanes
        if rest:
            single = Iterator("chunk", 1)
            tail = Strip(single, whole, rest, lanes)
            parts.append(body(tail, tir.integer(0, self.width), tir.integer(whole * lanes, self.width)))
        return tir.sequence(parts)

    def _inputs(self, block: Block, start: Any, copy: Any, first: Any, count: Any) -> Any:
        copy_base = copy * tir.integer(self.input_plane * self.filtering.points, self.width)

        def line(number: Any) -> Any:
            cell, at = tir.cell(start + number)

            def strip(piece: Strip, chunk: Any, tile: Any) -> Any:
                tile_cell, column = tir.cell(copy_base + number * tir.integer(self.tiles_of_line, self.width) + tile)

                def one(position: Any) -> Any:
                    channel_cell, channel = tir.cell(first + position)
                    base_cell, base = tir.cell(column + channel * tir.integer(self.row, self.width))
                    variables = {self.line: at, self.channel: channel, piece.chunk: chunk}
                    done = input_strip(
                        self.context,
                        self.filtering,
                        piece,
                        self.where,
                        variables,
                        self.transformed,
                        base,
                        self.input_plane,
                    )
                    return tir.sequence([*channel_cell, *base_cell, done])

                return tir.sequence([*tile_cell, tir.serial(count, one, "channel", self.width)])

            return tir.sequence([*cell, self._strips(strip)])

        return tir.serial(block.lines, line, "line", self.width)

    def _outputs(self, group: tuple[int, int], block: Block, start: Any, copy: Any, first: Any, count: Any) -> Any:
        copy_base = copy * tir.integer(self.output_plane * self.filtering.points, self.width)

        def one(position: Any) -> Any:
            own_cell, own = tir.cell(first + position)
            feature_cell, feature = tir.cell(own + tir.integer(group[0], self.width))
            base_cell, base = tir.cell(copy_base + own * tir.integer(self.row, self.width))

            def line(number: Any) -> Any:
                cell, at = tir.cell(start + number)

                def strip(piece: Strip, chunk: Any, tile: Any) -> Any:
                    tile_cell, place = tir.cell(base + number * tir.integer(self.tiles_of_line, self.width) + tile)
                    variables = {self.line: at, self.feature: feature, piece.chunk: chunk}
                    done = output_strip(
                        self.context, self.filtering, self.epilogue, piece, self.where, variables, self.products, place,
                        self.output_plane,
                    )  # fmt: skip
                    return tir.sequence([*tile_cell, done])

                return tir.sequence([*cell, self._strips(strip)])

            return tir.sequence(
                [*own_cell, *feature_cell, *base_cell, tir.serial(block.lines, line, "line", self.width)]
            )

        return tir.serial(count, one, "feature", self.width)


Ranges = Callable[[int, Callable[[Any, Any], Any]], Any]


def _groups(extent: int, size: int) -> list[tuple[int, int]]:
    """(first, count) of pieces of a size, the last one being what is left."""
    return [(first, min(size, extent - first)) for first in range(0, extent, size)]


def _odd_lines(elements: int) -> int:
    """At least so many f32, an odd number of cache lines: planes do not meet in one set of the first cache."""
    lines = -(-elements // 16)
    return (lines + 1 - lines % 2) * 16
