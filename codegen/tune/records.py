"""Measurements of one target: the tuning database under the key of this machine, these versions and this generator."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from codegen.cuda.nvcc import find_nvcc
from codegen.targets.cpu import CpuTarget
from codegen.targets.here import device_here
from codegen.targets.parsing import Target
from codegen.tune.database import Database
from codegen.tune.rows import Key
from tensoropt.disk_cache import sources_digest


class Records:
    """What was measured for a target, by kernel (canonical text) and variant (text).

    ``device``: the name of what it was measured on, with its driver, where that is not this machine's. UsageError where this
    machine's is meant and it has none.
    """

    def __init__(self, database: Database, target: Target, device: str | None = None) -> None:
        self.database, self.target = database, target
        self._parts = (
            json.dumps(target.describe(), sort_keys=True),
            _versions(target.kind),
            generator_version(),
            device if device is not None else device_name() if isinstance(target, CpuTarget) else device_here(target),
        )

    def read(self, kernel: str) -> dict[str, dict[str, Any]]:
        """The entries of a kernel by variant."""
        return self.database.read(Key(kernel, *self._parts))

    def write(self, kernel: str, entries: Mapping[str, dict[str, Any]]) -> None:
        """Stores entries of a kernel by variant, in one transaction."""
        self.database.write(Key(kernel, *self._parts), entries)


@cache
def generator_version() -> str:
    """A digest of the code generator's sources: another generator makes other kernels, whose times are not known."""
    return sources_digest([Path(__file__).resolve().parent.parent])


@cache
def device_name() -> str:
    """The processor as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Hardware"))]
    return next(iter(named), "") or platform.processor() or platform.machine()


@cache
def _versions(kind: str) -> str:
    found = {"nvcc": find_nvcc().version} if kind == "cuda" else {}
    for package in ("apache-tvm", "apache-tvm-ffi"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return json.dumps(found, sort_keys=True)
