"""What all GPUs of one CUDA architecture have in common.

From the tables of compute capabilities in NVIDIA's CUDA C++ programming guide (13.0, "Technical Specifications per Compute
Capability") and from ``cuda_occupancy.h`` of CUDA 13.0, which `tests/codegen/cuda/test_occupancy.py` compiles and compares with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from codegen.targets.gpu import Multiprocessor

WARP = 32
THREADS = 1024
"""Of a block, on every architecture since 2010."""
STATIC_SHARED_BYTES = 48 << 10
"""Of a block that does not ask for more."""
REGISTERS_OF_THREAD = 255
REGISTER_UNIT = 256
"""Registers are given out to warps in multiples of this."""
TENSOR_CAPABILITY = (8, 0)
"""From which on tensor cores multiply f16, bf16 and tf32, with sums of f32, by the instructions that are used here."""
PARTITIONS = 4
"""Each with a quarter of a multiprocessor's registers."""

_RESERVED = 1 << 10


@dataclass(frozen=True, slots=True)
class Architecture:
    """``example`` is the named GPU whose ceilings stand for the architecture."""

    name: str
    multiprocessor: Multiprocessor
    example: str


def _from_ampere_on(
    name: str, threads: int, blocks: int, shared_kib: int, example: str, lanes: int = 128
) -> Architecture:
    """Each block's shared memory is one KiB less than a multiprocessor's: the driver keeps it."""
    shared = shared_kib << 10
    return Architecture(
        name, Multiprocessor(threads, blocks, 65536, shared, shared - _RESERVED, _RESERVED, 128, lanes), example
    )


_ALL = (
    Architecture("sm_75", Multiprocessor(1024, 16, 65536, 64 << 10, 64 << 10, 0, 256, 64), "t4"),
    _from_ampere_on("sm_80", 2048, 32, 164, "a100", 64),
    _from_ampere_on("sm_86", 1536, 16, 100, "a10"),
    _from_ampere_on("sm_89", 1536, 24, 100, "l4"),
    _from_ampere_on("sm_90", 2048, 32, 228, "h100"),
    _from_ampere_on("sm_100", 2048, 32, 228, "b200"),
    _from_ampere_on("sm_120", 1536, 24, 100, "rtx5090"),
)

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType({found.name: found for found in _ALL})
"""By the name that nvcc takes. Volta (sm_70) is the last that CUDA 13 compiles no more for."""


def capability(arch: str) -> tuple[int, int]:
    """The compute capability of an architecture: (9, 0) for ``sm_90``."""
    digits = arch.removeprefix("sm_").rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits[:-1]), int(digits[-1])


def runs_on(arch: str, device: tuple[int, int]) -> bool:
    """Whether code of an architecture runs on a device: of the same generation, and not older in it."""
    major, minor = capability(arch)
    return device[0] == major and device[1] >= minor
