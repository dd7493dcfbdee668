"""GPUs by name: what is known of them without having one.

Figures are those of NVIDIA's data sheets and architecture white papers at boost clock, in the last column, tensor cores without
sparsity and accumulating in f32 (GeForce cards do that at half the rate of f16 sums). No program gets them: they are ceilings.

TVM's tags (`tvm.target.list_tags`) agree on warps, threads and registers; ``WRONG_IN_TVM`` has where they differ or say nothing:
they give a block on every GPU 48 KiB of shared memory, which is the default that a kernel gets without asking and not what there
is; H100's architecture is ``sm_90a``, whose code runs on no other GPU and is only needed for wgmma. There is no tag for L4, L40S,
H200, B200, RTX 5090, and none has multiprocessors, memory or rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from codegen.targets.architectures import ARCHITECTURES, STATIC_SHARED_BYTES, THREADS, WARP
from codegen.targets.gpu import Ceilings, GpuTarget

# name: architecture, multiprocessors, memory GB, memory GB/s, L2 MiB, TFLOP/s of f32, f64, tf32, f16 and bf16 tensor cores
_FIGURES: dict[str, tuple[str, int, float, float, int, float, float, float, float, float]] = {
    "t4": ("sm_75", 40, 16, 320, 4, 8.1, 0.253, 0, 65, 0),  # T4 data sheet 2019; Turing has no tf32 and no bf16
    "a100": ("sm_80", 108, 80, 2039, 40, 19.5, 9.7, 156, 312, 312),  # A100 80GB SXM data sheet 2022
    "a100-40gb": ("sm_80", 108, 40, 1555, 40, 19.5, 9.7, 156, 312, 312),  # A100 white paper 1.0
    "a30": ("sm_80", 56, 24, 933, 24, 10.3, 5.2, 82, 165, 165),  # A30 data sheet 2022
    "a10": ("sm_86", 72, 24, 600, 6, 31.2, 0.488, 62.5, 125, 125),  # A10 data sheet 2022
    "a40": ("sm_86", 84, 48, 696, 6, 37.4, 0.585, 74.8, 149.7, 149.7),  # A40 data sheet 2021
    "rtxa6000": ("sm_86", 84, 48, 768, 6, 38.7, 0.605, 77.4, 154.8, 154.8),  # GA102 white paper 2.1
    "rtx3090": ("sm_86", 82, 24, 936, 6, 35.6, 0.556, 35.6, 71.2, 71.2),  # GA102 white paper 2.1
    "l4": ("sm_89", 58, 24, 300, 48, 30.3, 0.473, 60, 121, 121),  # L4 data sheet 2023
    "l40s": ("sm_89", 142, 48, 864, 96, 91.6, 1.431, 183, 362, 362),  # L40S data sheet 2023
    "rtx4090": ("sm_89", 128, 24, 1008, 72, 82.6, 1.29, 82.6, 165.2, 165.2),  # Ada white paper 2.01
    "h100": (
        "sm_90",
        132,
        80,
        3350,
        50,
        66.9,
        33.5,
        494.7,
        989.4,
        989.4,
    ),  # H100 SXM5, data sheet 2023, white paper 1.04
    "h100-pcie": (
        "sm_90",
        114,
        80,
        2000,
        50,
        51.2,
        25.6,
        378,
        756,
        756,
    ),  # H100 PCIe, data sheet 2023, white paper 1.04
    "h200": ("sm_90", 132, 141, 4800, 50, 66.9, 33.5, 494.7, 989.4, 989.4),  # H200 SXM data sheet 2024
    "b200": ("sm_100", 148, 180, 7700, 126, 75, 37, 1100, 2250, 2250),  # HGX B200 data sheet 2025, one of eight
    "rtx5090": ("sm_120", 170, 32, 1792, 96, 104.8, 1.64, 104.8, 209.5, 209.5),  # RTX Blackwell white paper 1.1
}

LAUNCH_SECONDS = 2e-6
"""Of a kernel in a CUDA graph, from its predecessor's end to its own. An estimate: no GPU has been measured here."""

TAGS: Mapping[str, str] = MappingProxyType(
    {
        "t4": "nvidia/nvidia-t4",
        "a100": "nvidia/nvidia-a100",
        "a30": "nvidia/nvidia-a30",
        "a10": "nvidia/nvidia-a10",
        "a40": "nvidia/nvidia-a40",
        "rtxa6000": "nvidia/rtx-a6000",
        "rtx3090": "nvidia/geforce-rtx-3090",
        "rtx4090": "nvidia/geforce-rtx-4090",
        "h100": "nvidia/nvidia-h100",
    }
)
"""TVM's names."""

WRONG_IN_TVM: Mapping[tuple[str, str], object] = MappingProxyType(
    {(name, "max_shared_memory_per_block"): 49152 for name in TAGS}
    | {("h100", "arch"): "sm_90a"}
    | {(name, "l2_cache_size_bytes"): None for name in ("t4", "a30", "a10", "a40", "rtxa6000", "rtx3090")}
)
"""What TVM's tags say where they differ from the data here; None where they say nothing."""


def _target(name: str) -> GpuTarget:
    arch, multiprocessors, memory, rate, l2, f32, f64, tf32, f16, bf16 = _FIGURES[name]
    ceilings = Ceilings(
        memory_bytes=int(memory * 1e9),
        bytes_per_second=rate * 1e9,
        l2_bytes=l2 << 20,
        f32=f32 * 1e12,
        f64=f64 * 1e12,
        tf32_tensor=tf32 * 1e12,
        f16_tensor=f16 * 1e12,
        bf16_tensor=bf16 * 1e12,
        launch_seconds=LAUNCH_SECONDS,
    )
    return _cuda(name, arch, multiprocessors, ceilings)


def _cuda(name: str, arch: str, multiprocessors: int, ceilings: Ceilings) -> GpuTarget:
    return GpuTarget(
        kind="cuda",
        name=name,
        arch=arch,
        warp=WARP,
        max_threads=THREADS,
        shared_bytes=STATIC_SHARED_BYTES,
        multiprocessors=multiprocessors,
        half=True,
        multiprocessor=ARCHITECTURES[arch].multiprocessor,
        ceilings=ceilings,
    )


NAMED: Mapping[str, GpuTarget] = MappingProxyType({name: _target(name) for name in _FIGURES})
"""The GPUs that ``--target cuda:NAME`` takes."""


def generic(arch: str) -> GpuTarget:
    """An architecture, with the ceilings of its best known GPU. KeyError for one that is not known."""
    known = NAMED[ARCHITECTURES[arch].example]
    return _cuda(arch, arch, known.multiprocessors, known.ceilings)
