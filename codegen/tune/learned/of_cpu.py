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
from tensoropt.features import Features

_F32 = 4


def products(work: Contraction | Filtering) -> float:
    """Multiply-adds."""
    if isinstance(work, Filtering):
        return float(work.points * work.depth * work.height * _tiles(work))
    return float(work.batches * work.depth * prod(side.extent for side in work.sides))


def work(found: Contraction | Filtering) -> Mapping[str, float]:
    """What is computed, however it is cut."""
    if isinstance(found, Filtering):
        tiles = _tiles(found)
        moved = found.points * (found.depth * (tiles + found.height) + found.height * tiles)
        sizes = found.height, tiles, found.depth, found.points
        constants, itemsize = 1.0, _F32
    else:
        rows, columns = sorted(side.extent for side in found.sides)
        moved = found.batches * (found.depth * (rows + columns) + rows * columns)
        sizes = rows, columns, found.depth, found.batches
        constants, itemsize = float(sum(side.constant for side in found.sides)), found.dtype.itemsize
    names = ("rows", "columns", "depth", "batches")
    return {
        **{name: log2(max(1, size)) for name, size in zip(names, sizes, strict=True)},
        "intensity": log2(max(1.0, products(found)) / max(1, moved)),
        "itemsize": float(itemsize),
        "constants": constants,
    }


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
    pieces = -(-extent // way.block) * -(-rows.extent // way.row_block)
    items, threads = batches * pieces, target.threads
    columns = sum(count * -(-size // way.lanes) * way.lanes for _, count, size in cut(extent, way.block))
    heights = [len(even_tiles(size, way.rows)) for _, _, size in cut(rows.extent, way.row_block)]
    tile = min(way.rows, way.row_block) * way.vectors
    width = way.vectors * way.lanes
    near = way.depth * (min(way.rows, way.row_block) + width) * _F32
    held = way.depth * ((way.block if not side.constant else width) + way.row_block) * _F32
    counted = _counted(contraction_features(target, found, way), products(found) / threads)
    return {
        **counted,
        "tile_rows": float(min(way.rows, way.row_block)),
        "tile_columns": float(way.vectors),
        "sums": (tile + way.vectors + 1) / target.registers,
        "block_rows": log2(way.row_block),
        "block_columns": log2(way.block),
        "block_depth": log2(way.depth),
        "passes": log2(-(-found.depth // way.depth)),
        "items": log2(max(1, items)),
        "balance": -(-items // threads) * threads / max(1, items),
        "filled": min(1.0, items / threads),
        "waste_rows": sum(heights) / len(heights),
        "waste_columns": columns / extent,
        "near_share": log2(near / target.l1_bytes),
        "far_share": log2(held / target.l2_bytes),
        "swapped": float(way.vector),
        "contiguous": float(way.contiguous),
        "direct": 2.0 * way.direct_rows + way.direct_vectors,
        "stretch": log2(way.run) if way.smooth else -1.0,
        "row_stretch": log2(way.row_run) if way.row_smooth else -1.0,
        "panel": log2(_F32 * way.block * way.depth / target.l1_bytes),
    }


def _filtering(found: Filtering, way: Cut, target: CpuTarget) -> Mapping[str, float]:
    lines, threads = lines_of(found), target.threads
    blocks = -(-lines // way.lines)
    width = way.lines * found.across.tile.extent * found.across.apart
    vectors = -(-width // target.lanes)
    inputs, multiplied, outputs = filtering_features(target, found, way)
    share = blocks / threads if way.together else -(-blocks // threads)
    pieces = [(share * count, counts) for count, counts in (inputs, (1.0, multiplied), outputs)]
    transformed = found.points * found.depth * vectors * target.lanes * _F32
    panel = found.points * way.features * vectors * target.lanes * _F32
    return {
        **_counted(pieces, products(found) / threads),
        "tile_rows": float(way.rows),
        "tile_columns": float(way.vectors),
        "sums": (way.rows * way.vectors + way.vectors + 1) / target.registers,
        "block_rows": log2(way.features),
        "block_columns": log2(width),
        "block_depth": log2(found.depth),
        "passes": log2(-(-found.height // way.features)),
        "items": log2(blocks),
        "balance": 1.0 if way.together else -(-blocks // threads) * threads / blocks,
        "filled": min(1.0, blocks / threads),
        "waste_rows": float(len(even_tiles(found.height, way.rows))),
        "waste_columns": vectors * target.lanes / width,
        "near_share": log2((transformed + panel) / target.l3_bytes),
        "far_share": log2((transformed + panel) / target.l2_bytes),
        "panel": log2(panel / target.l2_bytes),
        "swapped": float(way.together),
        "stretch": log2(way.lanes),
    }


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
