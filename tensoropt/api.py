"""The public functions. The only module that names passes and code generators; the command line calls these and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoropt.archives import read_arrays, write_arrays
from tensoropt.check import CheckResult, check_outputs, check_statements, random_feeds
from tensoropt.errors import CheckError, ModelError, UsageError
from tensoropt.interrupts import first_interrupt
from tensoropt.ir.program import Array, Program
from tensoropt.pass_manager import Context, Progress
from tensoropt.quiet import Quiet
from tensoropt.timing import Clock, alternate

if TYPE_CHECKING:
    from codegen.build import BuiltProgram
    from codegen.runtime import CompiledModel as LoadedModel
    from codegen.targets.cpu import CpuTarget
    from codegen.tune.database import Database
    from codegen.tune.pool import Request
    from codegen.tune.tuned import Tuning
    from tensoropt.frontend import LoadedModel as ImportedModel
    from tensoropt.inspection import Inspection


def _silent(stage: str, share: float, detail: str) -> None:
    """The progress display of a call from Python: none."""


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
    search: dict[str, Any]
    """Figures of all searches together."""
    latency_ms: dict[str, float | None]
    peak_bytes: dict[str, int]
    seconds: dict[str, float]
    target: CpuTarget
    tuning: dict[str, Any]
    """What tuning found for each kernel, and what ended it early."""
    notices: tuple[str, ...]
    """What is wrong with the tuning database, a sentence each."""
    _built: BuiltProgram = field(repr=False)
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
            **self._trace(),
            "search": self.search,
            "rewrites": [
                {
                    "node": entry["node"],
                    "pattern": entry["pattern"],
                    "chain": entry["chain"],
                    "gain": _gain(entry),
                }
                for entry in rewrites
            ],
            "search_seconds": self.seconds.get("select", 0.0),
            "tune_seconds": self.seconds.get("tune", 0.0),
            "tuning": self.tuning,
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
        return Path(save(self._built, Path(folder), files=files, extra=extra, force=force, write=self._write_onnx))

    def _write_onnx(self, folder: Path) -> None:
        from tensoropt.export import save_onnx

        if self._exported is not None:
            save_onnx(self._exported, folder / "optimized.onnx")


def _gain(entry: Mapping[str, Any]) -> float | None:
    """How many times faster the region of a kept derivation became; None where that was not measured."""
    before, after = entry["original_milliseconds"], entry["milliseconds"]
    return before / after if before and after else None


def optimize(
    model: Any,
    target: str = "cpu",
    *,
    tune: str = "fast",
    shapes: Mapping[str, Sequence[int]] | None = None,
    exclude_rules: Iterable[str] = (),
    threads: int | None = None,
    time_limit: float | None = None,
    db: str | os.PathLike[str] | None = None,
    seed: int = 0,
    check: bool = True,
    progress: Progress = _silent,
    on_interrupt: Callable[[], None] | None = None,
) -> CompiledModel:
    """Read, rewrite, compile and check a model.

    ``model`` is a path, bytes, a ``ModelProto`` or an ``onnx_ir.Model``; ``shapes`` binds dynamic dimensions by input name;
    ``exclude_rules`` names derivation rules that are not used ("all" rewrites nothing); ``db`` is a tuning database other than
    the user's own. Where ``on_interrupt`` is given, the first interrupt while kernels are tuned calls it and ends tuning, and the
    best so far is used. ModelError for a model that cannot be used, CheckError where the result differs from ONNX Runtime's.
    """
    from codegen.build import compile_program
    from codegen.targets.cpu import host_target
    from codegen.tune.database import Database
    from codegen.tune.tuning import requested
    from passes.pipeline import compile_as_written, plan
    from tensoropt.frontend import load_program

    excluded = frozenset([exclude_rules] if isinstance(exclude_rules, str) else exclude_rules)
    _require_target(target)
    if tune not in ("off", "fast", "full"):
        raise UsageError(f"--tune is off, fast or full, not {tune!r}")
    unknown = excluded - {"all", *(entry["name"] for entry in rules())}
    if unknown:
        raise UsageError(f"no rule is called {sorted(unknown)[0]!r}; `tensoropt rules` lists them")
    _require_limits(threads, seed, time_limit)
    clock = Clock()
    with Database(db) as database:
        progress("import", 0.0, "")
        imported = load_program(model, dict(shapes or {}))
        clock.lap("import")
        if not imported.program.outputs:
            raise ModelError(
                f"{imported.path or 'the model'} has no outputs, so there is nothing to compute; declare at least one"
            )
        cpu = host_target(threads)
        context, program = _rewritten(imported, cpu, database, excluded, tune, seed, time_limit, progress)
        clock.lap("optimize")
        layout = plan(program)
        effort = "off" if context.time_is_up() else tune
        request = requested(effort, context.deadline())
        tuning = _tuned(program, cpu, database, request, context.quiet, progress, on_interrupt)
        clock.lap("tune")
        notices = tuple(database.warnings)
    progress("compile", 0.0, "")

    def compiling(share: float, detail: str) -> None:
        progress("compile", share, detail)

    variants = tuning.variants
    built = compile_program(program, layout, cpu, compiling, variants)
    clock.lap("compile")
    rewritten = any(entry["kept"] for entry in context.derivations)
    before = built
    if rewritten:
        as_written = compile_as_written(imported.program, Context(context.cost_model))
        before = compile_program(as_written, plan(as_written), cpu, variants=variants)
        clock.lap("compile as written")
    progress("check", 0.0, "")
    feeds = random_feeds(imported.program.inputs, seed)
    result = CheckResult(reason="the check was switched off")
    if check:
        result = check_model(imported, program, built, feeds, seed)
        clock.lap("check")
        require_agreement(result, imported)
    exported, exported_latency = _export(program, imported, feeds, cpu.threads, check)
    clock.lap("export")
    latency = _latencies(before, built, feeds, rewritten)
    clock.lap("latency")
    progress("done", 1.0, "")
    return CompiledModel(
        imported=imported,
        program=program,
        stages=tuple(context.stages),
        check=result,
        derivations=tuple(context.derivations),
        regions=tuple(context.regions),
        searches=tuple(context.searches),
        search=context.search,
        latency_ms=latency,
        peak_bytes={"before": before.plan.peak_bytes, "after": layout.peak_bytes, "arena": built.signature.arena_bytes},
        seconds={**clock.seconds, **context.seconds},
        target=cpu,
        tuning=tuning.as_json(),
        notices=notices,
        _built=built,
        _exported=exported,
        _exported_latency=exported_latency,
    )


def _rewritten(
    imported: ImportedModel,
    cpu: CpuTarget,
    database: Database,
    excluded: frozenset[str],
    tune: str,
    seed: int,
    time_limit: float | None,
    progress: Progress,
) -> tuple[Context, Program]:
    """The program of kernels, and what is known of how it came about."""
    from codegen.targets.cpu import available_threads
    from codegen.tune.records import Records
    from codegen.tune.worker import MeasuredCost
    from passes.pipeline import optimize as optimize_program

    quiet = Quiet()
    with MeasuredCost(cpu, quiet=quiet, records=Records(database, cpu)) as cost_model:
        workers = min(cpu.threads, available_threads())
        context = Context(cost_model, excluded, tune, seed, time_limit, progress, workers, quiet)
        context.stages.append(("import", imported.program))
        return context, optimize_program(imported.program, context)


def _tuned(
    program: Program,
    cpu: CpuTarget,
    database: Database,
    request: Request,
    quiet: Quiet,
    progress: Progress,
    on_interrupt: Callable[[], None] | None,
) -> Tuning:
    """The fastest known variants of the program's kernels."""
    from codegen.tune.records import Records
    from codegen.tune.tuning import tune_program
    from passes.pipeline import plan

    with first_interrupt(on_interrupt) as stop:
        return tune_program(
            program,
            plan(program),
            cpu,
            Records(database, cpu),
            request,
            quiet=quiet,
            progress=lambda share, detail: progress("tune", share, detail),
            stop=stop,
        )


def _require_target(target: str) -> None:
    if target != "cpu":
        raise UsageError(f"the target {target!r} is not supported; `tensoropt targets` lists those that are")


def _require_limits(threads: int | None, seed: int, time_limit: float | None) -> None:
    most = max(16, 4 * (os.cpu_count() or 1))
    if threads is not None and not 1 <= threads <= most:
        raise UsageError(f"the number of threads is 1 to {most} on this machine, not {threads}")
    if seed < 0:
        raise UsageError(f"a seed is not negative, as {seed} is")
    if time_limit is not None and not time_limit > 0:
        raise UsageError(f"a time limit is a positive number of seconds, not {time_limit}")


def check_model(
    imported: ImportedModel, program: Program, built: BuiltProgram, feeds: Mapping[str, Array], seed: int
) -> CheckResult:
    """The compiled program against ONNX Runtime on the given inputs, end to end and statement by statement."""
    from tensoropt.frontend.reference import reference_values

    names = [tensor.name for statement in program.statements for tensor in statement.outputs]
    names += [tensor.name for tensor in program.outputs]
    references = {**reference_values(imported, feeds, list(dict.fromkeys(names))), **feeds}
    ends = check_outputs(program.outputs, built.model().run(feeds), references)
    statements = check_statements(program, built.execute, references, seed)
    return CheckResult(ends.outputs, statements, (*imported.warnings, *ends.warnings))


def require_agreement(result: CheckResult, imported: ImportedModel) -> None:
    """CheckError, naming the first statement that differs, unless everything agrees."""
    worst = result.worst
    if worst is not None:
        nodes = f" (from {', '.join(worst.origin[:4])})" if worst.origin else ""
        raise CheckError(
            f"{imported.path or imported.program.name}: the compiled value {worst.name!r}{nodes} differs from ONNX Runtime's by "
            f"{worst.max_abs_error:.3g} where rounding explains {worst.allowed:.3g}; nothing was written"
        )


def _export(
    program: Program, imported: ImportedModel, feeds: Mapping[str, Array], threads: int, check: bool
) -> tuple[Any, dict[str, float]]:
    """The program as an ONNX model that ONNX Runtime runs and agrees with, and both models' latencies there."""
    from tensoropt.export import export_onnx
    from tensoropt.export.sessions import session_of
    from tensoropt.frontend.reference import reference_session

    exported = export_onnx(program)
    if not check:
        return exported, {}
    original, rewritten = reference_session(imported, threads), session_of(exported, threads)
    names = list(dict.fromkeys(tensor.name for tensor in program.outputs))
    expected = dict(zip(names, original.run(names, dict(feeds)), strict=True))
    actual = dict(zip(names, rewritten.run(names, dict(feeds)), strict=True))
    result = check_outputs(program.outputs, actual, expected)
    if not result.ok:
        worst = result.worst
        assert worst is not None
        raise CheckError(
            f"optimized.onnx: the output {worst.name!r} differs from the original's by {worst.max_abs_error:.3g} where "
            f"{worst.allowed:.3g} is allowed; nothing was written"
        )
    runs = {
        "original": lambda: original.run(names, dict(feeds)),
        "optimized": lambda: rewritten.run(names, dict(feeds)),
    }
    return exported, alternate(runs)


def _latencies(
    before: BuiltProgram, after: BuiltProgram, feeds: Mapping[str, Array], rewritten: bool
) -> dict[str, float | None]:
    first, second = before.model(), after.model()
    if not rewritten:
        only = alternate({"after": lambda: second.run(feeds)})["after"]
        return {"before": only, "after": only}
    return dict(alternate({"before": lambda: first.run(feeds), "after": lambda: second.run(feeds)}))


def require_replaceable(folder: str | os.PathLike[str], force: bool = False) -> None:
    """UsageError where ``CompiledModel.save`` would refuse the folder; asked before minutes of work and not after."""
    from codegen.artefact import require_replaceable as require

    require(Path(folder).absolute(), force)


def load(folder: str | os.PathLike[str], threads: int | None = None) -> LoadedModel:
    """A model from its artefact folder, ready to ``run``. ArtefactError for what is none, is damaged, or cannot run here."""
    from codegen.artefact import load as load_artefact

    return load_artefact(Path(folder), threads=threads)


def run(
    path: str | os.PathLike[str],
    *,
    inputs: str | os.PathLike[str] | None = None,
    outputs: str | os.PathLike[str] | None = None,
    seed: int = 0,
    repeat: int = 1,
    threads: int | None = None,
    check: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Run an artefact folder, or a model that is compiled first, on an ``.npz`` file or on seeded random inputs.

    Returns latency in milliseconds (median of ``repeat`` runs), a summary of each output, and with ``check`` the comparison with
    ONNX Runtime (for a folder, of its ``optimized.onnx``). InputError for inputs that do not fit, CheckError where results differ.
    """
    _require_limits(threads, seed, None)
    folder = Path(path)
    if folder.is_dir():
        model: Any = load(folder, threads)
        tensors = model.inputs
    else:
        model = optimize(path, tune="off", threads=threads, check=check, shapes=shapes)
        tensors = model.program.inputs
    feeds = read_arrays(Path(inputs)) if inputs else random_feeds(tensors, seed)
    results: dict[str, Array] = model.run(feeds)
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        results = model.run(feeds)
        times.append(time.perf_counter() - started)
    if outputs:
        write_arrays(Path(outputs), results)
    agreement = _check_run(folder, model, feeds, results) if check else None
    return {
        "latency_ms": sorted(times)[len(times) // 2] * 1e3,
        "repeat": repeat,
        "outputs": {name: _summary(array) for name, array in results.items()},
        "check": agreement,
    }


def _check_run(folder: Path, model: Any, feeds: Mapping[str, Array], results: Mapping[str, Array]) -> dict[str, Any]:
    if isinstance(model, CompiledModel):
        return model.check.as_json()
    from tensoropt.export.sessions import session_of_file

    session = session_of_file(folder / "optimized.onnx")
    names = list(results)
    references = dict(zip(names, session.run(names, dict(feeds)), strict=True))
    result = check_outputs(model.outputs, results, references)
    if result.worst is not None:
        raise CheckError(
            f"{folder}: the output {result.worst.name!r} differs from ONNX Runtime's by {result.worst.max_abs_error:.3g} where "
            f"{result.worst.allowed:.3g} is allowed"
        )
    return result.as_json()


def _summary(array: Array) -> dict[str, Any]:
    import numpy as np

    wide = array.astype(np.float64)
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "mean": float(wide.mean()) if array.size else 0.0,
        "std": float(wide.std()) if array.size else 0.0,
    }


def inspect(
    path: str,
    stage: str | None = None,
    diff: tuple[str, str] | None = None,
    node: str | None = None,
    why: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Inspection:
    """See ``tensoropt.inspection.inspect``; chains of derivations are replayed with the rules of this version."""
    from passes.derive.rules import RULES_BY_NAME
    from tensoropt import inspection

    return inspection.inspect(path, stage, diff, node, why, shapes, RULES_BY_NAME)


def rules() -> list[dict[str, str]]:
    """The derivation rules: name and formula of each."""
    from passes.derive.rules import RULES

    return [{"name": rule.name, "formula": (rule.__doc__ or "").strip()} for rule in RULES]


def targets() -> list[dict[str, Any]]:
    """The targets that this installation compiles for."""
    from codegen.targets.cpu import host_target

    return [{"name": "cpu", **host_target().describe()}]


def tune(
    path: str | os.PathLike[str],
    target: str = "cpu",
    *,
    trials: int | None = None,
    time_limit: float | None = None,
    db: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress = _silent,
    on_interrupt: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Tune the kernels of a model, or of an artefact folder, which is then replaced in one step by a faster one.

    What is measured goes to the tuning database (``db``, or the user's own), so that the next ``optimize`` of the model is quick
    and uses it. ``trials`` is how many variants of a kernel are measured at the most. Returns what is known of each kernel.
    ``on_interrupt`` as in ``optimize``.
    """
    from codegen.targets.cpu import host_target
    from codegen.tune.artefacts import replace_artefact, stored_target
    from codegen.tune.database import Database
    from codegen.tune.pool import Request
    from codegen.tune.tuning import TRIALS
    from passes.pipeline import plan
    from tensoropt.frontend import load_program
    from tensoropt.stored import stored_program

    _require_target(target)
    _require_limits(threads, 0, time_limit)
    deadline = None if time_limit is None else time.monotonic() + time_limit
    request = Request(trials or TRIALS["full"], deadline, thorough=True)
    source, quiet, replaced = Path(path), Quiet(), None
    with Database(db) as database:
        if source.is_dir():
            cpu, program = stored_target(source, threads), stored_program(source)
        else:
            progress("import", 0.0, "")
            cpu, imported = host_target(threads), load_program(source, dict(shapes or {}))
            context, program = _rewritten(imported, cpu, database, frozenset(), "fast", 0, time_limit, progress)
            quiet = context.quiet
        tuning = _tuned(program, cpu, database, request, quiet, progress, on_interrupt)
        if source.is_dir():
            progress("compile", 0.0, "")
            replaced = replace_artefact(source, program, plan(program), cpu, tuning).as_json()
        progress("done", 1.0, "")
        return {
            "path": str(path),
            **tuning.as_json(),
            "artefact": replaced,
            "database": {"path": str(database.path), "measurements": database.size()[0]},
            "warnings": list(database.warnings),
        }


def cache(
    clear: bool = False,
    *,
    export: str | os.PathLike[str] | None = None,
    import_from: str | os.PathLike[str] | None = None,
    db: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """What is kept on disk between runs: the folder, and entries and bytes of each kind; emptied first with ``clear``.

    ``export`` writes the tuning database to one file, ``import_from`` takes in such a file, the newer of two measurements where
    both have one. With ``db`` that tuning database is meant, and nothing else.
    """
    from codegen.tune.listing import listing
    from tensoropt import disk_cache

    result = listing(clear, export, import_from, db)
    for kind, content in disk_cache.KINDS.items() if db is None else ():
        if clear:
            disk_cache.clear(kind)
        found = disk_cache.entries(kind)
        size = sum(path.stat().st_size for path in found if path.exists())
        result["kinds"][kind] = {"content": content, "entries": len(found), "bytes": size}
    return result
