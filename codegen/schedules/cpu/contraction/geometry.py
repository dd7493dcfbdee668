"""How a contraction is cut: which operand lies along the vectors, register tiles, blocks, and who does what.

The **vector side** fills vector registers, the **row side** is broadcast. A *block* of the vector side is what one task keeps
in its cache; a *tile* of ``rows × vectors`` accumulators is what it keeps in registers. Every candidate is estimated in
cycles; the cheapest is taken, or, in tuning, the few cheapest are measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from codegen.lower.emitter import flat_index
from codegen.lower.reads import contiguous_groups, merge, plain, reads
from codegen.schedules.context import Epilogue
from codegen.schedules.cpu.context import Context
from codegen.schedules.sums_of_products import Contraction, Side
from codegen.targets.cpu import CYCLES, CpuTarget
from tensoropt.features import Features
from tensoropt.ir.expression import Access
from tensoropt.ir.index import Iterator


@dataclass(frozen=True, slots=True)
class Run:
    """Tiles of one size, one after another. ``lanes`` is how much of the last vector is used (all of it but at the end)."""

    first: int
    count: int
    size: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """One way to cut a contraction.

    ``vector`` is the number of the side along the vectors; ``inner`` its iterators within a block, ``outer`` those looped
    over outside; ``run`` is the length of contiguous stretches when a block is packed, ``row_run`` that of the row side, which
    is cut into pieces of ``row_block``. Sizes in elements, ``vectors`` and ``rows`` are the largest tile's, ``depth`` is the
    part of the reduction that is packed at a time. ``smooth`` and ``row_smooth``: packing reads a stretch contiguously.
    ``lanes`` are those of a vector; ``row_strides`` (from a row to the next, and along the reduction) and ``vector_stride`` (along
    the reduction) are those of operands that are read as they lie, in elements, and else 0.
    """

    vector: int
    inner: tuple[Iterator, ...]
    outer: tuple[Iterator, ...]
    run: int
    block: int
    vectors: int
    rows: int
    row_run: int
    row_block: int
    depth: int
    contiguous: bool
    direct_vectors: bool
    direct_rows: bool
    smooth: bool
    row_smooth: bool
    lanes: int
    row_strides: tuple[int, int] = (0, 0)
    vector_stride: int = 0
    cycles: float = 0.0

    def label(self) -> str:
        """A short text for reports."""
        return f"v{self.vector} {self.rows}x{self.vectors} block{self.block} rows{self.row_block} depth{self.depth}"


def even_tiles(total: int, largest: int) -> list[tuple[int, int, int]]:
    """(first, count, size) of tiles of two sizes that differ by one: as few as possible, none larger than ``largest``."""
    count = -(-total // largest)
    small, large = divmod(total, count)
    runs = [(0, large, small + 1)] if large else []
    runs.append((large * (small + 1), count - large, small))
    return runs


def vector_runs(block: int, vectors: int, lanes: int) -> list[Run]:
    """The tiles of a block, in vectors; a last vector that is not full is in a tile of its own run."""
    total = -(-block // lanes)
    used = block - (total - 1) * lanes
    runs = [Run(first, count, size, lanes) for first, count, size in even_tiles(total, vectors)]
    if used == lanes:
        return runs
    last = runs.pop()
    if last.count > 1:
        runs.append(Run(last.first, last.count - 1, last.size, lanes))
    runs.append(Run(last.first + (last.count - 1) * last.size, 1, last.size, used))
    return runs


def register_tiles(registers: int) -> list[tuple[int, int]]:
    """(rows, vectors) of tiles that leave registers for vectors and broadcasts.

    A few registers more than the multiply-adds need: LLVM's scheduler loads ahead, and where it runs out it spills accumulators.
    """
    if registers >= 32:
        return [(24, 1), (13, 2), (8, 3), (6, 4), (5, 5), (4, 6)]
    return [(10, 1), (6, 2), (4, 3), (3, 4)]


def candidates(context: Context, epilogue: Epilogue, contraction: Contraction) -> list[Geometry]:
    """All ways to cut a contraction that make sense: the cheapest first, then the cheapest of every other shape of tile.

    A search that measures only a few from the start of the list therefore sees ways that differ.
    """
    found = []
    for vector in (0, 1):
        side, rows = contraction.sides[vector], contraction.sides[1 - vector]
        if side.extent >= max(2, context.target.lanes // 4) or (side.extent > 1 and rows.extent > 1):
            found += _for_side(context, epilogue, contraction, vector)
    found.sort(key=lambda geometry: geometry.cycles)
    leaders: dict[tuple[int, int], Geometry] = {}
    for geometry in found:
        leaders.setdefault((geometry.vector, geometry.vectors), geometry)
    chosen = list(leaders.values())
    return [*chosen, *(geometry for geometry in found if geometry not in chosen)]


def _for_side(context: Context, epilogue: Epilogue, contraction: Contraction, vector: int) -> list[Geometry]:
    side, rows = contraction.sides[vector], contraction.sides[1 - vector]
    lanes = vector_lanes(context, contraction)
    inner, contiguous = _inner(epilogue, contraction, side)
    outer = tuple(iterator for iterator in side.iterators if iterator not in inner)
    extent = prod(iterator.extent for iterator in inner)
    run, smooth = _stretch(context, side, inner)
    result = []
    row_access = direct_strides(context, contraction, rows, rows.iterators)
    direct_rows, row_strides = row_access is not None, (0, 0) if row_access is None else row_access[1:]
    direct_vectors = (
        not side.constant
        and run == extent
        and smooth
        and _unit_stride(context, contraction, side, inner)
        and rows.extent < 32
    )
    vector_access = direct_strides(context, contraction, side, inner) if direct_vectors else None
    vector_stride = 0 if vector_access is None else vector_access[2]
    row_run, row_smooth = (
        (rows.extent, True) if rows.constant or direct_rows else _stretch(context, rows, rows.iterators)
    )
    packed_rows = not (rows.constant or direct_rows)
    for tile_rows, tile_vectors in register_tiles(context.target.registers):
        for block in _blocks(extent, run, tile_vectors * lanes, side.constant):
            for row_block in _row_blocks(context, rows.extent, row_run, packed_rows):
                geometry = Geometry(
                    vector, inner, outer, run, block, tile_vectors, min(tile_rows, rows.extent), row_run, row_block, 1,
                    contiguous, direct_vectors, direct_rows, smooth, row_smooth, lanes, row_strides, vector_stride,
                )  # fmt: skip
                geometry = replace(geometry, depth=_depth(context, contraction, geometry, lanes))
                cycles = CYCLES.total(features(context.target, contraction, geometry))
                result.append(replace(geometry, cycles=cycles))
    return result


def vector_lanes(context: Context, contraction: Contraction) -> int:
    """Lanes of one register for the accumulators' type."""
    from codegen.lower.tir import COMPUTED

    bits = {"float64": 64, "int64": 64, "uint64": 64}.get(COMPUTED[contraction.dtype], 32)
    return context.target.vector_bits // bits


def _inner(epilogue: Epilogue, contraction: Contraction, side: Side) -> tuple[tuple[Iterator, ...], bool]:
    """The iterators of a side within a block, and whether neighbours lie next to one another in the output."""
    output = epilogue.output_index().substitute(contraction.mapping)
    for skip in range(len(side.iterators)):
        suffix = side.iterators[skip:]
        axes = merge([list(suffix)], "p")
        index = output.substitute(dict(axes.mapping))
        if plain(index, axes.loops[0]) and index.coefficient(axes.loops[0]) == 1:
            if axes.points >= 48 or skip == 0:
                return suffix, True
            break
    return side.iterators, False


def _stretch(context: Context, side: Side, inner: tuple[Iterator, ...]) -> tuple[int, bool]:
    """How many neighbouring points of a block one packing loop takes, and whether it reads them contiguously."""
    found = reads(side.body, context.buffers.keys())
    groups = contiguous_groups(inner, found.watched, "p")
    if not groups:
        return 1, True
    while len(groups) > 1 and prod(iterator.extent for iterator in groups[-1]) < 4:
        groups[-2:] = [[*groups[-2], *groups[-1]]]
    axes = merge(groups, "p")
    last = axes.loops[-1]
    smooth = all(
        plain(flat.substitute(dict(axes.mapping)), last)
        and flat.substitute(dict(axes.mapping)).coefficient(last) in (0, 1)
        for _, flat in found.loads
    )
    return last.extent, smooth


def direct_strides(
    context: Context, contraction: Contraction, side: Side, iterators: tuple[Iterator, ...]
) -> tuple[Access, int, int] | None:
    """(access, stride per point, stride per reduction point) of an operand that needs no packing; None for others."""
    from codegen.lower import tir
    from tensoropt.ir.expression import Scope

    access = side.body
    if not isinstance(access, Access) or not access.stays_inside or side.constant:
        return None
    if isinstance(access.source, Scope) and access.source not in context.buffers:
        return None
    if tir.COMPUTED[access.dtype] != tir.STORED[access.dtype]:
        return None
    points, steps = merge([list(iterators)], "p"), merge([list(contraction.reduction)], "k")
    flat = flat_index(access).substitute({**points.mapping, **steps.mapping})
    point, step = points.loops[0], steps.loops[0]
    if not plain(flat, point) or not plain(flat, step):
        return None
    return access, flat.coefficient(point), flat.coefficient(step)


def _unit_stride(context: Context, contraction: Contraction, side: Side, inner: tuple[Iterator, ...]) -> bool:
    found = direct_strides(context, contraction, side, inner)
    return found is not None and found[1] == 1


def _blocks(extent: int, run: int, tile: int, constant: bool) -> list[int]:
    """Sizes of a block: whole stretches where the operand is packed stretch by stretch, whole tiles otherwise."""
    if constant or run == extent:
        sizes = {extent} if extent <= 4 * tile else set()
        sizes |= {tile * count for count in (1, 2, 4, 8) if tile * count < extent}
        sizes |= {size for size in range(32, min(extent, 257)) if extent % size == 0}
        return sorted(sizes or {tile})
    stretches = extent // run
    return sorted({run * count for count in range(1, stretches + 1) if run * count <= 512 and (
        stretches % count == 0 or stretches > 40)} or {run})  # fmt: skip


def _row_blocks(context: Context, extent: int, run: int, packed: bool) -> list[int]:
    """Sizes of a piece of the row side: a share for each thread, or what fits a packed panel."""
    if packed and run < extent:
        stretches = extent // run
        counts = [count for count in range(1, stretches + 1) if run * count <= 512 and stretches % count == 0]
        return [run * count for count in counts] or [run]
    sizes = {extent} if extent <= 1024 or not packed else set()
    for pieces in (context.target.threads, 2 * context.target.threads, 4 * context.target.threads, -(-extent // 256)):
        if extent >= 2 * pieces and pieces > 1:
            sizes.add(-(-extent // pieces))
    return sorted(sizes or {extent})


def _depth(context: Context, contraction: Contraction, geometry: Geometry, lanes: int) -> int:
    """How much of the reduction is packed at a time, so that what a task reads again and again stays in its second cache."""
    side, rows = contraction.sides[geometry.vector], contraction.sides[1 - geometry.vector]
    width = geometry.vectors * lanes if side.constant else geometry.block
    width += geometry.rows if rows.constant else geometry.row_block
    most = max(96, context.target.l2_bytes // 2 // (4 * width))
    if (
        rows.constant and not side.constant
    ):  # a tile's rows are read again for every vector tile, so they stay in the first cache
        most = max(96, min(most, context.target.l1_bytes * 2 // 3 // (4 * geometry.rows)))
    total = contraction.depth
    if total <= most:
        return total
    fitting = [divisor for divisor in range(most // 3, most + 1) if divisor and total % divisor == 0]
    return max(fitting, default=total)


def features(target: CpuTarget, contraction: Contraction, geometry: Geometry) -> list[tuple[float, Features]]:
    """What the slowest thread does: register tiles and packing of each kind of item, each so many times."""
    side, rows = contraction.sides[geometry.vector], contraction.sides[1 - geometry.vector]
    extent = prod(iterator.extent for iterator in geometry.inner)
    batches = contraction.batches * prod(iterator.extent for iterator in geometry.outer)
    depth, threads, lanes = contraction.depth, target.threads, geometry.lanes
    again = -(-depth // geometry.depth) - 1
    streamed = lanes * 4.0 if rows.extent > geometry.rows else 0.0

    def tile(height: int, vectors: int) -> Features:
        sums = float(height * vectors)
        step = Features(sums, loads=height + vectors, near_bytes=vectors * streamed, steps=1.0)
        kept = sums * 2 / 3 * again  # partial sums, put away and taken up again
        end = Features(stores=sums + kept) if geometry.contiguous else Features(stores=kept, gathers=sums)
        return step * depth + end + Features(overheads=10.0)

    def packing(size: int, run: int, even: bool) -> Features:
        stretches = -(-size // run)
        moved = stretches * -(-min(size, run) // lanes)
        vectors = Features(stores=moved) if even else Features(gathers=moved)
        return (vectors + Features(overheads=stretches + 2.0)) * depth

    pieces: list[tuple[float, Features]] = []
    for _, blocks, size in cut(extent, geometry.block):
        for _, parts, height in cut(rows.extent, geometry.row_block):
            items = -(-batches * blocks * parts // threads)
            for _, count, used in even_tiles(height, geometry.rows):
                for run in vector_runs(size, geometry.vectors, lanes):
                    pieces.append((items * count * run.count, tile(used, run.size)))
            pieces.append((items, Features(overheads=100.0)))
            if not (side.constant or geometry.direct_vectors):
                pieces.append((items, packing(size, geometry.run, geometry.smooth)))
            if not (rows.constant or geometry.direct_rows):
                pieces.append((items, packing(height, geometry.row_run, geometry.row_smooth)))
    return pieces


def cut(extent: int, size: int) -> list[tuple[int, int, int]]:
    """(first, count, size) of equal pieces and of what is left."""
    count, rest = divmod(extent, size)
    pieces = [(0, count, size)] if count else []
    return [*pieces, (count * size, 1, rest)] if rest else pieces
