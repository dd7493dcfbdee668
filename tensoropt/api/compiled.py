"""A compiled model with everything that is known of how it came about."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoropt.check import CheckResult
from tensoropt.ir.program import Array, Program

if TYPE_CHECKING:
    from codegen.built import Built, Target
    from tensoropt.frontend import LoadedModel as ImportedModel


@dataclass(slots=True)
class CompiledModel:
    """A compiled model with everything that is known of how it came about."""

    imported: ImportedModel
    program: Program
    """The program of kernels, as it runs."""
    stages: tuple[tuple[str, Program], ...]
    """The program after each pass, the import first."""
    check: CheckResult
    derivations: tuple[dict[str, Any], ...]
    regions: tuple[dict[str, Any], ...]
    """The outcome for each statement that was derived; ``search`` is a position in ``searches``."""
    searches: tuple[dict[str, Any], ...]
    joins: tuple[dict[str, Any], ...]
    """The outcome for statements that one launch on a device could compute."""
    search: dict[str, Any]
    """Figures of all searches together."""
    latency_ms: dict[str, float | None]
    peak_bytes: dict[str, int]
    seconds: dict[str, float]
    target: Target
    tuning: dict[str, Any]
    """What tuning found for each kernel, and what ended it early."""
    memory: dict[str, Any]
    """What the planner did for a memory budget; empty where there was none."""
    notices: tuple[str, ...]
    """What is wrong with the tuning database, a sentence each."""
    unplanned: tuple[Program, Mapping[str, Any]] | None = field(repr=False)
    """Where there was a memory budget: the kernels of the plan with their variants, none of them run again."""
    _built: Built = field(repr=False)
    libraries: str = "auto"
    """Whether kernels may call vendors' libraries (auto), or none may."""
    _exported: Any = field(default=None, repr=False)
    _exported_latency: dict[str, float] = field(default_factory=dict, repr=False)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name. InputError for names, shapes or types that do not fit."""
        result: dict[str, Array] = self._built.model().run(feeds)
        return result

    def report(self) -> dict[str, Any]:
        """What ``optimize --json`` prints."""
        rewrites = [entry for entry in self.derivations if entry["kept"]]
        return {
            "target": self.target.describe(),
            "check": self.check.as_json(),
            "latency_ms": self.latency_ms,
            "peak_bytes": self.peak_bytes,
            "memory": self.memory,
            **self._trace(),
            "search": self.search,
            "rewrites": [
                {
                    "node": entry["node"],
                    "pattern": entry["pattern"],
                    "chain": entry["chain"],
                    "gain": _gain(entry),
                    "cost_source": entry["cost_source"],
                }
                for entry in rewrites
            ],
            "search_seconds": self.seconds.get("select", 0.0),
            "tune_seconds": self.seconds.get("tune", 0.0),
            "tuning": self.tuning,
            "libraries": self.libraries,
            "seconds": self.seconds,
            "kernels": self._built.kernels_as_json(),
            "optimized_onnx_latency_ms": self._exported_latency,
            "warnings": [*self.imported.warnings, *self._failed_searches(), *self.notices],
        }

    def _failed_searches(self) -> list[str]:
        failures = [(entry["node"], self.searches[entry["search"]]["failure"]) for entry in self.regions]
        return [f"no derivation for {node}: {failure}" for node, failure in failures if failure is not None]

    def _trace(self) -> dict[str, Any]:
        """What ``trace.json`` holds."""
        return {
            "derivations": list(self.derivations),
            "regions": list(self.regions),
            "searches": list(self.searches),
            "joins": list(self.joins),
        }

    def save(self, folder: str | os.PathLike[str], force: bool = False) -> Path:
        """The artefact folder, written beside its place and moved there in one step.

        An existing folder is replaced only if it is an artefact or with ``force``; UsageError otherwise.
        """
        import json

        from codegen.artefact import save
        from tensoropt.ir.printer import format_program

        files: dict[str, bytes] = {
            "program.txt": format_program(self.program).encode(),
            "trace.json": json.dumps(self._trace(), indent=1).encode(),
        }
        for number, (name, program) in enumerate(self.stages):
            files[f"stages/{number:02d}-{name}.txt"] = format_program(program).encode()
        report = self.report()
        extra = {
            "model": {"name": self.imported.program.name, "sha256": self.imported.sha256},
            "report": {key: value for key, value in report.items() if key not in ("target", *self._trace())},
        }
        return Path(save(self._built, Path(folder), files=files, extra=extra, force=force, write=self._write_models))

    def _write_models(self, folder: Path) -> None:
        """The program as ONNX, and the weights of a training step."""
        from tensoropt.archives import write_arrays
        from tensoropt.export import save_onnx
        from tensoropt.folder_check import PARAMETERS

        if self._exported is not None:
            save_onnx(self._exported, folder / "optimized.onnx")
        if self.imported.values:
            write_arrays(folder / PARAMETERS, self.imported.values)


def _gain(entry: Mapping[str, Any]) -> float | None:
    """How many times faster the region of a kept derivation became; None where that was not measured."""
    before, after = entry["original_milliseconds"], entry["milliseconds"]
    return before / after if before and after else None
