"""Tuning an artefact folder: its program compiled again with the best known variants, checked, and put in the folder's place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codegen.artefact import save
from codegen.built import Built
from codegen.reading import MANIFEST, load, operand_roundoff, read_manifest
from codegen.targets.cpu import available_threads, host_target
from codegen.targets.gpu import GpuTarget
from codegen.targets.here import why_not_here
from codegen.targets.parsing import Target, parse_target
from codegen.tune.tuned import Tuning
from tensoropt.errors import ArtefactError, CheckError, NoPlanError, UsageError
from tensoropt.folder_check import folder_agreement, folder_feeds
from tensoropt.ir.program import Array
from tensoropt.timing import alternate


@dataclass(frozen=True, slots=True)
class Replacement:
    """Whether the folder was replaced, and the latency of the model before and after in milliseconds."""

    replaced: bool
    latency_ms: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """What ``tune --json`` tells of it."""
        return {"replaced": self.replaced, "latency_ms": dict(self.latency_ms)}


def stored_target(folder: Path, asked: str, threads: int | None) -> Target:
    """What a folder is tuned for: this machine with the threads that it was compiled for, unless others are asked for, or the
    device that it was compiled for.

    ``asked``: the target that the user named, ``cpu`` where none was. UsageError for a folder of another target, and where its
    device is not here.
    """
    try:
        manifest = read_manifest(folder)
        compiled_for, described = int(manifest["threads"]), manifest["target"]
        kind = str(described["kind"])
        gpu = None if kind == "cpu" else GpuTarget.described(described)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{folder}: the manifest is damaged ({error!r}); optimize the model again") from error
    if asked != "cpu" and parse_target(asked).kind != kind:
        raise UsageError(
            f"{folder}: the artefact is for {kind}, so it is tuned for that and not for {asked}; leave --target out"
        )
    if gpu is None:
        return host_target(threads or min(compiled_for, available_threads()))
    if threads is not None:
        raise UsageError(f"{folder}: the artefact is for {kind}, and --threads is for the target cpu")
    if kind == "opencl":
        here = parse_target(kind)
        assert isinstance(here, GpuTarget)
        return replace(here, tf32=gpu.tf32)
    why = why_not_here([gpu])[gpu.name]
    if why:
        raise UsageError(f"{folder}: its kernels for {gpu.name} are tuned where they run, and not here: {why}")
    return gpu


def stored_libraries(folder: Path) -> str:
    """Whether a folder's kernels may call libraries, as ``--libraries`` said when it was made."""
    report = read_manifest(folder).get("report")
    return "none" if isinstance(report, dict) and report.get("libraries") == "none" else "auto"


def replace_artefact(folder: Path, built: Built, tuning: Tuning) -> Replacement:
    """Puts the folder's program, compiled with what tuning found, in the folder's place, in one step.

    Nothing happens where the schedules are those that it has. NoPlanError where the arena would be larger than the memory budget
    that the folder was made for, which planning with other workspaces may mend. CheckError for a result that differs from what ONNX
    Runtime makes of ``optimized.onnx``. The folder is then as it was.
    """
    before, manifest = load(folder), read_manifest(folder)
    kernels = built.kernels_as_json()
    if built.signature.threads == manifest["threads"] and _schedules(kernels) == _schedules(manifest["kernels"]):
        return Replacement(False, {})
    budget = manifest.get("report", {}).get("memory", {}).get("budget_bytes")
    if budget is not None and built.signature.arena_bytes - built.plan.host_bytes > budget:
        raise NoPlanError(
            f"{folder}: with the tuned kernels its arena has {built.signature.arena_bytes} bytes, more than its budget of "
            f"{budget}, so it is as it was; optimize the model again with --memory-budget, which plans with these kernels"
        )
    feeds = folder_feeds(folder, built.program.inputs, 0)
    _require_agreement(folder, built, feeds, built.signature.threads)
    model = built.model()
    series = alternate({"before": lambda: before.run(feeds), "after": lambda: model.run(feeds)}, 5, budget=2.0)
    latency = {name: one.median for name, one in series.items()}
    report = {**manifest.get("report", {}), "kernels": kernels, "tuning": tuning.as_json()}
    report["latency_ms"] = {**report.get("latency_ms", {}), "after": latency["after"]}
    if budget is not None:
        report["memory"] = {**report["memory"], "arena_bytes": built.signature.arena_bytes}
    extra = {"model": manifest.get("model", {}), "report": report}
    save(built, folder, extra=extra, write=lambda partial: _copy_rest(folder, partial))
    return Replacement(True, latency)


def _schedules(kernels: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return [(kernel["output"], kernel["schedules"]) for kernel in kernels]


def _require_agreement(folder: Path, built: Built, feeds: Mapping[str, Array], threads: int) -> None:
    results = built.model().run(feeds)
    rounded = operand_roundoff(folder)
    worst = folder_agreement(folder, built.program.outputs, results, feeds, threads, rounded).worst
    if worst is not None:
        raise CheckError(
            f"{folder}: the tuned value {worst.name!r} differs from ONNX Runtime's by {worst.max_abs_error:.3g} where "
            f"{worst.allowed:.3g} is allowed; the folder is as it was"
        )


def _copy_rest(folder: Path, partial: Path) -> None:
    """Everything that compiling again does not change: not what is written already, nor more cubins than there are now."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.name != MANIFEST and name.suffix != ".cubin" and not (partial / name).exists():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, partial / name)
