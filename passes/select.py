"""Selection: for every contraction, the alternatives that derivation finds are measured and the fastest is kept.

A region is a contraction with the statements that fuse with it; each candidate replaces the contraction in its region, what it
computes from constants alone is free, and the rest is fused anew. The regions of a program do not overlap, so the fastest
alternative of each makes the fastest cover.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from passes.alternatives import alternative
from passes.derive.cache import DeriveCache
from passes.derive.candidate import Candidate, SearchLimits
from passes.derive.compaction import shortened
from passes.derive.cost import estimated_seconds
from passes.fuse import Fuse, Group
from tensoropt.cost import KernelCost
from tensoropt.ir.canonical import canonical_kernel_key
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import is_contraction
from tensoropt.pass_manager import Context


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a region: the position of the alternative (0 is the original) and what each costs."""

    chosen: int
    candidates: tuple[Candidate, ...]
    costs: tuple[KernelCost, ...]


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
    margin: float = 0.03

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        constants = frozenset(program.constants)
        groups = Fuse().groups(program)
        regions = [
            (member, group)
            for group in groups.values()
            for member in group.values()
            if is_contraction(member.expression)
        ]
        regions.sort(key=lambda region: _position(program, region[0]))
        cache = DeriveCache()
        chosen: dict[Tensor, tuple[Compute, ...]] = {}
        seen: dict[Any, Choice] = {}
        for number, (core, group) in enumerate(regions):
            context.progress("derive", number / len(regions), core.output.name)
            candidates = () if context.time_is_up() else self._candidates(core, constants, cache, context)
            key = _region_key(core, group, constants)
            choice = seen.get(key)
            if choice is None or len(choice.candidates) != len(candidates):
                choice = self._choose(core, group, candidates, constants, context)
                seen[key] = choice
            _record(core, candidates, choice, context)
            if choice.chosen:
                chosen[core.output] = candidates[choice.chosen - 1].statements
        if not chosen:
            return program
        statements: list[Statement] = []
        for statement in program.statements:
            replaced = chosen.get(statement.outputs[0])
            statements += replaced if replaced is not None else (statement,)
        return program.with_statements(statements)

    def _candidates(
        self, core: Compute, constants: frozenset[str], cache: DeriveCache, context: Context
    ) -> tuple[Candidate, ...]:
        if "all" in context.excluded_rules:
            return ()
        effort = EFFORTS[context.tune]
        limits = SearchLimits(candidates=max(effort.measured, SearchLimits().candidates))
        found = cache.derive(core, constants, limits, context.excluded_rules)
        limit = effort.promising * estimated_seconds((core,), constants)
        return tuple([candidate for candidate in found if candidate.estimated_seconds <= limit][: effort.measured])

    def _choose(
        self,
        core: Compute,
        group: Group,
        candidates: tuple[Candidate, ...],
        constants: frozenset[str],
        context: Context,
    ) -> Choice:
        if not candidates:
            return Choice(0, (), ())
        anchor = next(iter(group))
        written = shortened(core)  # as the model would be compiled without the candidates
        assert isinstance(written, Compute)
        rest = [member for member in reversed(group.values()) if member is not core]
        alternatives = [alternative((written, *rest), (anchor,), constants, "original", context)] + [
            alternative((*candidate.statements, *rest), (anchor,), constants, candidate.label, context)
            for candidate in candidates
        ]
        costs = context.cost_model.compare(alternatives)
        best = min(range(len(costs)), key=lambda position: costs[position].seconds)
        if costs[best].seconds > costs[0].seconds * (1 - self.margin):
            best = 0
        return Choice(best, candidates, tuple(costs))


def _position(program: Program, statement: Compute) -> int:
    return next(position for position, other in enumerate(program.statements) if other is statement)


def _record(core: Compute, candidates: tuple[Candidate, ...], choice: Choice, context: Context) -> None:
    """What ``optimize --json`` and ``inspect --why`` show of a region."""
    original = choice.costs[0] if choice.costs else None
    for position, candidate in enumerate(candidates, start=1):
        cost = choice.costs[position]
        kept = choice.chosen == position
        context.derivations.append(
            {
                "node": core.origin[0] if core.origin else core.output.name,
                "value": core.output.name,
                **candidate.as_json(),
                "milliseconds": None if cost.source == "failed" else cost.seconds * 1e3,
                "original_milliseconds": original.seconds * 1e3 if original else None,
                "cost_source": cost.source,
                "kept": kept,
                "why": _reason(position, choice),
            }
        )


def _reason(position: int, choice: Choice) -> str:
    cost, original = choice.costs[position], choice.costs[0]
    if cost.source == "failed":
        return f"could not be measured: {cost.reason}"
    gain = f"{cost.seconds * 1e3:.3f} ms against {original.seconds * 1e3:.3f} ms as written"
    if position == choice.chosen:
        return f"fastest: {gain}"
    if choice.chosen:
        return f"another candidate is faster: {gain}"
    return f"not faster than the model as written: {gain}"


def _region_key(core: Compute, group: Group, constants: frozenset[str]) -> Any:
    """Regions with the same key have the same alternatives at the same costs."""
    return tuple(
        (canonical_kernel_key(member.expression)[0], tuple(tensor.name in constants for tensor in member.inputs))
        for member in (core, *group.values())
    )
