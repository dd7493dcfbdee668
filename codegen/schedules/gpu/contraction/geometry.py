"""How a sum of products is cut for a GPU: the block that threads share, the tile that each keeps in registers, parts of the depth.

Every candidate is estimated in cycles of the busiest multiprocessor; the cheapest is taken, or the one that a variant names.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import inf

from codegen.lower import tir
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.contraction.tiles import STEP_WORDS, WORD, TensorTile, Tile, half_of
from codegen.schedules.sums_of_products import Contraction, Side
from codegen.targets.architectures import TENSOR_CAPABILITY, capability
from codegen.targets.gpu import GpuTarget
from tensoropt.ir.expression import Apply, Scope
from tensoropt.ir.index import Iterator
from tensoropt.ir.types import HALVES, DataType

_LATENCY = 500.0
"""Cycles from asking for a step's operands to having them, which one step's work of all resident blocks may hide.

A CPU behind OpenCL, whose threads run one after another, has its caches instead.
"""
_INDEXING = 16.0
"""Operations beside each element that is brought to shared memory."""
_ENDING = 12.0
"""Operations beside each result that is written."""
_SHARED_BYTES = 128.0
"""Of shared memory that a multiprocessor reads in a cycle."""
_L2_BYTES = 32.0
"""That a multiprocessor gets from the L2 cache in a cycle."""
_LAUNCH = 3500.0
"""Cycles that a second launch costs."""
_MOST_PARTS = 31
"""One thread adds up so many at the most, neighbours side by side."""
_FILLED = 4
"""Blocks for each multiprocessor that are enough: parts are for results of fewer."""
_LEAST_DEPTH = 64
"""Of a part."""
_MOST_BROUGHT = 32
"""Elements that a thread may have on their way to shared memory: each takes a register, a half too."""
_MOST_REGISTERS = 140
"""Of a thread of tensor cores, as they are estimated: of those below, nvcc gives 128 at the most."""
_TENSOR_SHARED = 36 << 10
"""Bytes of a block's operands for tensor cores at the most, as the steps of their depth are chosen by."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """One way to cut a contraction. In more than one part, another launch adds the parts' sums."""

    tile: Tile
    parts: int
    cycles: float


def sides(contraction: Contraction, inner: Iterator | None) -> tuple[Side, Side]:
    """Rows and columns: neighbouring threads have neighbouring columns, so the result's innermost iterator is one of those."""
    first, second = contraction.sides
    if inner in first.iterators or (inner not in second.iterators and first.extent > second.extent):
        return second, first
    return first, second


def innermost(epilogue: Epilogue, contraction: Contraction) -> Iterator | None:
    """The iterator along which neighbouring results lie side by side; None where there is none."""
    flat = epilogue.output_index().substitute(contraction.mapping)
    return next((atom for atom, stride in flat.terms if stride == 1 and isinstance(atom, Iterator)), None)


def candidates(epilogue: Epilogue, contraction: Contraction, target: GpuTarget) -> list[Geometry]:
    """All ways to cut a contraction that the target can run, the cheapest first."""
    rows, columns = (side.extent for side in sides(contraction, innermost(epilogue, contraction)))
    itemsize = _itemsize(contraction.dtype)
    size = _for_tensor_cores(contraction, target)
    tensor = _tensor_tiles(rows, columns, contraction, size) if size else []
    found = [
        Geometry(tile, parts, _cycles(contraction, tile, parts, rows, columns, target, itemsize))
        for tile in (*_tiles(rows, columns, contraction.depth), *tensor)
        if tile.threads <= target.max_threads
        and tile.shared_bytes(itemsize) <= target.shared_bytes
        and tile.sums * itemsize <= 256
        for parts in _parts(epilogue.stage.scope, contraction, tile, rows, columns, target)
    ]
    return sorted(found, key=lambda geometry: geometry.cycles)


def _itemsize(dtype: DataType) -> int:
    return 4 if tir.COMPUTED[dtype] == "float32" else dtype.itemsize


def _tiles(rows: int, columns: int, depth: int) -> list[Tile]:
    """Tiles of 64 to 256 threads; none that is more than twice as large as the result along an axis."""
    found = []
    for high, wide in product((8, 16, 32, 64, 128), repeat=2):
        if (high > 8 and high >= 2 * rows) or (wide > 8 and wide >= 2 * columns):
            continue
        for height, width in (
            (1, 1),
            (1, 2),
            (2, 1),
            (2, 2),
            (1, 4),
            (4, 1),
            (2, 4),
            (4, 2),
            (4, 4),
            (4, 8),
            (8, 4),
            (8, 8),
        ):
            for step in (8, 16):
                tile = Tile(high, wide, step, height, width)
                fits = high >= height and wide >= width and 64 <= tile.threads <= 256
                if fits and (step == 8 or (depth > 8 and high * wide <= 64 * 64)):
                    found.append(tile)
    return found


def _for_tensor_cores(contraction: Contraction, target: GpuTarget) -> int:
    """Bytes of an operand's element on tensor cores, 0 where they do not multiply it.

    They take values of the half type that the result is rounded to, and where the target says so any f32, which is rounded. Sums
    are f32 either way.
    """
    if contraction.dtype is DataType.FLOAT32:
        return WORD if target.tf32 else 0
    halves = contraction.dtype in HALVES and all(
        half_of(side.body) is not None and not (isinstance(side.body, Apply) and side.body.operation == "mul")
        for side in contraction.sides
    )
    return contraction.dtype.itemsize if halves else 0


def _tensor_tiles(rows: int, columns: int, contraction: Contraction, size: int) -> list[Tile]:
    """Tiles of two to eight warps; none that is more than twice as large as the result along an axis."""
    found: list[Tile] = []
    for high, wide in product((16, 32, 64, 128), repeat=2):
        least = STEP_WORDS * WORD // size
        if contraction.depth < least or (high > 16 and high >= 2 * rows) or (wide > 16 and wide >= 2 * columns):
            continue
        for height, width in product((16, 32, 64), (8, 16, 32)):
            tile = TensorTile(high, wide, 32, height, width, size)
            if tile.shared_bytes(WORD) > _TENSOR_SHARED:
                tile = TensorTile(high, wide, 16, height, width, size)
            fits = high >= height and wide >= width and 64 <= tile.threads <= 256
            if fits and tile.brought <= _MOST_BROUGHT and tile.registers(WORD) <= _MOST_REGISTERS:
                found.append(tile)
    return found


def _parts(scope: Scope, contraction: Contraction, tile: Tile, rows: int, columns: int, target: GpuTarget) -> list[int]:
    """Into how many equal parts one of the reduced iterators is cut."""
    enough = _FILLED * target.multiprocessors // _blocks(contraction, tile, rows, columns)
    most = min(_MOST_PARTS, enough, contraction.depth // _LEAST_DEPTH)
    return [1, *(count for count in range(2, most + 1) if cut_iterator(scope.reduction, count) is not None)]


def _blocks(contraction: Contraction, tile: Tile, rows: int, columns: int) -> int:
    return contraction.batches * -(-rows // tile.rows) * -(-columns // tile.columns)


def cut_iterator(reduction: tuple[Iterator, ...], parts: int) -> Iterator | None:
    """The outermost reduced iterator that so many equal parts can be made of; None where there is none."""
    return next((iterator for iterator in reduction if iterator.extent % parts == 0 and iterator.extent > parts), None)


def _cycles(
    contraction: Contraction, tile: Tile, parts: int, rows: int, columns: int, target: GpuTarget, itemsize: int
) -> float:
    """Of the busiest multiprocessor, where a step of all its resident blocks lasts as long as their work or as the latency."""
    one = target.multiprocessor
    outputs = contraction.batches * rows * columns
    blocks = parts * _blocks(contraction, tile, rows, columns)
    registers = tile.threads * tile.registers(itemsize)
    resident = one.resident(tile.threads, registers, tile.shared_bytes(itemsize))
    if not resident:
        return inf
    mine = -(-blocks // target.multiprocessors)
    steps = -(-(contraction.depth // parts) // tile.depth)
    products = tile.rows * tile.columns * tile.depth * max(1, itemsize // 4) / _speed(tile, contraction, target)
    brought = (tile.rows + tile.columns) * tile.depth
    read = tile.read_bytes(itemsize)
    work = max(
        (products + brought * _INDEXING) / one.lanes,
        read / _SHARED_BYTES,
        brought * contraction.dtype.itemsize / _L2_BYTES,
    )
    end = tile.rows * tile.columns * _ENDING / one.lanes
    latency = _LATENCY if target.warp > 1 else 0.0
    rounds, rest = divmod(mine, resident)
    total = rounds * (steps * max(resident * work, latency) + resident * end + latency)
    if rest:
        total += steps * max(rest * work, latency) + rest * end + latency
    if parts > 1:
        total += _LAUNCH + 2 * parts * outputs * itemsize / (_L2_BYTES * target.multiprocessors)
    return total


def _speed(tile: Tile, contraction: Contraction, target: GpuTarget) -> float:
    """Products of a tile in the time of one on CUDA cores. Where there are no tensor cores, each is told in words."""
    if not isinstance(tile, TensorTile):
        return 1.0
    if target.kind != "cuda" or capability(target.arch) < TENSOR_CAPABILITY:
        return 1e-3
    ceilings = target.ceilings
    peaks = {
        DataType.FLOAT16: ceilings.f16_tensor, DataType.BFLOAT16: ceilings.bf16_tensor,
        DataType.FLOAT32: ceilings.tf32_tensor,
    }  # fmt: skip
    return peaks[contraction.dtype] / ceilings.f32
