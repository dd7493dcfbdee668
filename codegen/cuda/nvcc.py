"""nvcc: found, asked what it compiles for, and run.

Code is made for one architecture, without its PTX: an artefact for another one is refused when it is loaded, and never compiled on
the spot. Nothing is made inexact: no fast mathematics, no flushing of small numbers, quotients and roots rounded correctly. A
product and a sum may be contracted to one operation, which is nvcc's default: it rounds once where two operations round twice, so
every bound that counts roundings holds, sums and products of small integers stay exact, and half of a GPU's f32 rate is in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from codegen.targets.architectures import capability
from tensoropt.errors import ModelError, UsageError

OPTIONS = (
    *("-std=c++17", "-O3", "--fmad=true", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"),
    *("-Xptxas", "-v"),
    *("-diag-suppress", "1046"),  # TVM prints an f32 with the digits of an f64; it is rounded to what it was
)
_SECONDS = 600.0
_TOO_MUCH_SHARED = re.compile(
    r"Entry function '([^']+)' uses too much shared data \(0x([0-9a-f]+) bytes, 0x([0-9a-f]+) max"
)


@dataclass(frozen=True, slots=True)
class Nvcc:
    """A CUDA compiler: where it is, its version, and the architectures that it makes code for."""

    path: str
    version: str
    architectures: tuple[str, ...]

    def compile(self, source: str, arch: str) -> tuple[bytes, str]:
        """The cubin of a source, and what ptxas says of its kernels.

        UsageError for an architecture that this nvcc does not know, or without a host compiler for its preprocessor; ModelError for
        a kernel that declares more shared memory than there is. RuntimeError where the source is wrong, which is a defect of ours.
        """
        require_architecture(self, arch)
        with tempfile.TemporaryDirectory(prefix="tensoropt-nvcc-") as folder:
            written, made = Path(folder) / "kernels.cu", Path(folder) / "kernels.cubin"
            written.write_text(source)
            command = [self.path, "-cubin", f"-arch={arch}", *OPTIONS, str(written), "-o", str(made)]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, cwd=folder, timeout=_SECONDS, env=_environment()
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                raise UsageError(
                    f"nvcc took longer than {_SECONDS:.0f} s for {arch}; a quieter machine may be enough"
                ) from error
            report = done.stdout + done.stderr
            if done.returncode or not made.is_file():
                raise _failure(report, arch)
            return made.read_bytes(), report


def find_nvcc() -> Nvcc:
    """The nvcc of CUDA_HOME, of the PATH, or of /usr/local/cuda. UsageError where there is none."""
    home = os.environ.get("CUDA_HOME")
    folders = [*([f"{home}/bin"] if home else []), *os.environ.get("PATH", "").split(os.pathsep), "/usr/local/cuda/bin"]
    path = shutil.which("nvcc", path=os.pathsep.join(folders))
    if path is None:
        raise UsageError(
            "compiling for CUDA needs nvcc, which is not installed; install the CUDA toolkit (13.0 is tested) or set CUDA_HOME"
        )
    return _asked(path)


def require_architecture(nvcc: Nvcc, arch: str) -> None:
    """UsageError where an nvcc does not make code for an architecture."""
    if arch in nvcc.architectures:
        return
    newest = max(nvcc.architectures, key=capability, default="")
    older = bool(newest) and capability(arch) > capability(newest)
    raise UsageError(
        f"nvcc {nvcc.version} makes no code for {arch}, only for {', '.join(nvcc.architectures)}; "
        f"install {'a newer' if older else 'another'} CUDA toolkit"
    )


@cache
def _asked(path: str) -> Nvcc:
    said = _output(path, "--version")
    release = re.search(r"release (\d+\.\d+)(?:, V(\S+))?", said)
    if release is None:
        raise UsageError(f"{path} does not say which version of nvcc it is; reinstall the CUDA toolkit")
    codes = {line.strip() for line in _output(path, "--list-gpu-code").splitlines()}
    known = sorted((code for code in codes if re.fullmatch(r"sm_\d+", code)), key=capability)
    return Nvcc(path, release[2] or release[1], tuple(known))


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"{command[0]} does not run ({error}); reinstall the CUDA toolkit") from error


def _environment() -> dict[str, str]:
    """Without flags that a user's shell may add to every nvcc."""
    return {
        name: value for name, value in os.environ.items() if name not in ("NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS")
    }


def _failure(report: str, arch: str) -> Exception:
    if match := _TOO_MUCH_SHARED.search(report):
        needed, most = int(match[2], 16), int(match[3], 16)
        return ModelError(f"{match[1]} declares {needed} bytes of shared memory for a block where {arch} gives {most}")
    if re.search(
        r"Failed to preprocess host compiler|\b(gcc|g\+\+|cl\.exe): (not found|No such file|command not found)", report
    ):
        return UsageError("nvcc needs a C++ compiler of the host, which is not installed; install gcc")
    first = next(
        (line.strip() for line in report.splitlines() if "error" in line or "fatal" in line), report.strip()[:200]
    )
    return RuntimeError(f"nvcc does not take the source for {arch}: {first}")
