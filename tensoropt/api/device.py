"""``optimize`` for a device other than the CPU: fused and compiled as written, checked on the device itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensoropt.api.checking import check_model, export, latencies, require_agreement
from tensoropt.api.compiled import CompiledModel
from tensoropt.api.compiling import compiled_for_device
from tensoropt.check import CheckResult, random_feeds
from tensoropt.errors import UsageError
from tensoropt.pass_manager import Context, Progress
from tensoropt.timing import Clock

if TYPE_CHECKING:
    from codegen.targets.gpu import GpuTarget
    from tensoropt.frontend import LoadedModel as ImportedModel


def device_target(target: str) -> GpuTarget:
    """The device that a target's name means. UsageError where it is not there."""
    from codegen.device.opencl import find_device, target_of

    if target != "opencl":
        raise UsageError(f"the target {target!r} is not supported; `tensoropt targets` lists those that are")
    return target_of(find_device())


def optimize_for_device(
    imported: ImportedModel, gpu: GpuTarget, seed: int, check: bool, clock: Clock, progress: Progress
) -> CompiledModel:
    """A model compiled for a device and checked there. No cost is known of a device yet, so nothing is derived or tuned.

    ModelError for what is not compiled for devices, CheckError where the result differs from ONNX Runtime's.
    """
    from codegen.targets.cpu import available_threads
    from passes.derive.cost import EstimatedCosts
    from passes.pipeline import optimize, portable

    context = Context(EstimatedCosts(), frozenset({"all"}), tune="off", seed=seed, progress=progress)
    context.stages.append(("import", imported.program))
    program = optimize(imported.program, context)
    clock.lap("optimize")
    progress("compile", 0.0, "")
    built = compiled_for_device(program, gpu, lambda share, detail: progress("compile", share, detail))
    clock.lap("compile")
    progress("check", 0.0, "")
    feeds = {**random_feeds(imported.program.inputs, seed), **imported.values}
    result = CheckResult(reason="the check was switched off")
    if check:
        result = check_model(imported, program, built, feeds, seed, {})
        clock.lap("check")
        require_agreement(result, imported)
    exported, exported_latency = export(portable(context), imported, feeds, available_threads(), seed, check)
    clock.lap("export")
    latency = latencies(built, built, feeds, rewritten=False)
    clock.lap("latency")
    progress("done", 1.0, "")
    peak = built.plan.peak_bytes
    return CompiledModel(
        imported=imported,
        program=program,
        stages=tuple(context.stages),
        check=result,
        derivations=(),
        regions=(),
        searches=(),
        search={},
        latency_ms=latency,
        peak_bytes={"before": peak, "after": peak, "arena": built.signature.arena_bytes},
        seconds={**clock.seconds, **context.seconds},
        target=gpu,
        tuning={"kernels": [], "before_ms": 0.0, "after_ms": 0.0, "stopped": "", "seconds": 0.0},
        memory={},
        notices=(),
        _built=built,
        _exported=exported,
        _exported_latency=exported_latency,
    )
