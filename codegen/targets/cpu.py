"""The CPU as a target: what it can do, how large its caches are, and how many threads a program may use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tensoropt.features import Coefficients

CYCLES = Coefficients(
    multiply_adds=0.5,
    operations=0.5,
    shuffles=0.75,
    loads=0.5,
    near_bytes=1 / 30,
    far_bytes=1 / 8,
    steps=4.0,
    stores=3.0,
    gathers=50.0,
    overheads=1.0,
    starts=6000.0,
)
"""Cycles of vector instructions and of what goes with them: two multiply-adds a cycle, each of which waits four cycles for the
one before; the rest was fitted by eye. They rank schedules; where more is wanted, the best few are measured."""


@dataclass(frozen=True, slots=True)
class CpuTarget:
    """A CPU as code generation sees it; sizes in bytes, per core. ``threads`` is fixed when a program is compiled."""

    mcpu: str
    features: tuple[str, ...]
    threads: int
    vector_bits: int = 128
    registers: int = 16
    l1_bytes: int = 32 << 10
    l2_bytes: int = 512 << 10
    l3_bytes: int = 8 << 20
    kind: str = "cpu"

    @property
    def lanes(self) -> int:
        """How many f32 one vector register holds."""
        return self.vector_bits // 32

    @property
    def host_bytes_per_second(self) -> float:
        """What is copied between the arena and the host. Both are one memory here: a copy by one core stands for it."""
        return 1e10

    @property
    def operand_roundoff(self) -> float:
        """By which share operands of sums of products of f32 may be rounded before: not at all."""
        return 0.0

    @property
    def key(self) -> str:
        """What measured times depend on: the processor, its vectors and the number of threads."""
        return f"{self.kind}-{self.mcpu}-{self.vector_bits}-{self.threads}"

    def describe(self) -> dict[str, Any]:
        """The target as plain data for a manifest."""
        return {**asdict(self), "features": list(self.features)}

    @staticmethod
    def described(data: Mapping[str, Any]) -> CpuTarget:
        """The target of a description. KeyError or TypeError where it is none."""
        return CpuTarget(**{**data, "features": tuple(data["features"])})

    def tvm(self) -> Any:
        """The target as TVM takes it."""
        import tvm

        attributes = [f"+{feature}" for feature in self.features if feature.startswith(("avx", "fma", "sse", "f16c"))]
        return tvm.target.Target(
            {
                "kind": "llvm",
                "mcpu": self.mcpu,
                "mattr": attributes,
                "num-cores": self.threads,
                "cl-opt": [_WITHOUT_TBAA],
            }
        )


_WITHOUT_TBAA = "-enable-tbaa:bool=0"
"""TVM gives every buffer a type of its own, so that LLVM takes kernels' buffers apart by type. But values share the arena: once
kernels are inlined, LLVM would move reads of a value behind writes of another one that comes to lie at the same place. What holds
within a kernel, that its pointers do not alias, is said of its parameters."""


def available_threads() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_AFFINITY = available_threads()
"""Taken when this module is imported: TVM's thread pool pins the thread that starts it to one processor."""


def host_target(threads: int | None = None) -> CpuTarget:
    """This machine. ``threads`` defaults to the processors that the process may use."""
    mcpu, features = _llvm_host()
    wide = "avx512f" in features
    vector_bits = 512 if wide else 256 if "avx" in features else 128
    return CpuTarget(
        mcpu=mcpu,
        features=features,
        threads=threads or _AFFINITY,
        vector_bits=vector_bits,
        registers=32 if wide or not mcpu.startswith(("x86", "znver", "core")) else 16,
        l1_bytes=_cache_bytes(1, 32 << 10),
        l2_bytes=_cache_bytes(2, 512 << 10),
        l3_bytes=_cache_bytes(3, 8 << 20),
    )


def _llvm_host() -> tuple[str, tuple[str, ...]]:
    import tvm  # noqa: F401  (registers the functions below)
    from tvm_ffi import get_global_func

    name = str(get_global_func("tvm.codegen.llvm.GetHostCPUName")())
    found = get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    present = {str(feature) for feature, enabled in found.items() if enabled} - {"64bit"}
    return name, tuple(sorted(present & (set(runtime_features()) or present)))


def runtime_features() -> tuple[str, ...]:
    """The features of this processor without a compiler: /proc/cpuinfo's flags in LLVM's spelling; empty where unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    flags = set(line.partition(":")[2].split())
    return tuple(sorted({_LLVM_SPELLING.get(flag, flag.replace("_", "")) for flag in flags}))


_LLVM_SPELLING = {
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "pni": "sse3",
    "abm": "lzcnt",
    "bmi1": "bmi",
    "avx512_vpopcntdq": "avx512vpopcntdq",
    "sha_ni": "sha",
    "rdrand": "rdrnd",
    "lahf_lm": "sahf",
}


def _cache_bytes(level: int, otherwise: int) -> int:
    for index in range(8):
        folder = Path(f"/sys/devices/system/cpu/cpu0/cache/index{index}")
        try:
            if int((folder / "level").read_text()) != level or (folder / "type").read_text().strip() == "Instruction":
                continue
            size = (folder / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        scale = {"K": 1 << 10, "M": 1 << 20}.get(size[-1], 1)
        return int(size.rstrip("KM")) * scale
    return otherwise
