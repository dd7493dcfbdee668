"""A GPU as code generation sees it, whether it is in this machine or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tensoropt.ir.operand_rounding import TF32_ROUNDOFF


@dataclass(frozen=True, slots=True)
class Multiprocessor:
    """What blocks share that run on one multiprocessor at the same time; sizes in bytes."""

    threads: int = 2048
    blocks: int = 32
    registers: int = 65536
    """Of 32 bits, for all blocks together and for one of them."""
    shared_bytes: int = 64 << 10
    most_shared_bytes: int = 48 << 10
    """Of one block that asks for more than the default."""
    reserved_shared_bytes: int = 0
    """What the driver takes of each block's."""
    shared_unit: int = 128
    """Shared memory is given out in multiples of this."""
    lanes: int = 128
    """Multiply-adds of f32 that it starts in a cycle."""

    def resident(self, threads: int, registers: int, shared_bytes: int) -> int:
        """About how many blocks it runs at the same time, by what one takes: before it is compiled, without any unit's rounding."""
        return min(
            self.threads // threads,
            self.blocks,
            self.registers // max(1, registers),
            self.shared_bytes // (shared_bytes + self.reserved_shared_bytes),
        )


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a GPU does at the most: operations (a multiply-add is two) and bytes a second, bytes of its memories. 0: it has none."""

    memory_bytes: int = 0
    bytes_per_second: float = 0.0
    l2_bytes: int = 0
    f32: float = 0.0
    f64: float = 0.0
    tf32_tensor: float = 0.0
    """Of tensor cores, without sparsity, accumulated in f32; so are the next two."""
    f16_tensor: float = 0.0
    bf16_tensor: float = 0.0
    launch_seconds: float = 2e-6
    """What a kernel takes at least, one after another in a CUDA graph."""


@dataclass(frozen=True, slots=True)
class GpuTarget:
    """A GPU, or another device that runs blocks of threads; sizes in bytes."""

    kind: str
    """``cuda`` or ``opencl``."""
    name: str
    """``h200``, or what the OpenCL device calls itself."""
    arch: str = ""
    """``sm_90``; empty for OpenCL."""
    warp: int = 32
    """Threads that run in step; 1 for a CPU device behind OpenCL."""
    max_threads: int = 256
    """Threads of a block."""
    shared_bytes: int = 32 << 10
    """Memory of a block that its threads share, without asking for more."""
    multiprocessors: int = 1
    half: bool = False
    """Arithmetic and storage of f16."""
    double: bool = True
    alignment: int = 256
    """Of every value in the device arena, in bytes: sub-buffers need it."""
    tf32: bool = False
    """Whether sums of products of f32 may round their operands to tf32, whose 11 digits tensor cores multiply."""
    multiprocessor: Multiprocessor = field(default_factory=Multiprocessor)
    ceilings: Ceilings = field(default_factory=Ceilings)

    @property
    def key(self) -> str:
        """What measured times depend on."""
        parts = self.kind, self.name, self.arch, "tf32" if self.tf32 else ""
        return "-".join(part for part in parts if part)

    @property
    def operand_roundoff(self) -> float:
        """By which share operands of sums of products of f32 may be rounded before."""
        return TF32_ROUNDOFF if self.tf32 else 0.0

    def describe(self) -> dict[str, Any]:
        """The target as plain data for a manifest."""
        return asdict(self)

    @staticmethod
    def described(data: Mapping[str, Any]) -> GpuTarget:
        """The target of a manifest. KeyError or TypeError where it is none."""
        rest = {name: value for name, value in data.items() if name not in ("multiprocessor", "ceilings")}
        return GpuTarget(
            multiprocessor=Multiprocessor(**data["multiprocessor"]), ceilings=Ceilings(**data["ceilings"]), **rest
        )

    def tvm(self) -> Any:
        """The target as TVM takes it, for its code generators."""
        import tvm

        limits = {
            "max_num_threads": self.max_threads,
            "max_threads_per_block": self.max_threads,
            "thread_warp_size": self.warp,
            "max_shared_memory_per_block": self.shared_bytes,
        }
        arch = {"arch": self.arch} if self.arch else {}
        return tvm.target.Target({"kind": self.kind, **arch, **limits, "host": {"kind": "llvm"}})
