"""How many blocks of a kernel run on a multiprocessor at the same time, and whether one runs at all.

The formulas are those of CUDA's occupancy calculator (``cuda_occupancy.h``), for compute capability 7.5 and newer.
"""

from __future__ import annotations

from dataclasses import dataclass

from codegen.cuda.resources import Resources
from codegen.targets.architectures import PARTITIONS, REGISTER_UNIT, REGISTERS_OF_THREAD
from codegen.targets.gpu import GpuTarget

_MOST_BLOCKS = ((1 << 31) - 1, (1 << 16) - 1, (1 << 16) - 1)
"""Along each axis of a grid."""
_MOST_DEPTH = 64
"""Threads along a block's third axis."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Blocks on a multiprocessor, the share of its threads that they are, and what admits no more of them."""

    blocks: int
    share: float
    limited_by: str


def occupancy(target: GpuTarget, resources: Resources, threads: int, dynamic_shared_bytes: int = 0) -> Occupancy:
    """Of a kernel started with so many threads in a block. No block runs where a limit is passed (see ``beyond``)."""
    one, warps = target.multiprocessor, -(-threads // target.warp)
    limits = {
        "threads": one.threads // target.warp // warps if threads <= target.max_threads else 0,
        "blocks": one.blocks,
        "registers": _by_registers(target, resources, warps),
        "shared memory": _by_shared(target, resources.shared_bytes + dynamic_shared_bytes),
    }
    scarce = min(limits, key=lambda name: limits[name])
    blocks = limits[scarce]
    return Occupancy(blocks, blocks * warps * target.warp / one.threads, scarce)


def beyond(
    target: GpuTarget,
    name: str,
    resources: Resources,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    dynamic_shared_bytes: int = 0,
) -> str | None:
    """Why a launch fails on the target, as one sentence; None where it does not."""
    one, threads = target.multiprocessor, block[0] * block[1] * block[2]
    if threads > target.max_threads or block[2] > _MOST_DEPTH:
        return f"{name} starts blocks of {threads} threads where {target.name} has {target.max_threads}"
    for axis, blocks, most in zip("xyz", grid, _MOST_BLOCKS, strict=True):
        if blocks > most:
            return f"{name} starts {blocks} blocks along {axis} where {target.name} has {most}"
    if resources.registers > REGISTERS_OF_THREAD:
        return (
            f"{name} needs {resources.registers} registers for a thread where {target.name} has {REGISTERS_OF_THREAD}"
        )
    if not _by_registers(target, resources, -(-threads // target.warp)):
        needed = threads * resources.registers
        return f"{name} needs {needed} registers for a block where {target.name} has {one.registers}"
    if resources.shared_bytes > target.shared_bytes:
        return (
            f"{name} declares {resources.shared_bytes} bytes of shared memory where {target.name} gives {target.shared_bytes} "
            "without being asked"
        )
    shared = resources.shared_bytes + dynamic_shared_bytes
    if shared > one.most_shared_bytes:
        return (
            f"{name} needs {shared} bytes of shared memory for a block where {target.name} has {one.most_shared_bytes}"
        )
    return None


def _by_registers(target: GpuTarget, resources: Resources, warps: int) -> int:
    """Registers are given out to warps; a block's first launch asks for whole rounds over the partitions."""
    of_warp = _up(resources.registers * target.warp, REGISTER_UNIT)
    registers = target.multiprocessor.registers
    if resources.registers > REGISTERS_OF_THREAD or of_warp * _up(warps, PARTITIONS) > registers:
        return 0
    if not of_warp:
        return target.multiprocessor.blocks
    return registers // PARTITIONS // of_warp * PARTITIONS // warps


def _by_shared(target: GpuTarget, shared: int) -> int:
    one = target.multiprocessor
    if shared > one.most_shared_bytes:
        return 0
    taken = _up(shared + one.reserved_shared_bytes, one.shared_unit)
    return one.shared_bytes // taken if taken else one.blocks


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
