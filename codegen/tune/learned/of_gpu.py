"""The numbers of schedules for GPUs; ``features`` says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2

import numpy as np

from codegen.lower import tir
from codegen.schedules.gpu.attention.form import Attention
from codegen.schedules.gpu.attention.geometry import Cut
from codegen.schedules.gpu.contraction.geometry import Geometry
from codegen.schedules.gpu.contraction.tiles import TensorTile, Tile
from codegen.schedules.sums_of_products import Contraction
from codegen.targets.gpu import GpuTarget
from codegen.tune.learned.work import described_work, of_contraction
from tensoropt.ir.types import DataType


def products(work: Contraction | Attention) -> float:
    """Multiply-adds."""
    if isinstance(work, Attention):
        return (work.products.products + work.sums.products) * work.passed(1) / work.keys
    return float(work.products)


def work(found: Contraction | Attention) -> Mapping[str, float]:
    """What is computed, however it is cut."""
    if isinstance(found, Attention):
        sizes = found.rows, found.passed(1), found.products.depth, found.sums.batches
        moved = found.sums.batches * (found.rows + found.keys) * (found.products.depth + found.columns)
        return described_work(sizes, products(found), moved, found.sums.dtype.itemsize, 0)
    return of_contraction(found, *(side.extent for side in found.sides))


def schedule(found: Contraction | Attention, way: Geometry | Cut, target: GpuTarget) -> Mapping[str, float]:
    """One way to cut it."""
    if isinstance(found, Attention):
        assert isinstance(way, Cut)
        return _attention(found, way, target)
    assert isinstance(way, Geometry)
    return _contraction(found, way, target)


def _contraction(found: Contraction, way: Geometry, target: GpuTarget) -> Mapping[str, float]:
    tile, itemsize = way.tile, _itemsize(found.dtype)
    rows, columns = (side.extent for side in found.sides)
    down, across = -(-rows // tile.rows), -(-columns // tile.columns)
    depth = found.depth // way.parts
    steps = -(-depth // tile.depth)
    each = tile.rows * tile.columns * tile.depth
    return {
        **_tile(tile, itemsize),
        **_resident(
            way.parts * found.batches * down * across,
            tile.threads,
            tile.registers(itemsize) * itemsize // 4,
            tile.shared_bytes(itemsize),
            target,
        ),
        "passes": log2(steps),
        "waste_rows": down * tile.rows / rows,
        "waste_columns": across * tile.columns / columns,
        "waiting": log2(steps * tile.depth / depth),
        "brought": log2((tile.rows + tile.columns) * tile.depth / each),
        "stored": log2(max(2.0**-20, way.parts / found.depth)),
        "parts": float(way.parts),
        "tensor": float(isinstance(tile, TensorTile)),
    }


def _attention(found: Attention, way: Cut, target: GpuTarget) -> Mapping[str, float]:
    scores, sums = way.scores, way.sums
    itemsize = _itemsize(found.sums.dtype)
    down, across = -(-found.rows // sums.rows), -(-found.columns // sums.columns)
    keys = -(-found.passed(scores.rows) // scores.columns)
    return {
        **_tile(scores, itemsize),
        **_resident(found.sums.batches * down * across, way.threads, way.registers, way.shared_bytes(itemsize), target),
        "passes": log2(keys),
        "block_depth": log2(sums.columns),
        "sums": float(scores.sums + sums.sums),
        "waste_rows": down * sums.rows / found.rows,
        "waste_columns": keys * scores.columns / found.passed(1),
        "waiting": log2(across),
        "brought": log2((scores.rows + scores.columns) / (scores.rows * scores.columns)),
        "parts": 1.0,
        "tensor": 0.0,
    }


def _tile(tile: Tile, itemsize: int) -> Mapping[str, float]:
    return {
        "tile_rows": float(tile.height),
        "tile_columns": float(tile.width),
        "sums": float(tile.sums),
        "block_rows": log2(tile.rows),
        "block_columns": log2(tile.columns),
        "block_depth": log2(tile.depth),
        "threads": log2(tile.threads),
        "own_rows": log2(tile.rows / tile.height),
        "own_columns": log2(tile.columns / tile.width),
        "loads": log2(tile.read_bytes(itemsize) / (tile.rows * tile.columns * tile.depth)),
    }


def _resident(blocks: int, threads: int, registers: int, shared: int, target: GpuTarget) -> Mapping[str, float]:
    """How many blocks there are, and how many of them a multiprocessor runs at the same time."""
    one = target.multiprocessor
    resident = one.resident(threads, threads * registers, shared)
    workers = target.multiprocessors
    return {
        "items": log2(max(1, blocks)),
        "balance": -(-blocks // workers) * workers / max(1, blocks),
        "filled": min(1.0, blocks / workers),
        "near_share": log2(max(1, shared) / target.shared_bytes),
        "far_share": threads * registers / one.registers,
        "shared": log2(max(1, shared)),
        "resident": float(resident),
        "waves": log2(max(1.0, blocks / (workers * max(1, resident)))),
    }


def _itemsize(dtype: DataType) -> int:
    return np.dtype(tir.COMPUTED[dtype]).itemsize
