"""A GPU as code generation sees it, whether it is in this machine or not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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

    @property
    def key(self) -> str:
        """What measured times depend on."""
        return "-".join(part for part in (self.kind, self.name, self.arch) if part)

    def describe(self) -> dict[str, Any]:
        """The target as plain data for a manifest."""
        return asdict(self)

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
