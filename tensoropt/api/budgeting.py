"""A program within a memory budget: planned with the kernels that it will run, and rewritten to what the plan says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

from tensoropt.allocation import Placement
from tensoropt.api.planning import SECONDS, document
from tensoropt.api.stated import Keeping, Kernels, Stated
from tensoropt.api.ways import WORTH_REORDERING, Way, remember, remembered, ways
from tensoropt.budget import parse_budget
from tensoropt.errors import NoPlanError
from tensoropt.ir.program import Program
from tensoropt.pass_manager import Progress
from tensoropt.quiet import Quiet

if TYPE_CHECKING:
    from codegen.targets.cpu import CpuTarget
    from codegen.tune.database import Database
    from codegen.tune.tuned import Tuning
    from passes.plan.auto import Planned, Settings


_LEAST_SECONDS = 1.0
"""Of planning, however little time is left."""

_SHARE = 0.25
"""Of the time for planning, what is spent on a program that was made to need less: there may be several."""

ENOUGH = 5.0
"""Per cent that a run within a budget may take longer for no better way to be looked for."""

LOOKING_SECONDS = 300.0
"""What looking for programs that need less may take where there is no time limit; kernels are measured meanwhile."""

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
    unplanned: tuple[Program, Mapping[str, Any]] | None = None
    """The program that was planned, with the variants of its kernels: in slabs where it is, and nothing computed again."""


def within_budget(
    program: Program,
    as_written: Program,
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

    Where no plan does, what needs the most is computed otherwise: chains in slabs, or by kernels with less scratch memory.
    ``as_written`` is the program without products at points, which is taken where that is what it needs.

    ``memory_budget`` is bytes, or text such as ``512MiB`` or ``80%``: of the peak in the program's order. With ``paging`` (a rate,
    or ``target``) values may also be copied to the host and back. ``deadline`` is a value of time.monotonic(). NoPlanError where
    no plan is found, with the smallest budget that is known to fit.
    """
    from passes.plan.bounds.working_sets import working_sets

    kernels = Kernels(program, as_written, cpu, database, tuning, paging, quiet, deadline, progress)
    written = kernels.stated(program)
    budget = memory_budget if isinstance(memory_budget, int) else parse_budget(memory_budget, written.peak)
    search = _Search(budget, deadline, seed, cpu.threads, progress, written.arena)
    if written.arena <= budget or working_sets(written.problem, budget - written.reserved) is None:
        search.look_at(written, 1.0)
    if search.best is None:
        _look_further(written, kernels, search)
    if search.best is not None:
        return search.best.budgeted(budget, written)
    if not search.reason:  # nothing could be changed: the planner says why that is not enough
        search.look_at(written, 1.0)
    raise NoPlanError(
        f"{program.name}: no plan within {budget} bytes ({search.reason}); "
        f"{search.smallest} bytes is the smallest budget that is known to fit",
        budget,
        search.smallest,
    )


@dataclass(slots=True)
class _Search:
    """What was found for a budget: the fastest that fits, the fewest bytes that anything needs, and why the last did not fit."""

    budget: int
    deadline: float | None
    seed: int
    workers: int
    progress: Progress
    smallest: int
    best: _Fitting | None = None
    reason: str = ""

    def is_no_better(self, stated: Stated) -> bool:
        """Whether a program, which no plan makes faster, is no faster than what was found before."""
        return self.best is not None and stated.problem.duration >= self.best.duration

    def look_at(self, stated: Stated, share: float) -> None:
        """A program in its order, or as it is planned within a share of the time for planning."""
        from passes.plan.auto import Settings

        self.smallest = min(self.smallest, stated.arena)
        if self.is_no_better(stated):
            return
        found = None
        if stated.arena > self.budget:
            # the order of the program first: what is used soon after it is made is in the cache, which durations do not tell
            seconds = _seconds(self.deadline) * share / 2
            settings = Settings(
                self.budget - stated.reserved, order="input", seconds=seconds, seed=self.seed, workers=self.workers
            )
            found = _planned(stated, settings, self.progress)
            self.smallest = min(self.smallest, found.smallest)
            if found.result.plan is None:
                self.reason = f"{found.result.status}: {found.result.reason}"
                return
        fitting = _Fitting(stated, found)
        if self.best is None or fitting.duration < self.best.duration:
            self.best = fitting


def _look_further(written: Stated, kernels: Kernels, search: _Search) -> None:
    """Programs that need less, until one takes hardly longer, or for as long as a plan may take after the first that fits."""
    first: tuple[Way, float] | None = None
    end = time.monotonic() + LOOKING_SECONDS if search.deadline is None else search.deadline
    tried = [written]
    keepings = [*([Keeping.JOINED] if kernels.paging is None and written.joins else []), Keeping.APART]
    known = remembered(kernels, search.budget)
    for way in ways(written.peak, search.budget, kernels, keepings, known):
        if time.monotonic() > end and (search.best is not None or way not in known):
            search.reason = search.reason or "there was no time to look for one"
            continue
        if search.best is not None and first is not None:
            found, when = first
            if time.monotonic() - when > _seconds(search.deadline) or written.longer(search.best.duration) <= ENOUGH:
                break
            if way.share == inf and found.share < inf:
                continue
        stated = _shrunk(kernels.stated(way.program, way.keeping, written=way.written), kernels, way, search)
        if not any(stated.computes_as(other) for other in tried):
            tried.append(stated)
            before = search.smallest
            search.look_at(stated, _SHARE)
            if search.smallest < before:
                remember(kernels, way, search.smallest)
        if search.best is not None and first is None:
            first = way, time.monotonic()


def _shrunk(written: Stated, kernels: Kernels, way: Way, search: _Search) -> Stated:
    """The program with statements computed otherwise until it is within the budget in its order, or nothing more can be done.

    Nor is more done where what was found before is no slower.
    """
    stated = written
    for _ in range(ROUNDS):
        if stated.arena <= search.budget or search.is_no_better(stated):
            break
        less = kernels.smaller(stated, way.alone, way.live, way.share)
        if less is None:
            break
        stated = less
    return stated


@dataclass(frozen=True, slots=True)
class _Fitting:
    """A program that is within the budget as it was planned, or in its order where there is no plan."""

    stated: Stated
    found: _Found | None

    @property
    def duration(self) -> int:
        """Of a run, in nanoseconds."""
        planned = None if self.found is None else self.found.result.plan
        return self.stated.problem.duration if planned is None else planned.duration

    def budgeted(self, budget: int, before: Stated) -> Budgeted:
        """What runs; ``before`` is the program without a budget."""
        if self.found is None:
            return _as_it_is(self.stated, budget, before)
        return _as_planned(self.stated, self.found, budget, before)


@dataclass(frozen=True, slots=True)
class _Found:
    """What planning came to, with the settings that it was found with; ``smallest`` is the least arena known, in bytes."""

    result: Planned
    settings: Settings
    smallest: int


def _planned(stated: Stated, settings: Settings, progress: Progress) -> _Found:
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


def _as_planned(stated: Stated, found: _Found, budget: int, before: Stated) -> Budgeted:
    """The program that a plan says; ``before`` is the one without a budget."""
    from passes.plan.realise import realised

    assert found.result.plan is not None
    result = realised(stated.program, stated.problem, found.result.plan, stated.storage)
    originals = result.originals
    variants = {name: stated.variants[other] for name, other in originals.items() if other in stated.variants}
    told = document(stated.problem, found.settings.model, budget, found.settings.order, found.result)
    report = {key: entry for key, entry in told.items() if key not in _AS_IT_RUNS}
    report |= {key: told[key] + stated.reserved for key in ("peak_bytes", "arena_bytes", "smallest_known_bytes")}
    report |= {key: told[key] + stated.reserved for key in ("peak_bytes_baseline", "arena_bytes_baseline")}
    report |= _changes(stated, found.result.plan.duration, before)
    unplanned = (stated.program, stated.variants)
    return Budgeted(result.program, result.placement, variants, report, originals, unplanned)


def _as_it_is(stated: Stated, budget: int, before: Stated) -> Budgeted:
    """The program in its order, which is within the budget."""
    report = {
        "steps": len(stated.problem.steps),
        "memory_model": "packed",
        "order": "input",
        "status": "optimal",
        "reason": "",
        "budget_bytes": budget,
        "peak_bytes": stated.peak,
        "arena_bytes": stated.arena,
        "peak_bytes_baseline": stated.peak,
        "arena_bytes_baseline": stated.arena,
        "smallest_known_bytes": stated.arena,
        "duration": stated.problem.duration,
        "recomputed": 0,
        "fetched": 0,
    }
    report |= _changes(stated, stated.problem.duration, before)
    unplanned = (stated.program, stated.variants)
    return Budgeted(stated.program, stated.in_order, stated.variants, report, {}, unplanned)


def _changes(stated: Stated, duration: int, before: Stated) -> dict[str, Any]:
    """What was done to the program for it to need less, and what that takes."""
    return {
        "duration_increase_percent": before.longer(duration),
        "peak_bytes_whole": before.peak,
        "in_slabs": [*stated.cut],
        "inlined_operands": [*stated.inlined],
        "as_written": [*stated.written],
        "leaner_kernels": [*stated.leaner],
    }
