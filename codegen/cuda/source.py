"""CUDA C++ of device functions, as TVM's generator prints it. Nothing is compiled here, and no CUDA is needed.

TVM 0.27 compiles a CUDA module when it is loaded or exported and not when it is built, so that taking the text needs no callback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.device.sources import generated
from codegen.targets.gpu import GpuTarget

PRELUDE = """\
static __device__ __forceinline__ void block_barrier() { __syncthreads(); }
"""
"""What kernels call beside CUDA's own functions. The barrier orders a block's accesses to global memory as well as to shared."""


def cuda_source(functions: Mapping[str, Any], target: GpuTarget) -> str:
    """One source of all device functions (TIR, threads bound to ``blockIdx`` and ``threadIdx``), kernels by their names here."""
    return PRELUDE + generated(functions, target)


def chunks(functions: Mapping[str, Any], target: GpuTarget, count: int) -> list[str]:
    """The functions in at most ``count`` sources of about the same length: each goes, the longest first, where least is."""
    alone = {name: generated({name: function}, target) for name, function in functions.items()}
    groups: list[dict[str, Any]] = [{} for _ in range(max(1, min(count, len(functions))))]
    lengths = [0] * len(groups)
    for name in sorted(alone, key=lambda name: (-len(alone[name]), name)):
        place = lengths.index(min(lengths))
        groups[place][name] = functions[name]
        lengths[place] += len(alone[name])
    return [cuda_source(group, target) for group in groups if group]
