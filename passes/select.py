"""Selection: for every contraction or other fold, what derivation finds is measured and the fastest is kept.

A region is such a statement with those that fuse with it; each candidate replaces the statement in its region, what it
computes from constants alone is free, and the rest is fused anew. The regions of a program do not overlap, so the fastest
alternative of each makes the fastest cover.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from passes.alternatives import alternative
from passes.derive.candidate import Candidate, SearchLimits, SearchReport
from passes.derive.compaction import shortened
from passes.derive.cost import estimated_seconds
from passes.derive.tasks.cache import DeriveCache
from passes.derive.tasks.task import derivable
from passes.fuse import Fuse, Group
from passes.records import candidate_record, nothing_found, passed_over_record, reason, region_record
from tensoropt.cost import MARGIN, KernelCost
from tensoropt.ir.canonical import canonical_kernel_key
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.pass_manager import Context

_SEARCH_SHARE = 0.6
"""The share of the time limit that searches may take; the rest is for measuring."""
_TOO_LATE = "not measured: the time limit had passed"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a region: the position of the alternative (0 is the original) and what each costs."""

    chosen: int
    measured: tuple[Candidate, ...]
    costs: tuple[KernelCost, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A statement to derive, the group that it fuses with, and what was found for it.

    ``promising`` are the candidates to measure, ``others`` the rest, each with why it is not measured.
    """

    core: Compute
    group: Group
    promising: tuple[Candidate, ...]
    others: tuple[tuple[Candidate, str], ...]
    report: SearchReport

    def key(self, constants: frozenset[str]) -> Any:
        """Regions with the same key have the same alternatives at the same costs."""
        members = (
            (canonical_kernel_key(member.expression)[0], tuple(tensor.name in constants for tensor in member.inputs))
            for member in (self.core, *self.group.values())
        )
        return (*members, *(candidate.label for candidate in self.promising))


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: candidates of a region at the most, and how much dearer than the original as written (by the
    estimate that ranks them) a candidate may be and still be measured."""

    measured: int
    promising: float


EFFORTS = {"off": Effort(2, 1.1), "fast": Effort(3, 2.0), "full": Effort(8, math.inf)}
"""By the tuning that was asked for."""


@dataclass(frozen=True, slots=True)
class Select:
    """Chooses by the injected cost model.

    ``margin`` is the share by which a candidate must beat the original, so that noise does not rewrite a model. When the time
    limit of the context has passed, regions that are not decided yet stay as they are.
    """

    name: ClassVar[str] = "select"
    margin: float = MARGIN

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        if "all" in context.excluded_rules:
            return program
        constants = frozenset(program.constants)
        positions = {statement.outputs[0]: position for position, statement in enumerate(program.statements)}
        members = [
            (core, group)
            for group in Fuse().groups(program).values()
            if (core := derivable(group.values())) is not None
        ]
        members.sort(key=lambda found: positions[found[0].output])
        limits = SearchLimits(candidates=max(EFFORTS[context.tune].measured, SearchLimits().candidates))
        chosen: dict[Tensor, tuple[Compute, ...]] = {}
        seen: dict[Any, Choice] = {}
        started = time.monotonic()
        with DeriveCache(context.workers, context.deadline(_SEARCH_SHARE), context.quiet) as cache:
            context.progress("derive", 0.0, "")
            cache.expect([core for core, _ in members], constants, limits, context.excluded_rules)
            for number, (core, group) in enumerate(members):
                context.progress("derive", number / len(members), core.output.name)
                region = self._region(core, group, constants, limits, cache, context)
                choice = self._choice(region, constants, context, seen)
                _record(region, choice, context)
                if choice.chosen:
                    chosen[core.output] = region.promising[choice.chosen - 1].statements
            context.search |= {
                "statements": len(members),
                "distinct": cache.searched,
                "from_disk": cache.from_disk,
                "workers": cache.processes,
                "workers_peak_bytes": cache.peak_bytes,
                "truncated": any(_is_cut_short(entry) for entry in (*context.searches, *context.regions)),
                "seconds": time.monotonic() - started,
            }
        statements: list[Statement] = []
        for statement in program.statements:
            statements += chosen.get(statement.outputs[0], (statement,))
        return program.with_statements(statements) if chosen else program

    def _region(
        self,
        core: Compute,
        group: Group,
        constants: frozenset[str],
        limits: SearchLimits,
        cache: DeriveCache,
        context: Context,
    ) -> Region:
        effort = EFFORTS[context.tune]
        written = estimated_seconds((core,), constants)
        promising: list[Candidate] = []
        others: list[tuple[Candidate, str]] = []
        for candidate in cache.derive(core, constants, limits, context.excluded_rules):
            share = candidate.estimated_seconds / written
            if share > effort.promising:
                others.append((candidate, f"not measured: estimated {share:.1f} times as dear as the model as written"))
            elif len(promising) == effort.measured:
                why = f"not measured: --tune {context.tune} measures {effort.measured}, and others looked better"
                others.append((candidate, why))
            else:
                promising.append(candidate)
        report = cache.report(core, constants, limits, context.excluded_rules)
        assert report is not None
        return Region(core, group, tuple(promising), tuple(others), report)

    def _choice(self, region: Region, constants: frozenset[str], context: Context, seen: dict[Any, Choice]) -> Choice:
        if not region.promising:
            return Choice(0, (), ())
        key = region.key(constants)
        if key not in seen:
            if context.time_is_up():
                return Choice(0, (), ())
            seen[key] = self._measured(region, constants, context)
        return seen[key]

    def _measured(self, region: Region, constants: frozenset[str], context: Context) -> Choice:
        anchor = next(iter(region.group))
        written = shortened(region.core)  # as the model would be compiled without the candidates
        assert isinstance(written, Compute)
        rest = [member for member in reversed(region.group.values()) if member is not region.core]
        alternatives = [alternative((written, *rest), (anchor,), constants, "original", context)] + [
            alternative((*candidate.statements, *rest), (anchor,), constants, candidate.label, context)
            for candidate in region.promising
        ]
        costs = context.cost_model.compare(alternatives)
        best = min(range(len(costs)), key=lambda position: costs[position].seconds)
        if costs[best].seconds > costs[0].seconds * (1 - self.margin):
            best = 0
        return Choice(best, region.promising, tuple(costs))


def _record(region: Region, choice: Choice, context: Context) -> None:
    """Adds everything that was found for the region to the context, and what became of it."""
    core, original = region.core, choice.costs[0] if choice.costs else None
    for position, candidate in enumerate(region.promising, start=1):
        kept = choice.chosen == position
        cost = choice.costs[position] if choice.costs else None
        why = reason(cost, original, kept, choice.chosen > 0) if cost and original else _TOO_LATE
        context.derivations.append(candidate_record(core, candidate, cost, original, kept, why))
    for candidate, why in region.others:
        context.derivations.append(candidate_record(core, candidate, None, original, False, why))
    context.derivations += [passed_over_record(core, draft) for draft in region.report.passed_over]
    taken = region.promising[choice.chosen - 1] if choice.chosen else None
    report = {name: value for name, value in region.report.as_json().items() if name != "passed_over"}
    if report not in context.searches:
        context.searches.append(report)
    search = context.searches.index(report)
    context.regions.append(region_record(core, taken, original, _outcome(region, choice), search))


def _is_cut_short(entry: dict[str, Any]) -> bool:
    """Whether wall time decided about a search or a region."""
    return entry.get("truncated") == "time" or entry.get("why") == _TOO_LATE


def _outcome(region: Region, choice: Choice) -> str:
    """Why the region is as it is."""
    if choice.costs:
        best = choice.chosen or min(range(1, len(choice.costs)), key=lambda place: choice.costs[place].seconds)
        why = reason(choice.costs[best], choice.costs[0], choice.chosen > 0, False)
        return f"{choice.measured[best - 1].label}: {why}"
    if region.promising:
        return _TOO_LATE
    return region.others[0][1] if region.others else nothing_found(region.report)
