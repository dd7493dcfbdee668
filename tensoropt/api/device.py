"""``optimize`` for a device other than the CPU, which need not be here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensoropt.api.checking import check_model, export, latencies, require_agreement
from tensoropt.api.compiled import CompiledModel
from tensoropt.api.compiling import compiled, compiled_for_device
from tensoropt.check import CheckResult, random_feeds
from tensoropt.pass_manager import Context, Progress
from tensoropt.timing import Clock

if TYPE_CHECKING:
    from codegen.built import Built
    from codegen.targets.gpu import GpuTarget
    from tensoropt.frontend import LoadedModel as ImportedModel


def optimize_for_device(
    imported: ImportedModel,
    gpu: GpuTarget,
    excluded: frozenset[str],
    tune: str,
    seed: int,
    time_limit: float | None,
    check: bool,
    clock: Clock,
    progress: Progress,
) -> CompiledModel:
    """A model compiled for a device, and checked there where it is here; otherwise its program is checked on the CPU.

    What is derived for CUDA is chosen by the GPU's data. No cost is known of other devices, so nothing is derived for them.
    ModelError for what is not compiled for devices, CheckError where the result differs from ONNX Runtime's.
    """
    from codegen.schedules.gpu.attention.geometry import fits
    from codegen.targets.cpu import available_threads, host_target
    from codegen.targets.here import why_not_here
    from passes.pipeline import device_kernels, optimize, portable

    absent = why_not_here([gpu])[gpu.name]
    context = _context(gpu, excluded, tune, seed, time_limit, progress)
    context.stages.append(("import", imported.program))
    program = optimize(imported.program, context, device_kernels(lambda expression: fits(expression, gpu)))
    clock.lap("optimize")
    progress("compile", 0.0, "")
    built = compiled_for_device(program, gpu, lambda share, detail: progress("compile", share, detail))
    clock.lap("compile")
    progress("check", 0.0, "")
    feeds = {**random_feeds(imported.program.inputs, seed), **imported.values}
    result = CheckResult(reason="the check was switched off")
    if check:
        runs: Built = compiled(program, host_target(), {}) if absent else built
        result = check_model(imported, program, runs, feeds, seed, {})
        clock.lap("check")
        require_agreement(result, imported)
    exported, exported_latency = export(portable(context), imported, feeds, available_threads(), seed, check)
    clock.lap("export")
    latency: dict[str, float | None] = {"before": None, "after": None}
    if not absent:
        latency = latencies(built, built, feeds, rewritten=False)
        clock.lap("latency")
    progress("done", 1.0, "")
    peak = built.plan.peak_bytes
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
        peak_bytes={"before": peak, "after": peak, "arena": built.signature.arena_bytes},
        seconds={**clock.seconds, **context.seconds},
        target=gpu,
        tuning={"kernels": [], "before_ms": 0.0, "after_ms": 0.0, "stopped": "", "seconds": 0.0},
        memory={},
        notices=(f"the kernels for {gpu.name} have not run here ({absent}); the program was checked on the CPU",)
        if absent
        else (),
        unplanned=None,
        _built=built,
        _exported=exported,
        _exported_latency=exported_latency,
    )


def _context(
    gpu: GpuTarget, excluded: frozenset[str], tune: str, seed: int, time_limit: float | None, progress: Progress
) -> Context:
    from codegen.roofline.costs import RooflineCost
    from codegen.targets.cpu import available_threads
    from passes.derive.cost import EstimatedCosts

    if gpu.kind != "cuda":
        return Context(EstimatedCosts(), frozenset({"all"}), tune="off", seed=seed, progress=progress)
    without = excluded | {"winograd"}  # its kernels are written for CPUs
    return Context(RooflineCost(gpu), without, tune, seed, time_limit, progress, available_threads())
