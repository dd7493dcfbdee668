"""A program within a memory budget: planned with the kernels that it will run, and rewritten to what the plan says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
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
    from passes.plan.auto import Planned, Settings
    from passes.plan.storage import Storage


_LEAST_SECONDS = 1.0
"""Of planning, however little time is left."""

WORTH_REORDERING = 0.02
"""The share of a run that another order has to save: kernels that find their operands in the cache are faster by about as much."""

ROUNDS = 8
"""Of statements computed otherwise, at the most: what one round leaves can be too much where estimates were too low."""

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

    Where no plan does, chains of the statements that need the most are computed in slabs.

    ``memory_budget`` is bytes, or text such as ``512MiB`` or ``80%``: of the peak in the program's order. With ``paging`` (a rate,
    or ``target``) values may also be copied to the host and back. ``deadline`` is a value of time.monotonic(). NoPlanError where
    no plan is found, with the smallest budget that is known to fit.
    """
    from passes.plan.auto import Settings
    from passes.plan.bounds.working_sets import working_sets

    def state(changed: Program, pieces: frozenset[str] = frozenset()) -> _Stated:
        return _stated(changed, program, cpu, database, tuning, paging, quiet, progress, pieces)

    def planned(stated: _Stated) -> _Found:
        # the order of the program first: what is used soon after it is made is still in the cache, which durations do not tell
        seconds = _seconds(deadline) / 2
        return _planned(
            stated,
            Settings(budget - stated.reserved, order="input", seconds=seconds, seed=seed, workers=cpu.threads),
            progress,
        )

    written = state(program)
    budget = memory_budget if isinstance(memory_budget, int) else parse_budget(memory_budget, written.peak)
    if written.arena <= budget:
        return written.as_it_is(budget, written)
    smallest, found = written.arena, None
    if working_sets(written.problem, budget - written.reserved) is None:
        found = planned(written)
        if found.result.plan is not None:
            return written.as_planned(found, budget, written)
        smallest = min(smallest, found.smallest)
    first, *further = _goals(written.peak, budget)
    attempts = [(first, WORTH_REORDERING), (first, inf), *((goal, inf) for goal in further)]
    for goal, share in attempts:
        stated = _shrunk(written, state, budget, goal, share)
        smallest = min(smallest, stated.arena)
        if stated.arena <= budget:
            return stated.as_it_is(budget, written)
        if goal == first and stated is not written:
            found = planned(stated)
            if found.result.plan is not None:
                return stated.as_planned(found, budget, written)
            smallest = min(smallest, found.smallest)
    if found is None:  # nothing could be changed: the planner says why that is not enough
        found = planned(written)
    raise NoPlanError(
        f"{program.name}: no plan within {budget} bytes ({found.result.status}: {found.result.reason}); "
        f"{smallest} bytes is the smallest budget that is known to fit",
        budget,
        smallest,
    )


def _goals(peak: int, budget: int) -> list[int]:
    """What statements are to need at most, one after the other where a budget cannot be met otherwise.

    Shares of the peak that do not depend on the budget, so that what was the smallest known to fit is found again.
    """
    return [goal for goal in (peak * tenths // 10 for tenths in range(9, 2, -1)) if goal <= budget] or [budget]


def _shrunk(
    written: _Stated, state: Callable[[Program, frozenset[str]], _Stated], budget: int, goal: int, share: float
) -> _Stated:
    """The program with statements computed otherwise until it is within the budget in its order, or nothing more can be done.

    At no statement more than the goal is to be live; ``share`` as in `Shrinking.within`.
    """
    stated = written
    for _ in range(ROUNDS):
        less = None if stated.arena <= budget else stated.shrinking.within(goal - stated.reserved, share)
        if less is None:
            break
        cut, inlined = (*stated.cut, *less.cut), (*stated.inlined, *less.inlined)
        stated = replace(state(less.program, less.pieces), cut=cut, inlined=inlined)
    return stated


@dataclass(frozen=True, slots=True)
class _Found:
    """What planning came to, with the settings that it was found with; ``smallest`` is the least arena known, in bytes."""

    result: Planned
    settings: Settings
    smallest: int


def _planned(stated: _Stated, settings: Settings, progress: Progress) -> _Found:
    """A plan in the program's order, or in another where that saves enough."""
    from passes.plan.auto import plan

    found = plan(stated.problem, settings, progress)
    duration = stated.problem.duration
    if found.plan is None or found.plan.duration > duration * (1 + WORTH_REORDERING):
        free = replace(settings, order="free")
        reordered = plan(stated.problem, free, progress)
        if reordered.plan is not None and (
            found.plan is None or reordered.plan.duration < found.plan.duration - duration * WORTH_REORDERING
        ):
            settings, found = free, reordered
    return _Found(found, settings, found.smallest.arena_bytes + stated.reserved)


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
    cut: tuple[str, ...] = ()
    inlined: tuple[str, ...] = ()

    @property
    def arena(self) -> int:
        """Bytes of a run in the program's order."""
        return self.in_order.arena_bytes + self.reserved

    @property
    def peak(self) -> int:
        """Bytes live at the most in the program's order."""
        return self.in_order.peak_bytes + self.reserved

    def longer(self, duration: int) -> float:
        """By how many per cent a duration is longer than that of this program."""
        return round(100 * (duration / max(1, self.problem.duration) - 1), 4)

    def as_planned(self, found: _Found, budget: int, before: _Stated) -> Budgeted:
        """The program that a plan says; ``before`` is the one without a budget."""
        from passes.plan.realise import realised

        assert found.result.plan is not None
        result = realised(self.program, self.problem, found.result.plan, self.storage)
        originals = result.originals
        variants = {name: self.variants[other] for name, other in originals.items() if other in self.variants}
        told = document(self.problem, found.settings.model, budget, found.settings.order, found.result)
        report = {key: entry for key, entry in told.items() if key not in _AS_IT_RUNS}
        report |= {key: told[key] + self.reserved for key in ("peak_bytes", "arena_bytes", "smallest_known_bytes")}
        report |= {key: told[key] + self.reserved for key in ("peak_bytes_baseline", "arena_bytes_baseline")}
        report |= {"peak_bytes_whole": before.peak, "in_slabs": [*self.cut], "inlined_operands": [*self.inlined]}
        report["duration_increase_percent"] = before.longer(found.result.plan.duration)
        return Budgeted(result.program, result.placement, variants, report, originals)

    def as_it_is(self, budget: int, before: _Stated) -> Budgeted:
        """The program in its order, which is within the budget."""
        arena = self.arena
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
            "duration_increase_percent": before.longer(self.problem.duration),
            "recomputed": 0,
            "fetched": 0,
            "peak_bytes_whole": before.peak,
            "in_slabs": [*self.cut],
            "inlined_operands": [*self.inlined],
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
