"""The products at points: for each point a product of matrices, features by channels times channels by tiles."""

from __future__ import annotations

from typing import Any

from codegen.lower import tir
from codegen.lower.reads import merge
from codegen.schedules.cpu.context import Context, Packing
from codegen.schedules.cpu.contraction.emit import multiply_add
from codegen.schedules.cpu.contraction.geometry import even_tiles
from codegen.schedules.cpu.filtering.geometry import Cut
from codegen.schedules.cpu.filtering.recognize import Filtering
from codegen.schedules.cpu.filtering.transforms import DTYPE
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType

_WRITTEN_OUT = 64
"""Multiply-adds that are written out one after another in the loop over channels."""


class Products:
    """The products for a group of features: ``M[point, feature, tile] = Σ<c> U[point, feature, c] · V[point, c, tile]``.

    ``group`` is the first feature and their number; ``buffers`` are V and M, ``strides`` those of a row and of a point in either,
    in elements.
    """

    def __init__(
        self, context: Context, filtering: Filtering, cut: Cut, group: tuple[int, int], buffers: tuple[Any, Any],
        strides: tuple[int, int, int],
    ) -> None:  # fmt: skip
        self.context, self.filtering, self.cut = context, filtering, cut
        self.transformed, self.products = buffers
        self.row, self.input_plane, self.output_plane = strides
        self.width, self.lanes = context.width, context.target.lanes
        self.packed = [self._packed(group[0], *tiles) for tiles in even_tiles(group[1], cut.rows)]

    def _packed(self, first: int, start: int, tiles: int, size: int) -> tuple[int, int, int, Any]:
        """The weights of tiles of one size as [point, tile of features, channel, feature]."""
        filtering = self.filtering
        points = tuple(axis.point for axis in (filtering.down, filtering.across) if axis is not None)
        tile, within = Iterator("tile", tiles), Iterator("within", size)
        merged = merge([list(filtering.features)], "merged_")
        position = Index.of(tile) * size + within + (first + start)
        mapping = {found: index.substitute({merged.loops[0]: position}) for found, index in merged.mapping.items()}
        axes = (*points, tile, *filtering.channels, within)
        packing = Packing(filtering.weights, axes, mapping, DataType.FLOAT32, size)
        return start, tiles, size, self.context.packed(packing)

    def points(self, columns: int, copy: Any, first: Any, count: Any) -> Any:
        """The products at some points, for so many vectors of tiles; ``copy`` numbers the buffers of a thread."""

        def one(position: Any) -> Any:
            cell, point = tir.cell(first + position)
            plane = copy * self._constant(self.filtering.points) + point
            source_cell, source = tir.cell(plane * self._constant(self.input_plane))
            target_cell, target = tir.cell(plane * self._constant(self.output_plane))
            tiles = [self._features(packed, columns, point, source, target) for packed in self.packed]
            return tir.sequence([*cell, *source_cell, *target_cell, *tiles])

        return tir.serial(count, one, "point", self.width)

    def _features(self, packed: tuple[int, int, int, Any], columns: int, point: Any, source: Any, target: Any) -> Any:
        """All register tiles of one height."""
        start, tiles, size, weights = packed

        def one(tile: Any) -> Any:
            number = point * self._constant(tiles) + tile
            weight_cell, at = tir.cell(number * self._constant(self.filtering.depth * size))
            feature = tile * self._constant(size) + self._constant(start)
            row_cell, row = tir.cell(target + feature * self._constant(self.row))
            inside = [
                self._columns(run, size, weights, at, source, row) for run in even_tiles(columns, self.cut.vectors)
            ]
            return tir.sequence([*weight_cell, *row_cell, *inside])

        return tir.serial(tiles, one, "tile", self.width)

    def _columns(self, run: tuple[int, int, int], height: int, weights: Any, at: Any, source: Any, row: Any) -> Any:
        first, count, vectors = run

        def one(step: Any) -> Any:
            offset_cell, offset = tir.cell((step * self._constant(vectors) + self._constant(first)) * self.lanes)
            tile = self._tile(weights, at, height, source + offset, row + offset, vectors)
            return tir.sequence([*offset_cell, tile])

        return tir.serial(count, one, "column", self.width)

    def _tile(self, weights: Any, at: Any, height: int, source: Any, target: Any, vectors: int) -> Any:
        """One register tile: cleared, summed over the channels, and stored."""
        lanes, depth = self.lanes, self.filtering.depth
        sums = tir.local(DTYPE, height * vectors * lanes, "sums")
        source_cell, first = tir.cell(source)
        target_cell, result = tir.cell(target)
        everything = [(row, vector) for row in range(height) for vector in range(vectors)]
        place = {at_: tir.integer((at_[0] * vectors + at_[1]) * lanes) for at_ in everything}
        fitting = [many for many in (4, 2) if depth % many == 0 and many * height * vectors <= _WRITTEN_OUT]
        unroll = fitting[0] if fitting else 1

        def body(step: Any) -> Any:
            statements: list[Any] = []
            for number in range(unroll):
                channel = step * self._constant(unroll) + self._constant(number)
                loaded = []
                for vector in range(vectors):
                    index = first + channel * self._constant(self.row) + vector * lanes
                    cell, value = tir.cell(tir.load(self.transformed, index, lanes))
                    statements += cell
                    loaded.append(value)
                for row in range(height):
                    weight = tir.load(weights, at + channel * self._constant(height) + row)
                    cell, value = tir.cell(tir.broadcast(weight, lanes))
                    statements += cell
                    for vector in range(vectors):
                        total = tir.load(sums, place[row, vector], lanes)
                        added = multiply_add(value, loaded[vector], total, DTYPE, lanes)
                        statements.append(tir.store(sums, added, place[row, vector], lanes))
            return tir.sequence(statements)

        clear = [tir.store(sums, tir.number(0, DTYPE, lanes), place[at_], lanes) for at_ in everything]
        keep = [
            tir.store(
                self.products, tir.load(sums, place[row, vector], lanes),
                result + self._constant(row * self.row + vector * lanes), lanes,
            )
            for row, vector in everything
        ]  # fmt: skip
        loop = tir.serial(depth // unroll, body, "channel", self.width)
        return tir.sequence([tir.allocate(sums), *source_cell, *target_cell, *clear, loop, *keep])

    def _constant(self, value: int) -> Any:
        return tir.integer(value, self.width)
