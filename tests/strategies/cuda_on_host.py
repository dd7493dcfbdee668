"""CUDA sources compiled by the host's C++ compiler and run on its threads, so that what they say can be checked without a GPU."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from codegen.device.table import Start

COMPILER = shutil.which("g++")
HEADER = Path(__file__).with_name("cuda_on_host.h")
_KERNEL = re.compile(
    r'extern "C" __global__ void __launch_bounds__\([\d, ]+\) (\w+)\(([^)]*)\) \{(.*?)\n\}\n', re.DOTALL
)
_AT_ONCE = re.compile(r"(Whole\*\))there")
_SHARED = re.compile(r"__shared__ (alignas\(\d+\) )?")


def available() -> bool:
    """Whether the compiler knows barriers and 16-bit floats, as GCC 12 on x86-64 does."""
    if COMPILER is None:
        return False
    program = "#include <barrier>\n_Float16 f(float x) { std::barrier<> b(1); b.arrive_and_wait(); return x; }"
    command = [COMPILER, "-std=c++20", "-x", "c++", "-fsyntax-only", "-"]
    return subprocess.run(command, input=program, text=True, capture_output=True, check=False).returncode == 0


def compiled(source: str, folder: Path, contracted: bool) -> ctypes.CDLL:
    """A library of a source's kernels; ``contracted`` has products and sums become one operation, as on a GPU."""
    for name in ("cuda.h", "cuda_fp16.h", "math_constants.h"):
        (folder / name).write_text("")
    runs = []
    for name, parameters, body in _KERNEL.findall(source):
        count = len([one for one in parameters.split(",") if one.strip()])
        kinds = [one.replace("__restrict__", "").rsplit("*", 1)[0] + "*" for one in parameters.split(",")][:count]
        values = ", ".join(f"({kind})arguments[{number}]" for number, kind in enumerate(kinds))
        waits = "true" if "block_barrier" in body or "__syncthreads" in body else "false"
        runs.append(
            f'extern "C" void run_{name}(const int* grid, const int* block, void** arguments) '
            f"{{ run_blocks(grid, block, {waits}, [&] {{ {name}({values}); }}); }}"
        )
    text = _SHARED.sub(lambda found: f"{found[1] or ''}static ", source)
    text, places = _AT_ONCE.subn(r"\1at_multiple(there, sizeof(Whole))", text)
    assert places == 2
    (folder / "kernels.cpp").write_text(f'#include "{HEADER}"\n{text}\n' + "\n".join(runs))
    library = folder / ("contracted.so" if contracted else "kernels.so")
    contraction = ["-O1", "-ffp-contract=fast", "-mfma"] if contracted else ["-O0", "-ffp-contract=off"]
    command = [
        *(str(COMPILER), "-std=c++20", "-fno-strict-aliasing", "-w", "-shared", "-fPIC", "-pthread", *contraction),
        *("-I", str(folder), str(folder / "kernels.cpp"), "-o", str(library)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return ctypes.CDLL(str(library))


def kernels_of(library: ctypes.CDLL, starts: Sequence[Start]) -> Mapping[str, Any]:
    """The kernels of a library as functions of addresses, started as a table says."""
    return {start.kernel: partial(_run, library, start) for start in starts}


def _run(library: ctypes.CDLL, start: Start, *addresses: int) -> None:
    arguments = (ctypes.c_void_p * len(addresses))(*addresses)
    extents = [(ctypes.c_int * 3)(*three) for three in (start.grid, start.block)]
    getattr(library, f"run_{start.kernel}")(*extents, arguments)
    assert not ctypes.c_int.in_dll(library, "misaligned").value, (
        "what is read at once starts at no multiple of its bytes"
    )
