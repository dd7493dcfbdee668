"""A program within a memory budget: planned with the kernels that it will run, and rewritten to what the plan says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tensoropt.allocation import ALIGNMENT, Placement
from tensoropt.api.compiling import variants_of
from tensoropt.api.planning import SECONDS, document
from tensoropt.budget import parse_budget
from tensoropt.errors import NoPlanError
from tensoropt.ir.program import Program
from tensoropt.ir.verifier import verify
from tensoropt.paging import bytes_per_unit, paged
from tensoropt.pass_manager import Progress
from tensoropt.plan_types import Problem
from tensoropt.quiet import Quiet

if TYPE_CHECKING:
    from codegen.targets.cpu import CpuTarget
    from codegen.tune.database import Database
    from codegen.tune.tuned import Tuning
    from passes.plan.storage import Storage
    from passes.slabs import Chain


_LEAST_SECONDS = 1.0
"""Of planning, however little time is left."""

WORTH_REORDERING = 0.02
"""The share of a run that another order has to save: kernels that find their operands in the cache are faster by about as much."""

PIECES = (2, 4, 8, 16)
"""In how many pieces a chain is cut."""

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
    from passes.plan.bounds.working_sets import working_sets
    from passes.plan.realise import realised

    def state(changed: Program) -> _Stated:
        return _stated(changed, program, cpu, database, tuning, paging, quiet, progress)

    stated = state(program)
    peak = stated.in_order.peak_bytes + stated.reserved
    budget = memory_budget if isinstance(memory_budget, int) else parse_budget(memory_budget, peak)
    cut: list[str] = []
    inlined: list[str] = []
    while True:
        # the order of the program first: what is used soon after it is made is still in the cache, which durations do not tell
        settings = Settings(
            budget - stated.reserved, order="input", seconds=_seconds(deadline) / 2, seed=seed, workers=cpu.threads
        )
        if stated.in_order.arena_bytes + stated.reserved <= budget:
            return stated.as_it_is(budget, peak, cut, inlined)
        impossible = working_sets(stated.problem, settings.budget) is not None
        smaller = _smaller(stated, budget) if impossible else None
        if smaller is None:
            found = plan(stated.problem, settings, progress)
            if found.plan is None or found.plan.duration > stated.problem.duration * (1 + WORTH_REORDERING):
                free = replace(settings, order="free")
                reordered = plan(stated.problem, free, progress)
                if reordered.plan is not None and (
                    found.plan is None
                    or reordered.plan.duration < found.plan.duration - stated.problem.duration * WORTH_REORDERING
                ):
                    settings, found = free, reordered
            smaller = _smaller(stated, budget) if found.plan is None and not impossible else None
            if smaller is None:
                break
        cut += smaller.cut
        inlined += smaller.inlined
        stated = state(smaller.program)
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
    steps = lowered(program, joined.idle, cpu, variants=variants)
    in_order = placed_in_order(program, workspaces_of(steps), joined)
    choices = []
    with MeasuredCost(cpu, quiet=quiet, records=Records(database, cpu)) as costs:
        for storage in [
            *([joined] if paging is None else []),
            *([storage_of(program)] if joined.parts or paging else []),
        ]:
            made = problem_of(program, costs, storage, lambda share, detail: progress("measure", share, detail))
            kernels = workspaces_of(
                steps if storage is joined else lowered(program, storage.idle, cpu, variants=variants)
            )
            choices.append((storage, in_arena(_as_tuned(made, kernels, tuning, variants))))
    storage, problem = min(choices, key=lambda choice: max(needs(choice[1]), default=0))
    if paging is not None:
        problem = paged(problem, bytes_per_unit(paging, True, cpu.host_bytes_per_second))
    reserved = ALIGNMENT if any(step.shared.kernel.checked for step in steps) else 0
    return _Stated(program, storage, problem, in_order, variants, reserved)


@dataclass(frozen=True, slots=True)
class _Smaller:
    """A program whose largest working set is smaller, and the value whose chain is cut or whose operand is inlined."""

    program: Program
    cut: tuple[str, ...] = ()
    inlined: tuple[str, ...] = ()


def _smaller(stated: _Stated, budget: int) -> _Smaller | None:
    """The statement with the largest working set computed otherwise.

    Its chain in as many pieces as the budget asks for, or the operand of its contraction computed while it is packed, if it can be.
    """
    from passes.inline_operands import without_operand
    from passes.plan.bounds.working_sets import working_set
    from passes.slabs import chain_of, in_slabs

    problem = stated.problem
    largest = max(range(len(problem.steps)), key=lambda number: working_set(problem, number))
    name = problem.steps[largest].name
    chain = chain_of(stated.program, name)
    if chain is None:
        other = without_operand(stated.program, name)
        return None if other is None else _Smaller(_verified(other), inlined=(name,))
    counts = [count for count in PIECES if chain.extent % count == 0 and chain.extent > count]
    if not counts:
        return None
    count = next((count for count in counts if _needed(problem, chain, count) <= budget), counts[-1])
    return _Smaller(_verified(in_slabs(stated.program, chain, count)), cut=(chain.statements[-1].output.name,))


def _verified(program: Program) -> Program:
    """The program, well formed as every pass has to leave it."""
    verify(program)
    return program


def _needed(problem: Problem, chain: Chain, count: int) -> int:
    """About the most bytes that a statement of a chain in pieces has while it runs: the last value is there as a whole."""
    from passes.plan.bounds.working_sets import working_set

    number = {step.name: place for place, step in enumerate(problem.steps)}
    between = {statement.output.name for statement in chain.statements[:-1]}
    last = chain.statements[-1].output
    needed = 0
    for statement in chain.statements:
        place = number.get(statement.output.name)
        if place is None:  # a view
            continue
        own = [problem.values[value] for value in {*problem.steps[place].reads, *problem.steps[place].writes}]
        inner = sum(value.bytes for value in own if value.name in between)
        whole = 0 if statement.output is last else last.type.bytes
        needed = max(needed, working_set(problem, place) - inner + inner // count + whole)
    return needed


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
