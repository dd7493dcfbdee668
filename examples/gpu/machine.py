"""The GPU that figures come from, as nvidia-smi tells it, and the versions of what ran on it."""

from __future__ import annotations

import shutil
import subprocess

from codegen.cuda.nvcc import find_nvcc
from tensoropt.errors import UsageError
from tensoropt.machine import installed_version

_ASKED = {
    "gpu": "name",
    "driver": "driver_version",
    "graphics clock": "clocks.sm",
    "memory clock": "clocks.mem",
    "most graphics clock": "clocks.max.sm",
    "power limit": "power.limit",
}


def gpu() -> dict[str, str | int]:
    """The first GPU, its driver and its clocks now; nothing of it where there is no nvidia-smi. And nvcc's and torch's versions."""
    found: dict[str, str | int] = dict(_said(list(_ASKED.values()), list(_ASKED)))
    try:
        found["nvcc"] = find_nvcc().version
    except UsageError:
        found["nvcc"] = "none"
    bindings = installed_version("cuda-bindings")
    return found | ({"cuda-bindings": bindings} if bindings else {})


def clocks() -> dict[str, str]:
    """The clocks now, to be told beside a row: a GPU that is hot or shared runs slower."""
    return _said(["clocks.sm", "clocks.mem", "temperature.gpu"], ["graphics", "memory", "temperature"])


def _said(fields: list[str], names: list[str]) -> dict[str, str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(names, (part.strip() for part in said.strip().split(",")), strict=False))
