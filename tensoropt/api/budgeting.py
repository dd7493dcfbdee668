"""A program within a memory budget: planned with the kernels that it will run, and rewritten to what the plan says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tensoropt.allocation import ALIGNMENT, Placement
from tensoropt.api.planning import SECONDS, document
from tensoropt.budget import parse_budget
from tensoropt.errors import NoPlanError
from tensoropt.ir.program import Program
from tensoropt.pass_manager import Progress
from tensoropt.plan_types import Problem
from tensoropt.quiet import Quiet

if TYPE_CHECKING:
    from codegen.targets.cpu import CpuTarget
    from codegen.tune.database import Database
    from codegen.tune.tuned import Tuning


_LEAST_SECONDS = 1.0
"""Of planning, however little time is left."""

_AS_IT_RUNS = ("name", "sequence", "offsets", "workspaces", "aliases", "history")
"""Of a plan, what the program of the artefact says."""


@dataclass(frozen=True, slots=True)
class Budgeted:
    """The program as it runs, where its values lie, the variants of its kernels, and what ``optimize --json`` tells of the plan.

    Without a ``placement`` it is placed in its order when its kernels are known.
    """

    program: Program
    placement: Placement | None
    variants: Mapping[str, Any]
    report: dict[str, Any]
    originals: Mapping[str, str]
    """The name that each value has in the program before, by its name here."""


def within_budget(
    program: Program,
    cpu: CpuTarget,
    database: Database,
    tuning: Tuning,
    memory_budget: str | int,
    deadline: float | None,
    seed: int,
    quiet: Quiet,
    progress: Progress,
) -> Budgeted:
    """The program with the order, recomputation and offsets that keep its arena within a budget; outputs are the caller's.

    ``memory_budget`` is bytes, or text such as ``512MiB`` or ``80%``: of the peak in the program's order. ``deadline`` is a value
    of time.monotonic(). NoPlanError where no plan is found, with the smallest budget that is known to fit.
    """
    from codegen.build import lowered, workspaces_of
    from codegen.tune.records import Records
    from codegen.tune.worker import MeasuredCost
    from passes.plan.auto import Settings, plan
    from passes.plan.lifetimes import joined_storage
    from passes.plan.of_program import problem_of
    from passes.plan.realise import in_arena, realised
    from passes.plan.trace import trace

    storage = joined_storage(program)
    steps = lowered(program, storage.idle, cpu, variants=tuning.variants)
    with MeasuredCost(cpu, quiet=quiet, records=Records(database, cpu)) as costs:
        made = problem_of(program, costs, storage, lambda share, detail: progress("measure", share, detail))
    problem = in_arena(_as_tuned(made, workspaces_of(steps), tuning))
    reserved = ALIGNMENT if any(step.shared.kernel.checked for step in steps) else 0
    peak = trace(problem, range(len(problem.steps))).peak() + reserved
    budget = memory_budget if isinstance(memory_budget, int) else parse_budget(memory_budget, peak)
    seconds = SECONDS if deadline is None else min(SECONDS, max(_LEAST_SECONDS, deadline - time.monotonic()))
    settings = Settings(budget - reserved, seconds=seconds, seed=seed, workers=cpu.threads)
    found = plan(problem, settings, progress)
    if found.plan is None:
        smallest = found.smallest.arena_bytes + reserved
        raise NoPlanError(
            f"{program.name}: no plan within {budget} bytes ({found.status}: {found.reason}); "
            f"{smallest} bytes is the smallest budget that is known to fit",
            smallest,
        )
    result = realised(program, problem, found.plan, storage)
    variants = {
        name: tuning.variants[original] for name, original in result.originals.items() if original in tuning.variants
    }
    told = document(problem, settings.model, budget, settings.order, found)
    report = {key: entry for key, entry in told.items() if key not in _AS_IT_RUNS}
    report |= {key: told[key] + reserved for key in ("peak_bytes", "arena_bytes", "smallest_known_bytes")}
    report |= {key: told[key] + reserved for key in ("peak_bytes_baseline", "arena_bytes_baseline")}
    return Budgeted(result.program, result.placement, variants, report, result.originals)


def _as_tuned(problem: Problem, workspaces: Mapping[str, int], tuning: Tuning) -> Problem:
    """The problem with the workspaces of the kernels that will run, and the durations that tuning measured."""
    seconds = {
        statement.outputs[0].name: tuned.best_seconds for tuned in tuning.kernels for statement in tuned.kernel.uses
    }
    steps = []
    for step in problem.steps:
        known = seconds.get(step.name)
        duration = step.duration if known is None else round(known * 1e9)
        steps.append(replace(step, duration=duration, workspace=workspaces.get(step.name, 0)))
    return replace(problem, steps=tuple(steps)).check()
