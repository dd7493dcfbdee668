"""``optimize``: read, rewrite, tune, compile and check a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tensoropt.api.asking import rules
from tensoropt.api.budgeting import Budgeted, within_budget
from tensoropt.api.checking import check_model, export, latencies, require_agreement
from tensoropt.api.compiled import CompiledModel
from tensoropt.api.compiling import compiled, variants_of
from tensoropt.api.device import optimize_for_device
from tensoropt.api.measuring import tuned
from tensoropt.api.requirements import (
    require_budget,
    require_device_options,
    require_libraries,
    require_limits,
    require_target,
)
from tensoropt.api.training import load_training
from tensoropt.check import CheckResult, random_feeds
from tensoropt.errors import ModelError, UsageError
from tensoropt.ir.program import Program
from tensoropt.paging import require_rate
from tensoropt.pass_manager import Context, Progress, silent
from tensoropt.quiet import Quiet
from tensoropt.timing import Clock

if TYPE_CHECKING:
    from codegen.targets.cpu import CpuTarget
    from codegen.tune.database import Database
    from codegen.tune.records import Records
    from codegen.tune.session import Session
    from tensoropt.frontend import LoadedModel as ImportedModel


def optimize(
    model: Any,
    target: str = "cpu",
    *,
    memory_budget: str | int | None = None,
    paging: str | None = None,
    training: str | None = None,
    tf32: bool = False,
    tune: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    exclude_rules: Iterable[str] = (),
    threads: int | None = None,
    time_limit: float | None = None,
    db: str | os.PathLike[str] | None = None,
    seed: int = 0,
    check: bool = True,
    libraries: str = "auto",
    progress: Progress = silent,
    on_interrupt: Callable[[], None] | None = None,
) -> CompiledModel:
    """Read, rewrite, compile and check a model.

    ``model`` is a path, bytes, a ``ModelProto`` or an ``onnx_ir.Model``; ``shapes`` binds dynamic dimensions by input name;
    ``exclude_rules`` names derivation rules that are not used ("all" rewrites nothing); ``tune`` is off, fast (where it is None) or
    full; ``db`` is a tuning database other than the user's own. With a ``memory_budget`` (bytes, ``512MiB``, or ``80%`` of the peak
    in the model's order) a run's arena is no larger: values are ordered, and computed again, as the planner says, and with
    ``paging`` (a rate such as ``25GB/s``, or ``target``) copied to the host and back. With ``training``, the name of an output of
    one number, the model's weights become inputs and the derivatives of that loss by them (``NAME.grad``) further outputs. With
    ``tf32`` a GPU's tensor cores multiply f32, whose operands they round to 11 digits. On a GPU that is here, kernels may call
    vendors' ``libraries`` where these are measured to be faster (auto), or none may. Where
    ``on_interrupt`` is given, the first interrupt while kernels are tuned calls it and ends tuning, and the best so far is used.
    UsageError for options that mean nothing for the target, ModelError for a model that cannot be used, NoPlanError for a budget
    that no plan was found for, CheckError where the result differs from ONNX Runtime's.
    """
    from codegen.targets.cpu import host_target
    from codegen.tune.database import Database
    from codegen.tune.records import Records
    from codegen.tune.tuning import requested
    from passes.pipeline import compile_as_written, portable
    from tensoropt.frontend import load_program

    excluded = frozenset([exclude_rules] if isinstance(exclude_rules, str) else exclude_rules)
    gpu = require_target(target, tf32)
    if gpu is not None:
        require_device_options(gpu, target, memory_budget=memory_budget, excluded=excluded, threads=threads, db=db)
    tune = tune or "fast"
    if tune not in ("off", "fast", "full"):
        raise UsageError(f"--tune is off, fast or full, not {tune!r}")
    unknown = excluded - {"all", *(entry["name"] for entry in rules())}
    if unknown:
        raise UsageError(f"no rule is called {sorted(unknown)[0]!r}; `tensoropt rules` lists them")
    require_limits(threads, seed, time_limit)
    require_libraries(libraries)
    if memory_budget is not None:
        require_budget(memory_budget)
    if paging is not None:
        require_rate(paging, True)
        if memory_budget is None:
            raise UsageError("--paging is for a plan within a --memory-budget, and none is given")

    def again(rules: frozenset[str], budget: int | None) -> CompiledModel:
        return optimize(
            model, target, memory_budget=memory_budget if budget is None else budget, paging=paging, training=training, tf32=tf32,
            tune=tune, shapes=shapes, exclude_rules=rules, threads=threads, time_limit=time_limit, db=db, seed=seed, check=check,
            libraries=libraries, progress=progress, on_interrupt=on_interrupt,
        )  # fmt: skip

    clock = Clock()
    with Database(db) as database:
        progress("import", 0.0, "")
        bound = dict(shapes or {})
        imported = load_program(model, bound) if training is None else load_training(model, bound, training)
        clock.lap("import")
        if not imported.program.outputs:
            raise ModelError(
                f"{imported.path or 'the model'} has no outputs, so there is nothing to compute; declare at least one"
            )
        if gpu is not None:
            return optimize_for_device(
                imported,
                gpu,
                database,
                excluded,
                tune,
                seed,
                time_limit,
                check,
                libraries,
                clock,
                progress,
                on_interrupt,
            )
        cpu = host_target(threads)
        context, program = rewritten(imported, cpu, database, excluded, tune, seed, time_limit, progress)
        clock.lap("optimize")
        effort = "off" if context.time_is_up() else tune
        request = requested(effort, context.deadline())
        tuning = tuned(program, Records(database, cpu), request, context.quiet, progress, on_interrupt)
        clock.lap("tune")
        runs = Budgeted(program, None, tuning.variants, {}, {})
        if memory_budget is not None:
            runs = within_budget(
                program,
                portable(context),
                cpu,
                database,
                tuning,
                memory_budget,
                paging,
                context.deadline(),
                seed,
                context.quiet,
                progress,
            )
            clock.lap("plan")
        notices = (*database.warnings, *tuning.warnings)
    progress("compile", 0.0, "")

    def compiling(share: float, detail: str) -> None:
        progress("compile", share, detail)

    whole, program = program, runs.program
    built = compiled(program, cpu, runs.variants, runs.placement, compiling)
    clock.lap("compile")
    changed = bool(runs.report) or any(entry["kept"] for entry in context.derivations)
    before = built
    if changed:
        as_written = compile_as_written(imported.program, Context(context.cost_model))
        before = compiled(as_written, cpu, variants_of(as_written, whole, tuning.variants))
        clock.lap("compile as written")
    progress("check", 0.0, "")
    feeds = {**random_feeds(imported.program.inputs, seed), **imported.values}
    result = CheckResult(reason="the check was switched off")
    if check:
        result = check_model(imported, program, built, feeds, seed, runs.originals)
        clock.lap("check")
        if not result.ok and context.written_as:
            worst = result.worst
            assert worst is not None
            reason = f"{worst.name} differed from ONNX Runtime's by {worst.max_abs_error:.3g} where {worst.allowed:.3g} is allowed"
            return _without_products_at_points(context, again, reason, runs.report.get("budget_bytes"))
        require_agreement(result, imported)
    exported, exported_latency = export(portable(context), imported, feeds, cpu.threads, seed, check)
    clock.lap("export")
    latency = latencies(before, built, feeds, changed)
    clock.lap("latency")
    progress("done", 1.0, "")
    return CompiledModel(
        imported=imported,
        program=program,
        stages=(*context.stages, *([("plan", program)] if runs.report else [])),
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
            "arena": built.signature.arena_bytes - built.plan.host_bytes,
        },
        seconds={**clock.seconds, **context.seconds},
        target=cpu,
        tuning=tuning.as_json(),
        memory=runs.report,
        notices=notices,
        unplanned=runs.unplanned,
        _built=built,
        _exported=exported,
        _exported_latency=exported_latency,
    )


def _without_products_at_points(
    context: Context,
    again: Callable[[frozenset[str], int | None], CompiledModel],
    reason: str,
    budget: int | None,
) -> CompiledModel:
    """The model compiled once more without the rule whose rounding and memory are larger than those of the sums it replaces.

    ``budget``: that of the first attempt in bytes, since a share would be one of another peak now.
    """
    found = again(context.excluded_rules | {"winograd"}, budget)
    found.notices += (f"convolutions are computed as written, without products at points (winograd): {reason}",)
    return found


def rewritten(
    imported: ImportedModel,
    cpu: CpuTarget,
    database: Database,
    excluded: frozenset[str],
    tune: str,
    seed: int,
    time_limit: float | None,
    progress: Progress,
    elsewhere: Session | None = None,
    records: Records | None = None,
) -> tuple[Context, Program]:
    """The program of kernels, and what is known of how it came about.

    What is compared is measured by the session ``elsewhere``, and its times kept in its ``records``, where these are given.
    """
    from codegen.targets.cpu import available_threads
    from codegen.tune.records import Records
    from codegen.tune.worker import MeasuredCost
    from passes.pipeline import optimize as optimize_program

    quiet = Quiet()
    with MeasuredCost(cpu, quiet=quiet, records=records or Records(database, cpu), session=elsewhere) as cost_model:
        workers = available_threads() if elsewhere else min(cpu.threads, available_threads())
        context = Context(cost_model, excluded, tune, seed, time_limit, progress, workers, quiet)
        context.stages.append(("import", imported.program))
        return context, optimize_program(imported.program, context)
