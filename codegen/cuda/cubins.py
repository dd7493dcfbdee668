"""A program's device functions compiled: sources in parallel, cubins kept on disk by what they were made of."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from codegen.cuda.nvcc import OPTIONS, Nvcc, find_nvcc, require_architecture
from codegen.cuda.resources import Resources, parse_report
from codegen.cuda.source import chunks
from codegen.targets.gpu import GpuTarget
from tensoropt import disk_cache

KIND = "cubins"
_PER_SOURCE = 16
"""Kernels that are worth a process of nvcc, which needs 0.3 s to begin with."""


@dataclass(frozen=True, slots=True)
class Cubin:
    """Code for one architecture, and what each of its kernels needs."""

    code: bytes
    kernels: Mapping[str, Resources]


def compile_functions(functions: Mapping[str, Any], target: GpuTarget, processes: int = 2) -> list[Cubin]:
    """Device functions (TIR, by the names that their kernels get) as cubins; each is in one of them.

    Errors as `codegen.cuda.nvcc.Nvcc.compile`; UsageError also where there is no nvcc.
    """
    nvcc = find_nvcc()
    require_architecture(nvcc, target.arch)
    count = min(processes, -(-len(functions) // _PER_SOURCE))
    return compile_sources(chunks(functions, target, count), target.arch, nvcc, processes)


def compile_sources(sources: Sequence[str], arch: str, nvcc: Nvcc, processes: int = 2) -> list[Cubin]:
    """Sources as cubins, in order, each by a process of its own."""
    with ThreadPoolExecutor(max(1, min(processes, len(sources)))) as pool:
        return list(pool.map(lambda source: _compiled(source, arch, nvcc), sources))


def _compiled(source: str, arch: str, nvcc: Nvcc) -> Cubin:
    digest = hashlib.sha256(source.encode()).hexdigest()
    key = f"nvcc {nvcc.version} {' '.join(OPTIONS)} {arch} {digest}"
    known = _from_entry(disk_cache.read_entry(KIND, key))
    if known is not None:
        return known
    code, report = nvcc.compile(source, arch)
    made = Cubin(code, parse_report(report))
    entry = {
        "code": base64.b64encode(code).decode(),
        "sha256": hashlib.sha256(code).hexdigest(),
        "kernels": {name: asdict(found) for name, found in made.kernels.items()},
    }
    disk_cache.write_entry(KIND, key, entry)
    return made


def _from_entry(entry: Mapping[str, Any] | None) -> Cubin | None:
    """A cubin that was kept; None where there is none or it is damaged."""
    if entry is None:
        return None
    try:
        code = base64.b64decode(entry["code"], validate=True)
        kernels = {str(name): Resources(**found) for name, found in entry["kernels"].items()}
        intact = hashlib.sha256(code).hexdigest() == entry["sha256"]
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error):
        return None
    return Cubin(code, kernels) if intact else None
