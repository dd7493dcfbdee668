"""Cases compiled on a machine without a GPU, to be loaded and timed on another: a small folder each, without weights."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensoropt
from codegen.device.files import SOURCES
from codegen.reading import WEIGHTS
from examples.gpu.cases import Case
from examples.gpu.plain_tvm import compile_plain
from examples.gpu.weights import leave_out, restored
from examples.runs import Row
from tensoropt.errors import UsageError
from tensoropt.ir.program import Array
from tensoropt.machine import installed_version
from tensoropt.peers.peer import Refused

REPORT = "case.json"

AS_WRITTEN = "as written"

WITHOUT_LIBRARIES = "without libraries"


@dataclass(frozen=True, slots=True)
class Ours:
    """How ours is compiled: the rules that are excluded, and whether kernels may call libraries."""

    excluded: frozenset[str] = frozenset()
    libraries: str = "auto"


VARIANTS: Mapping[str, Ours] = {"tensoropt": Ours(), AS_WRITTEN: Ours(frozenset({"all"}))}
"""Ours: derived, and every kernel as the model has it."""
FREE: Mapping[str, Ours] = {
    WITHOUT_LIBRARIES: Ours(libraries="none"),
    f"{AS_WRITTEN}, {WITHOUT_LIBRARIES}": Ours(frozenset({"all"}), "none"),
}
"""The same free of libraries, which is another thing only where kernels are measured: these are what they would be."""
OWN = (*VARIANTS, *FREE)
"""The names of ours."""


_FOR_PEOPLE = ("stages", "program.txt", "trace.json", "optimized.onnx", SOURCES["cuda"])
"""What of an artefact no run needs."""


def prepare(case: Case, target: str, tune: str | None, tvm: bool, folder: Path) -> Row:
    """Compiles a case for a target, which need not be here, and writes what its time needs to ``folder``; the report.

    ``tune`` is that of ``optimize``. The report has for each variant the seconds, the check, the rewrites and the bytes of weights,
    which are left out, and of constants that are sent. With ``tvm`` also what plain TVM makes of the model, or why it does not.
    """
    from codegen.device.build import BuiltDeviceProgram  # the compiler, which is not where times are taken

    model = case.model()
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    report: Row = {
        "target": target,
        "tune": tune,
        "versions": {name: installed_version(name) for name in ("apache-tvm", "onnxruntime", "numpy")},
        "variants": {},
    }
    for variant, how in variants_for(target, tune).items():
        started = time.monotonic()
        compiled = tensoropt.optimize(
            model, target, tune=tune, exclude_rules=how.excluded, libraries=how.libraries, check=case.checked
        )
        seconds = time.monotonic() - started
        there = compiled.save(partial / variant)
        built = compiled._built
        assert isinstance(built, BuiltDeviceProgram)
        sent = leave_out(there, compiled, built)
        _drop_what_is_read(there)
        found = compiled.report()
        report["variants"][variant] = {
            "optimize_seconds": seconds,
            "check": found["check"],
            "rewrites": [f"{entry['pattern']} ({entry['node']})" for entry in found["rewrites"]],
            "weights_bytes": built.weights.nbytes,
            "sent_bytes": sent,
        }
    if tvm:
        try:
            compile_plain(next(iter(case.formulations().values())), compiled.target, partial)
        except Refused as error:
            report["tvm"] = str(error)
    (partial / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    report["bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return report


def variants_for(target: str, tune: str | None) -> dict[str, Ours]:
    """The variants that there are for a target: those free of libraries where its kernels are measured on this machine."""
    from codegen.targets.gpu import GpuTarget
    from codegen.targets.here import why_not_here
    from codegen.targets.parsing import parse_target

    gpu = parse_target(target)
    measured = isinstance(gpu, GpuTarget) and gpu.kind == "cuda" and tune != "off" and not why_not_here([gpu])[gpu.name]
    return {**VARIANTS, **(FREE if measured else {})}


def report_of(folder: Path) -> Row:
    """What ``prepare`` wrote. UsageError where the case was not prepared."""
    try:
        found: Row = json.loads((folder / REPORT).read_text())
    except OSError as error:
        raise UsageError(f"{folder} was not prepared; run `--prepare {folder.parent}` first") from error
    return found


def load(folder: Path, own: Mapping[str, Array]) -> Any:
    """The model of a variant's folder, with its weights made from the constants of the model as it was imported."""
    with tempfile.TemporaryDirectory(prefix="tensoropt-prepared-") as scratch:
        whole = Path(scratch)
        for path in folder.iterdir():
            (whole / path.name).symlink_to(path.absolute())
        restored(folder, own).tofile(whole / WEIGHTS)
        return tensoropt.load(whole)


def _drop_what_is_read(folder: Path) -> None:
    for name in _FOR_PEOPLE:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
