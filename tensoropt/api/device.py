"""``optimize`` for a device other than the CPU, which need not be here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tensoropt.api.checking import check_model, export, latencies, require_agreement
from tensoropt.api.compiled import CompiledModel
from tensoropt.api.compiling import compiled, compiled_for_device, variants_of
from tensoropt.api.measuring import libraries_here, tuned
from tensoropt.check import CheckResult, random_feeds
from tensoropt.ir.expression import Scope
from tensoropt.ir.program import Program
from tensoropt.pass_manager import Context, Progress
from tensoropt.quiet import Quiet
from tensoropt.timing import Clock

if TYPE_CHECKING:
    from codegen.built import Built
    from codegen.targets.gpu import GpuTarget
    from codegen.tune.database import Database
    from tensoropt.frontend import LoadedModel as ImportedModel


def optimize_for_device(
    imported: ImportedModel,
    gpu: GpuTarget,
    database: Database,
    excluded: frozenset[str],
    tune: str,
    seed: int,
    time_limit: float | None,
    check: bool,
    libraries: str,
    clock: Clock,
    progress: Progress,
    on_interrupt: Callable[[], None] | None,
) -> CompiledModel:
    """A model compiled for a device, and checked there where it is here; otherwise its program is checked on the CPU.

    What is derived for CUDA is chosen by the GPU's data. No cost is known of other devices, so nothing is derived for them. Kernels
    are tuned where the device is here; ``libraries`` is auto, where they may call those that are faster, or none.
    ModelError for what is not compiled for devices, CheckError where the result differs from ONNX Runtime's.
    """
    from codegen.targets.cpu import available_threads, host_target
    from codegen.targets.here import why_not_here
    from codegen.tune.records import Records
    from codegen.tune.tuned import Tuning
    from codegen.tune.tuning import requested
    from passes.pipeline import compile_as_written, device_kernels, portable

    absent = why_not_here([gpu])[gpu.name]
    context, program = rewritten_for_device(imported, gpu, excluded, tune, seed, time_limit, progress)
    clock.lap("optimize")
    tuning = Tuning()
    if not absent:
        request = requested("off" if context.time_is_up() else tune, context.deadline())
        known = libraries_here(gpu, libraries)
        tuning = tuned(program, Records(database, gpu), request, Quiet(), progress, on_interrupt, libraries=known)
        clock.lap("tune")
    progress("compile", 0.0, "")
    built = compiled_for_device(program, gpu, lambda share, detail: progress("compile", share, detail), tuning.variants)
    clock.lap("compile")
    before = built
    changed = not absent and any(entry["kept"] for entry in context.derivations)
    if changed:
        kernels = device_kernels(_in_one_launch(gpu))
        as_written = compile_as_written(imported.program, Context(context.cost_model), kernels)
        before = compiled_for_device(as_written, gpu, variants=variants_of(as_written, program, tuning.variants))
        clock.lap("compile as written")
    progress("check", 0.0, "")
    feeds = {**random_feeds(imported.program.inputs, seed), **imported.values}
    result = CheckResult(reason="the check was switched off")
    if check:
        runs: Built = compiled(program, host_target(), {}) if absent else built
        result = check_model(imported, program, runs, feeds, seed, {}, 0.0 if absent else gpu.operand_roundoff)
        clock.lap("check")
        require_agreement(result, imported)
    exported, exported_latency = export(portable(context), imported, feeds, available_threads(), seed, check)
    clock.lap("export")
    latency: dict[str, float | None] = {"before": None, "after": None}
    if not absent:
        latency = latencies(before, built, feeds, changed)
        clock.lap("latency")
    progress("done", 1.0, "")
    unrun = f"the kernels for {gpu.name} have not run here ({absent}); the program was checked on the CPU"
    return CompiledModel(
        imported=imported,
        program=program,
        stages=tuple(context.stages),
        check=result,
        derivations=tuple(context.derivations),
        regions=tuple(context.regions),
        searches=tuple(context.searches),
        joins=tuple(context.joins),
        search=context.search,
        latency_ms=latency,
        peak_bytes={
            "before": before.plan.peak_bytes,
            "after": built.plan.peak_bytes,
            "arena": built.signature.arena_bytes,
        },
        seconds={**clock.seconds, **context.seconds},
        target=gpu,
        tuning=tuning.as_json(),
        memory={},
        notices=(*database.warnings, *tuning.warnings, *([unrun] if absent else [])),
        unplanned=None,
        libraries=libraries,
        _built=built,
        _exported=exported,
        _exported_latency=exported_latency,
    )


def rewritten_for_device(
    imported: ImportedModel,
    gpu: GpuTarget,
    excluded: frozenset[str],
    tune: str,
    seed: int,
    time_limit: float | None,
    progress: Progress,
) -> tuple[Context, Program]:
    """The program of kernels for a device, and what is known of how it came about."""
    from passes.pipeline import device_kernels, joined_first, optimize

    context = _context(gpu, excluded, tune, seed, time_limit, progress)
    context.stages.append(("import", imported.program))
    attends = _in_one_launch(gpu)
    return context, optimize(imported.program, context, device_kernels(attends), joined_first(attends))


def _in_one_launch(gpu: GpuTarget) -> Callable[[Scope], bool]:
    """Whether a device computes a kernel of several contractions in one launch."""
    from codegen.schedules.gpu.attention.geometry import fits

    return lambda expression: fits(expression, gpu)


def _context(
    gpu: GpuTarget, excluded: frozenset[str], tune: str, seed: int, time_limit: float | None, progress: Progress
) -> Context:
    from codegen.roofline.costs import RooflineCost
    from codegen.targets.cpu import available_threads
    from passes.derive.cost import EstimatedCosts

    if gpu.kind != "cuda":
        return Context(EstimatedCosts(), frozenset({"all"}), "off", seed, time_limit, progress)
    without = excluded | {"winograd"}  # its kernels are written for CPUs
    return Context(RooflineCost(gpu), without, tune, seed, time_limit, progress, available_threads())
