"""``plan``: recomputation, order and offsets of a model or a graph under a memory budget."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoropt.api.requirements import require_planning
from tensoropt.budget import parse_budget
from tensoropt.paging import bytes_per_unit, paged, require_rate
from tensoropt.pass_manager import Context, Progress, silent
from tensoropt.plan_types import MemoryModel, Order, Problem

if TYPE_CHECKING:
    from passes.plan.auto import Planned

_MOST_PERCENT = Fraction(10**300)

SECONDS = 60.0
"""Of planning, where no limit is given."""


def plan(
    source: str | os.PathLike[str] | Problem,
    memory_budget: str | int,
    *,
    memory_model: MemoryModel = "packed",
    order: Order = "free",
    paging: str | None = None,
    time_limit: float | None = None,
    work_limit: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Plan an ONNX model, a JSON graph or a `Problem`; the object that ``tensoropt plan --json`` prints.

    ``memory_budget`` is bytes or text such as ``512MiB`` or ``80%``. ``paging`` is the rate at which values may be copied to the
    host and back instead of being recomputed: ``25GB/s`` or ``target`` for a model, bytes for each unit of its durations for a
    graph. With a ``work_limit`` (moves of the search) that is reached before ``time_limit`` (seconds, 60 by default), the same seed
    gives the same plan. ModelError for an unusable source.
    """
    from codegen.targets.cpu import available_threads
    from passes.plan.auto import Settings
    from passes.plan.auto import plan as planned
    from passes.plan.trace import trace

    require_planning(memory_budget, memory_model, order, threads, seed, time_limit)
    if isinstance(source, Problem):
        problem = source if paging is None else paged(source, bytes_per_unit(paging, False, 0.0))
    else:
        problem = problem_of_source(source, shapes, threads, progress, paging)
    peak = trace(problem, range(len(problem.steps))).peak()
    budget = memory_budget if isinstance(memory_budget, int) else parse_budget(memory_budget, peak)
    settings = Settings(
        budget, memory_model, order, SECONDS if time_limit is None else time_limit, work_limit, seed,
        threads or available_threads(),
    )  # fmt: skip
    return document(problem, settings.model, budget, order, planned(problem, settings, progress))


def problem_of_source(
    source: str | os.PathLike[str],
    shapes: Mapping[str, Sequence[int]] | None,
    threads: int | None,
    progress: Progress,
    paging: str | None = None,
) -> Problem:
    """The planning problem of a JSON graph, or of a model's kernels without rewriting, each measured once."""
    from tensoropt.problem_files import read_problem

    timed = not _is_json(Path(source))
    if paging is not None:
        require_rate(paging, timed)
    if not timed:
        return read_problem(source, None if paging is None else bytes_per_unit(paging, timed, 0.0))
    from codegen.targets.cpu import host_target
    from codegen.tune.database import Database
    from codegen.tune.records import Records
    from codegen.tune.worker import MeasuredCost
    from passes.pipeline import compile_as_written
    from passes.plan.lifetimes import joined_storage
    from passes.plan.of_program import problem_of
    from passes.plan.storage import storage_of
    from tensoropt.frontend import load_program

    progress("import", 0.0, "")
    imported = load_program(source, dict(shapes or {}))
    cpu = host_target(threads)
    with Database(None) as database, MeasuredCost(cpu, records=Records(database, cpu)) as costs:
        program = compile_as_written(imported.program, Context(costs, progress=progress))
        # parts of a whole cannot be fetched by themselves
        storage = joined_storage(program) if paging is None else storage_of(program)
        problem = problem_of(program, costs, storage, lambda share, detail: progress("measure", share, detail))
    return problem if paging is None else paged(problem, bytes_per_unit(paging, timed, cpu.host_bytes_per_second))


def _is_json(path: Path) -> bool:
    if path.suffix.lower() == ".json":
        return True
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip()[:1] == b"{"
    except OSError:
        return False


def document(problem: Problem, model: MemoryModel, budget: int, order: Order, found: Planned) -> dict[str, Any]:
    """What is told of a plan: the object of ``plan --json``."""
    once = problem.duration
    made = found.plan
    valid = [bound for bound in found.bounds if bound.holds_for == "any order" or order == "input"]
    best = max(valid, key=lambda bound: bound.duration, default=None)
    told: dict[str, Any] = {
        "name": problem.name,
        "steps": len(problem.steps),
        "memory_model": model,
        "order": order,
        "status": found.status,
        "reason": found.reason,
        "budget_bytes": budget,
        "peak_bytes_baseline": found.baseline.peak_bytes,
        "arena_bytes_baseline": found.baseline.arena_bytes,
        "smallest_known_bytes": found.smallest.used_bytes(model),
        "lower_bound_percent": None if best is None else _percent(best.duration, once),
        "lower_bound_holds_for": None if best is None else best.holds_for,
        "bounds": [
            {"percent": _percent(bound.duration, once), "method": bound.method, "holds_for": bound.holds_for}
            for bound in found.bounds
        ],
        "solve_seconds": round(found.seconds, 3),
        "history": [{"seconds": round(at, 3), "percent": _percent(duration, once)} for at, duration in found.history],
        "aliases": dict(problem.aliases),
    }
    if made is None:
        return told | {"peak_bytes": None, "arena_bytes": None, "duration_increase_percent": None, "sequence": None}
    return told | {
        "peak_bytes": made.peak_bytes,
        "arena_bytes": made.arena_bytes,
        "fragmentation_percent": round(100 * (made.arena_bytes / made.peak_bytes - 1), 4) if made.peak_bytes else 0.0,
        "duration": made.duration,
        "duration_increase_percent": _percent(made.duration, once),
        "recomputed": sum(action < len(problem.steps) for action in made.sequence) - len(problem.steps),
        "fetched": sum(action >= len(problem.steps) for action in made.sequence),
        "sequence": [problem.actions[step].name for step in made.sequence],
        "workspaces": [
            offset if problem.actions[step].workspace else None
            for step, offset in zip(made.sequence, made.workspaces, strict=True)
        ],
        "offsets": [
            _offsets(problem, step, offsets) for step, offsets in zip(made.sequence, made.offsets, strict=True)
        ],
    }


def _offsets(problem: Problem, step: int, offsets: tuple[int, ...]) -> int | list[int] | None:
    if not problem.actions[step].writes:
        return None
    return offsets[0] if len(offsets) == 1 else list(offsets)


def _percent(duration: int, once: int) -> float:
    """How much longer than every step once; 0 where that takes no time. JSON has no number above ``_MOST_PERCENT``."""
    return round(float(min(Fraction(100 * (duration - once), once), _MOST_PERCENT)), 4) if once else 0.0
