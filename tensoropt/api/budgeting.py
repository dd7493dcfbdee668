"""A program within a memory budget: planned with the kernels that it will run, and rewritten to what the plan says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

from tensoropt.allocation import ALIGNMENT, Placement
from tensoropt.api.compiling import variants_of
from tensoropt.api.planning import SECONDS, document
from tensoropt.api.shrinking import Shrinking
from tensoropt.budget import parse_budget
from tensoropt.errors import NoPlanError
from tensoropt.ir.program import Program
from tensoropt.paging import bytes_per_unit, paged
from tensoropt.pass_manager import Progress
from tensoropt.plan_types import Problem
from tensoropt.quiet import Quiet

if TYPE_CHECKING:
    from codegen.targets.cpu import CpuTarget
    from codegen.tune.database import Database
    from codegen.tune.tuned import Tuning
    from passes.plan.storage import Storage


_LEAST_SECONDS = 1.0
"""Of planning, however little time is left."""

WORTH_REORDERING = 0.02
"""The share of a run that another order has to save: kernels that find their operands in the cache are faster by about as much."""

ROUNDS = 8
"""Of statements computed otherwise, at the most; each of the later ones follows a plan that was not found."""

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
    paging: str | None,
    deadline: float | None,
    seed: int,
    quiet: Quiet,
    progress: Progress,
) -> Budgeted:
    """The program with the order, recomputation and offsets that keep its arena within a budget; outputs are the caller's.

    Where one statement's working set alone is more, its chain is computed in slabs.

    ``memory_budget`` is bytes, or text such as ``512MiB`` or ``80%``: of the peak in the program's order. With ``paging`` (a rate,
    or ``target``) values may also be copied to the host and back. ``deadline`` is a value of time.monotonic(). NoPlanError where
    no plan is found, with the smallest budget that is known to fit.
    """
    from passes.plan.auto import Settings, plan
    from passes.plan.realise import realised

    def state(changed: Program, pieces: frozenset[str] = frozenset()) -> _Stated:
        return _stated(changed, program, cpu, database, tuning, paging, quiet, progress, pieces)

    stated = state(program)
    peak = stated.in_order.peak_bytes + stated.reserved
    budget = memory_budget if isinstance(memory_budget, int) else parse_budget(memory_budget, peak)
    cut: list[str] = []
    inlined: list[str] = []
    rounds = 0
    while True:
        # the order of the program first: what is used soon after it is made is still in the cache, which durations do not tell
        settings = Settings(
            budget - stated.reserved, order="input", seconds=_seconds(deadline) / 2, seed=seed, workers=cpu.threads
        )
        if stated.in_order.arena_bytes + stated.reserved <= budget:
            return stated.as_it_is(budget, peak, cut, inlined)
        rounds += 1
        available = budget - stated.reserved
        less = stated.shrinking.within(available, WORTH_REORDERING) if rounds <= ROUNDS else None
        if less is None:
            found = plan(stated.problem, settings, progress)
            if found.plan is None or found.plan.duration > stated.problem.duration * (1 + WORTH_REORDERING):
                free = replace(settings, order="free")
                reordered = plan(stated.problem, free, progress)
                if reordered.plan is not None and (
                    found.plan is None
                    or reordered.plan.duration < found.plan.duration - stated.problem.duration * WORTH_REORDERING
                ):
                    settings, found = free, reordered
            less = None
            if found.plan is None and rounds <= ROUNDS:
                less = stated.shrinking.within(available, inf) or stated.shrinking.easily(available, WORTH_REORDERING)
            if less is None:
                break
        cut += less.cut
        inlined += less.inlined
        stated = state(less.program, less.pieces)
    problem, reserved = stated.problem, stated.reserved
    if found.plan is None:
        smallest = min(found.smallest.arena_bytes, stated.in_order.arena_bytes) + reserved
        raise NoPlanError(
            f"{program.name}: no plan within {budget} bytes ({found.status}: {found.reason}); "
            f"{smallest} bytes is the smallest budget that is known to fit",
            budget,
            smallest,
        )
    result = realised(stated.program, problem, found.plan, stated.storage)
    variants = {
        name: stated.variants[original] for name, original in result.originals.items() if original in stated.variants
    }
    told = document(problem, settings.model, budget, settings.order, found)
    report = {key: entry for key, entry in told.items() if key not in _AS_IT_RUNS}
    report |= {key: told[key] + reserved for key in ("peak_bytes", "arena_bytes", "smallest_known_bytes")}
    report |= {key: told[key] + reserved for key in ("peak_bytes_baseline", "arena_bytes_baseline")}
    report |= {"peak_bytes_whole": peak, "in_slabs": cut, "inlined_operands": inlined}
    return Budgeted(result.program, result.placement, variants, report, result.originals)


def _seconds(deadline: float | None) -> float:
    """For planning."""
    return SECONDS if deadline is None else min(SECONDS, max(_LEAST_SECONDS, deadline - time.monotonic()))


@dataclass(frozen=True, slots=True)
class _Stated:
    """A program as a planning problem of what a run allocates, ``reserved`` bytes apart, and as it is placed in its own order."""

    program: Program
    storage: Storage
    problem: Problem
    in_order: Placement
    variants: Mapping[str, Any]
    reserved: int
    shrinking: Shrinking

    def as_it_is(self, budget: int, peak: int, cut: list[str], inlined: list[str]) -> Budgeted:
        """The program in its order, which is within the budget."""
        arena = self.in_order.arena_bytes + self.reserved
        report = {
            "steps": len(self.problem.steps),
            "memory_model": "packed",
            "order": "input",
            "status": "optimal",
            "reason": "",
            "budget_bytes": budget,
            "peak_bytes": self.in_order.peak_bytes + self.reserved,
            "arena_bytes": arena,
            "peak_bytes_baseline": self.in_order.peak_bytes + self.reserved,
            "arena_bytes_baseline": arena,
            "smallest_known_bytes": arena,
            "duration": self.problem.duration,
            "duration_increase_percent": 0.0,
            "recomputed": 0,
            "fetched": 0,
            "peak_bytes_whole": peak,
            "in_slabs": cut,
            "inlined_operands": inlined,
        }
        return Budgeted(self.program, self.in_order, self.variants, report, {})


def _stated(
    program: Program,
    tuned: Program,
    cpu: CpuTarget,
    database: Database,
    tuning: Tuning,
    paging: str | None,
    quiet: Quiet,
    progress: Progress,
    pieces: frozenset[str],
) -> _Stated:
    """The problem with the kernels that will run: their measured durations and their workspaces; with paging transfers too.

    ``tuned`` is the program whose kernels were tuned. The planner has a whole from its first part on: parts are joined where that
    makes no working set larger, and with paging not at all, since they could not be fetched by themselves.
    """
    from codegen.build import lowered, workspaces_of
    from codegen.tune.records import Records
    from codegen.tune.worker import MeasuredCost
    from passes.pipeline import plan as placed_in_order
    from passes.plan.bounds.working_sets import needs
    from passes.plan.lifetimes import joined_storage
    from passes.plan.of_program import problem_of
    from passes.plan.realise import in_arena
    from passes.plan.storage import storage_of

    variants = variants_of(program, tuned, tuning.variants)
    joined = joined_storage(program)
    steps = lowered(program, joined.idle, cpu, variants=variants, strides=joined.strides)
    in_order = placed_in_order(program, workspaces_of(steps), joined)
    optional = {whole for whole in storage_of(program, ()).parts.values() if whole not in pieces}
    choices = []
    with MeasuredCost(cpu, quiet=quiet, records=Records(database, cpu)) as costs:
        for storage in [joined, storage_of(program, optional)] if paging is None else [storage_of(program)]:
            made = problem_of(program, costs, storage, lambda share, detail: progress("measure", share, detail))
            kernels = workspaces_of(
                steps
                if storage is joined
                else lowered(program, storage.idle, cpu, variants=variants, strides=storage.strides)
            )
            choices.append((storage, in_arena(_as_tuned(made, kernels, tuning, variants))))
    storage, problem = min(choices, key=lambda choice: max(needs(choice[1]), default=0))
    if paging is not None:
        problem = paged(problem, bytes_per_unit(paging, True, cpu.host_bytes_per_second))
    reserved = ALIGNMENT if any(step.shared.kernel.checked for step in steps) else 0
    shrinking = Shrinking(program, problem, workspaces_of(steps), pieces)
    return _Stated(program, storage, problem, in_order, variants, reserved, shrinking)


def _as_tuned(problem: Problem, workspaces: Mapping[str, int], tuning: Tuning, variants: Mapping[str, Any]) -> Problem:
    """The problem with the workspaces of the kernels that will run, and the durations that tuning measured of their variants."""
    seconds = {
        statement.outputs[0].name: tuned.best_seconds
        for tuned in tuning.kernels
        for statement in tuned.kernel.uses
        if statement.outputs[0].name in variants
    }
    steps = []
    for step in problem.steps:
        known = seconds.get(step.name)
        duration = step.duration if known is None else round(known * 1e9)
        steps.append(replace(step, duration=duration, workspace=workspaces.get(step.name, 0)))
    return replace(problem, steps=tuple(steps)).check()
