"""Occupancy against NVIDIA's own calculator where its header is installed, and against known figures; launches that cannot be."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.cuda.occupancy import beyond, occupancy
from codegen.cuda.resources import Resources
from codegen.targets.architectures import ARCHITECTURES, capability
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED, generic

HEADERS = sorted(Path("/usr/local").glob("cuda*/include/cuda_occupancy.h"))
COMPILER = shutil.which("g++") or shutil.which("c++")

CALCULATOR = """
#include <stdio.h>
#include <limits.h>
#include <string.h>
#include "cuda_occupancy.h"
int main() {
  int major, minor, threads, registers, statically, dynamically, most_threads, shared, per_block, most, reserved;
  while (scanf("%d %d %d %d %d %d %d %d %d %d %d", &major, &minor, &threads, &registers, &statically, &dynamically,
               &most_threads, &shared, &per_block, &most, &reserved) == 11) {
    cudaOccDeviceProp device; cudaOccFuncAttributes kernel; cudaOccDeviceState state; cudaOccResult result;
    device.computeMajor = major; device.computeMinor = minor;
    device.maxThreadsPerBlock = 1024; device.maxThreadsPerMultiprocessor = most_threads;
    device.regsPerBlock = 65536; device.regsPerMultiprocessor = 65536; device.warpSize = 32;
    device.sharedMemPerBlock = per_block; device.sharedMemPerMultiprocessor = shared; device.numSms = 1;
    device.sharedMemPerBlockOptin = most; device.reservedSharedMemPerBlock = reserved;
    kernel.maxThreadsPerBlock = 1024; kernel.numRegs = registers; kernel.sharedSizeBytes = statically;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN; kernel.maxDynamicSharedSizeBytes = dynamically;
    int failed = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, dynamically);
    printf("%d %d\\n", failed, result.activeBlocksPerMultiprocessor);
  }
}
"""


@pytest.mark.skipif(not HEADERS or COMPILER is None, reason="needs cuda_occupancy.h and a C++ compiler")
def test_blocks_are_those_of_cudas_calculator(tmp_path: Path) -> None:
    assert COMPILER is not None
    (tmp_path / "calculator.cpp").write_text(CALCULATOR)
    command = [
        COMPILER,
        "-I",
        str(HEADERS[-1].parent),
        str(tmp_path / "calculator.cpp"),
        "-o",
        str(tmp_path / "calculator"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    cases, lines = [], []
    for target in map(generic, ARCHITECTURES):
        one = target.multiprocessor
        for threads in (1, 32, 33, 96, 128, 256, 384, 512, 640, 1000, 1024):
            for registers in (0, 16, 31, 32, 40, 64, 65, 128, 168, 255):
                for statically, dynamically in (
                    (0, 0),
                    (1, 0),
                    (16384, 0),
                    (49152, 0),
                    (0, 65536),
                    (1024, 99 << 10),
                    (0, 200000),
                ):
                    cases.append((target, threads, registers, statically, dynamically))
                    values = (*capability(target.arch), threads, registers, statically, dynamically)
                    limits = (
                        one.threads,
                        one.shared_bytes,
                        target.shared_bytes,
                        one.most_shared_bytes,
                        one.reserved_shared_bytes,
                    )
                    lines.append(" ".join(map(str, (*values, *limits))))
    done = subprocess.run([tmp_path / "calculator"], input="\n".join(lines), capture_output=True, text=True, check=True)
    answers = [line.split() for line in done.stdout.splitlines()]
    assert len(answers) == len(cases) > 5000
    for (target, threads, registers, statically, dynamically), (failed, blocks) in zip(cases, answers, strict=True):
        assert failed == "0"
        ours = occupancy(target, Resources(registers, shared_bytes=statically), threads, dynamically)
        assert ours.blocks == int(blocks), (target.name, threads, registers, statically, dynamically)


@pytest.mark.parametrize(
    ("name", "registers", "shared", "threads", "blocks", "limited_by"),
    [
        ("h200", 32, 0, 256, 8, "threads"),
        ("h200", 128, 0, 256, 2, "registers"),
        ("h200", 32, 48 << 10, 256, 4, "shared memory"),
        ("h200", 16, 0, 32, 32, "blocks"),
        ("rtx4090", 32, 0, 256, 6, "threads"),
        ("t4", 64, 0, 1024, 1, "threads"),
    ],
)
def test_known_figures(name: str, registers: int, shared: int, threads: int, blocks: int, limited_by: str) -> None:
    found = occupancy(NAMED[name], Resources(registers, shared_bytes=shared), threads)
    assert (found.blocks, found.limited_by) == (blocks, limited_by)
    assert found.share == blocks * threads / NAMED[name].multiprocessor.threads


targets = st.sampled_from(list(NAMED.values()))


@settings(max_examples=200)
@given(targets, st.integers(1, 300), st.integers(0, 250_000), st.integers(1, 1100), st.integers(0, 100))
def test_needing_more_never_lets_more_blocks_run(
    target: GpuTarget, registers: int, shared: int, threads: int, more: int
) -> None:
    base = occupancy(target, Resources(registers, shared_bytes=shared), threads)
    assert 0 <= base.share <= 1
    assert occupancy(target, Resources(registers + more, shared_bytes=shared), threads).blocks <= base.blocks
    assert occupancy(target, Resources(registers, shared_bytes=shared + more), threads).blocks <= base.blocks
    assert occupancy(target, Resources(registers, shared_bytes=shared), threads + more).blocks <= base.blocks


@settings(max_examples=200)
@given(targets, st.integers(1, 300), st.integers(0, 49152), st.integers(0, 200_000), st.integers(1, 1100))
def test_a_launch_is_refused_exactly_where_no_block_runs(
    target: GpuTarget, registers: int, shared: int, dynamic: int, threads: int
) -> None:
    resources = Resources(registers, shared_bytes=shared)
    refused = beyond(target, "kernel", resources, (1, 1, 1), (threads, 1, 1), dynamic)
    assert (refused is not None) == (occupancy(target, resources, threads, dynamic).blocks == 0)
    if refused is not None:
        assert "kernel" in refused
        assert target.name in refused


@pytest.mark.parametrize(
    ("grid", "block", "resources", "dynamic", "part"),
    [
        ((1, 1, 1), (2048, 1, 1), Resources(16), 0, "blocks of 2048 threads where h200 has 1024"),
        ((1, 1, 1), (1, 1, 128), Resources(16), 0, "128 threads"),
        ((1 << 31, 1, 1), (32, 1, 1), Resources(16), 0, "blocks along x"),
        ((1, 65536, 1), (32, 1, 1), Resources(16), 0, "65536 blocks along y where h200 has 65535"),
        ((1, 1, 1), (1024, 1, 1), Resources(80), 0, "81920 registers for a block where h200 has 65536"),
        ((1, 1, 1), (32, 1, 1), Resources(256), 0, "256 registers for a thread"),
        (
            (1, 1, 1),
            (32, 1, 1),
            Resources(16, shared_bytes=50000),
            0,
            "50000 bytes of shared memory where h200 gives 49152",
        ),
        ((1, 1, 1), (32, 1, 1), Resources(16, shared_bytes=1024), 232448, "233472 bytes of shared memory for a block"),
    ],
)
def test_what_is_beyond_a_gpu_is_said_in_one_sentence(
    grid: tuple[int, int, int], block: tuple[int, int, int], resources: Resources, dynamic: int, part: str
) -> None:
    said = beyond(NAMED["h200"], "kernel_3", resources, grid, block, dynamic)
    assert said is not None
    assert part in said
    assert said.startswith("kernel_3 ")
