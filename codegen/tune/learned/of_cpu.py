"""The numbers of schedules for CPUs; ``features`` says what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import log2, prod

from codegen.schedules.cpu.contraction.geometry import Geometry, cut, even_tiles
from codegen.schedules.cpu.contraction.geometry import features as contraction_features
from codegen.schedules.cpu.filtering.geometry import Cut, lines_of
from codegen.schedules.cpu.filtering.geometry import features as filtering_features
from codegen.schedules.cpu.filtering.recognize import Filtering
from codegen.schedules.sums_of_products import Contraction
from codegen.targets.cpu import CYCLES, CpuTarget
from codegen.tune.learned.work import described_work, of_contraction
from tensoropt.features import Features

_F32 = 4
_UNROLLED = 60
"""Multiply-adds of an unrolled step at the most, see ``contraction.emit``."""


def products(work: Contraction | Filtering) -> float:
    """Multiply-adds."""
    if isinstance(work, Filtering):
        return float(work.points * work.depth * work.height * _tiles(work))
    return float(work.products)


def work(found: Contraction | Filtering) -> Mapping[str, float]:
    """What is computed, however it is cut."""
    if isinstance(found, Filtering):
        tiles = _tiles(found)
        moved = found.points * (found.depth * (tiles + found.height) + found.height * tiles)
        sizes = found.height, tiles, found.depth, found.points
        return described_work(sizes, products(found), moved, _F32, 1)
    return of_contraction(found, *sorted(side.extent for side in found.sides))


def schedule(found: Contraction | Filtering, way: Geometry | Cut, target: CpuTarget) -> Mapping[str, float]:
    """One way to cut it."""
    if isinstance(found, Filtering):
        assert isinstance(way, Cut)
        return _filtering(found, way, target)
    assert isinstance(way, Geometry)
    return _contraction(found, way, target)


def _contraction(found: Contraction, way: Geometry, target: CpuTarget) -> Mapping[str, float]:
    side, rows = found.sides[way.vector], found.sides[1 - way.vector]
    extent = prod(iterator.extent for iterator in way.inner)
    batches = found.batches * prod(iterator.extent for iterator in way.outer)
    sections = [
        (batches * blocks * pieces, size, height)
        for _, blocks, size in cut(extent, way.block)
        for _, pieces, height in cut(rows.extent, way.row_block)
    ]
    items, threads = sum(count for count, _, _ in sections), target.threads
    slowest = sum(
        _turns(count, size * height * found.depth, threads) * size * height for count, size, height in sections
    )
    columns = sum(count * -(-size // way.lanes) * way.lanes for _, count, size in cut(extent, way.block))
    height, runs = _mean_tile(((height, count) for count, _, height in sections), way.rows)
    vectors, across = _mean_tile(((-(-size // way.lanes), count) for count, size, _ in sections), way.vectors)
    tall = min(way.rows, way.row_block)
    near = way.depth * (tall + way.vectors * way.lanes) * _F32
    held = way.depth * ((way.block if not side.constant else way.vectors * way.lanes) + way.row_block) * _F32
    unroll = next((by for by in (8, 4, 2) if way.depth % by == 0 and by * tall * way.vectors <= _UNROLLED), 1)
    return {
        **_counted(contraction_features(target, found, way), products(found) / threads),
        "tile_rows": height,
        "tile_columns": vectors,
        "sums": (tall * way.vectors + way.vectors + 1) / target.registers,
        "independent": height * vectors,
        "unrolled": float(unroll),
        "code": log2(runs * across * len(sections) * unroll * tall * way.vectors),
        "block_rows": log2(way.row_block),
        "block_columns": log2(way.block),
        "block_depth": log2(way.depth),
        "passes": log2(-(-found.depth // way.depth)),
        "items": log2(max(1, items)),
        "sections": float(len(sections)),
        "balance": slowest * threads / (batches * extent * rows.extent),
        "filled": min(1.0, items / threads),
        "waste_columns": columns / extent,
        "near_share": log2(near / target.l1_bytes),
        "far_share": log2(held / target.l2_bytes),
        "swapped": float(way.vector),
        "contiguous": float(way.contiguous),
        "direct": 2.0 * way.direct_rows + way.direct_vectors,
        "row_stride": _bytes(way.row_strides[0]),
        "row_step": _bytes(way.row_strides[1]),
        "vector_step": _bytes(way.vector_stride),
        "stretch": log2(way.run) if way.smooth else -1.0,
        "row_stretch": log2(way.row_run) if way.row_smooth else -1.0,
        "panel": log2(_F32 * way.block * way.depth / target.l1_bytes),
        "constant_rows": float(rows.constant),
        "constant_columns": float(side.constant),
    }


def _filtering(found: Filtering, way: Cut, target: CpuTarget) -> Mapping[str, float]:
    lines, threads = lines_of(found), target.threads
    sections = cut(lines, way.lines)
    slowest = lines / threads if way.together else sum(-(-count // threads) * size for _, count, size in sections)
    width = way.lines * found.across.tile.extent * found.across.apart
    vectors = -(-width // target.lanes)
    inputs, multiplied, outputs = filtering_features(target, found, way)
    share = slowest / way.lines
    pieces = [(share * count, counts) for count, counts in (inputs, (1.0, multiplied), outputs)]
    height, runs = _mean_tile([(min(way.features, found.height), 1)], way.rows)
    mean, across = _mean_tile([(vectors, 1)], way.vectors)
    transformed = found.points * found.depth * vectors * target.lanes * _F32
    panel = found.points * way.features * vectors * target.lanes * _F32
    shared = [-(-extent // threads) * threads / extent for extent in (found.depth, found.points, way.features)]
    return {
        **_counted(pieces, products(found) / threads),
        "tile_rows": height,
        "tile_columns": mean,
        "sums": (way.rows * way.vectors + way.vectors + 1) / target.registers,
        "independent": height * mean,
        "code": log2(runs * across * len(sections) * way.rows * way.vectors),
        "block_rows": log2(way.features),
        "block_columns": log2(width),
        "block_depth": log2(found.depth),
        "passes": log2(-(-found.height // way.features)),
        "items": log2(sum(count for _, count, _ in sections)),
        "sections": float(len(sections)),
        "balance": sum(shared) / len(shared) if way.together else slowest * threads / lines,
        "filled": min(1.0, lines / way.lines / threads),
        "waste_columns": vectors * target.lanes / width,
        "near_share": log2((transformed + panel) / target.l3_bytes),
        "far_share": log2((transformed + panel) / target.l2_bytes),
        "panel": log2(panel / target.l2_bytes),
        "weights": log2(found.points * found.depth * found.height * _F32 / target.l2_bytes),
        "swapped": float(way.together),
        "stretch": log2(way.lanes),
        "lines": log2(way.lines),
    }


def _turns(items: int, work: int, threads: int) -> int:
    """Items that one thread computes after one another. Few products are not shared out, see ``contraction.emit``."""
    return -(-items // threads) if items > 1 and items * work >= 1 << 16 else items


def _mean_tile(extents: Iterable[tuple[int, int]], largest: int) -> tuple[float, int]:
    """The mean size of the tiles of some extents, each so many times, and of how many sizes they are at the most."""
    total, tiles, sizes = 0, 0, 1
    for extent, count in extents:
        runs = even_tiles(extent, largest)
        total, tiles = total + extent * count, tiles + count * sum(number for _, number, _ in runs)
        sizes = max(sizes, len(runs))
    return total / tiles, sizes


def _bytes(stride: int) -> float:
    """A stride as a logarithm, and a little more where it is a multiple of a large power of 2: such lines meet in a cache."""
    if not stride:
        return 0.0
    halves = (stride & -stride).bit_length() - 1
    return log2(abs(stride) * _F32) + halves / 16


def _tiles(found: Filtering) -> int:
    return lines_of(found) * found.across.tile.extent * found.across.apart


def _counted(pieces: Iterable[tuple[float, Features]], products: float) -> Mapping[str, float]:
    """What a schedule's own counts cost, for one multiply-add of a thread, in cycles."""
    total = Features()
    for count, one in pieces:
        total = total + one * count
    terms = {
        "arithmetic": total.multiply_adds * CYCLES.multiply_adds
        + total.operations * CYCLES.operations
        + total.shuffles * CYCLES.shuffles,
        "loads": total.loads * CYCLES.loads,
        "streamed": total.near_bytes * CYCLES.near_bytes,
        "brought": total.far_bytes * CYCLES.far_bytes,
        "waiting": total.steps * CYCLES.steps,
        "stored": total.stores * CYCLES.stores,
        "gathered": total.gathers * CYCLES.gathers,
        "overheads": total.overheads * CYCLES.overheads + total.starts * CYCLES.starts,
    }
    return {name: log2(max(cycles / max(1.0, products), 2.0**-20)) for name, cycles in terms.items()}
