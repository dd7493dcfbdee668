"""A program with the kernels that it will run: as a planning problem, as it is placed in its order, and made to need less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from tensoropt.allocation import ALIGNMENT, Placement
from tensoropt.api.alike import Alike, CostsOfPieces
from tensoropt.api.compiling import expressions_of, variants_of
from tensoropt.api.shrinking import Shrinking, Smaller, Written
from tensoropt.ir.expression import Scope
from tensoropt.ir.program import Compute, Program
from tensoropt.paging import bytes_per_unit, paged
from tensoropt.pass_manager import Progress
from tensoropt.plan_types import Problem

if TYPE_CHECKING:
    from codegen.build import Step
    from codegen.targets.cpu import CpuTarget
    from codegen.tune.database import Database
    from codegen.tune.leaner import Leaner, LeanerKernels
    from codegen.tune.records import Records
    from codegen.tune.tuned import Tuning
    from passes.plan.storage import Storage
    from tensoropt.quiet import Quiet


class Keeping(Enum):
    """How the planner has concatenations: parts of a whole, which it has from its first part on, or values that are copied."""

    JOINED = "joined"
    APART = "apart"
    EITHER = "either"
    """That which makes the largest working set smaller."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The variant of a kernel that was taken for its scratch memory, and the seconds that a run of it takes more."""

    expression: Scope
    parameters: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class Stated:
    """A program as a planning problem of what a run allocates, ``reserved`` bytes apart, and as it is placed in its own order.

    ``cut``, ``inlined``, ``written`` and ``leaner`` say what was done for it to need less; ``pieces`` are all values that slabs
    write.
    """

    program: Program
    storage: Storage
    problem: Problem
    in_order: Placement
    variants: Mapping[str, Any]
    workspaces: Mapping[str, int]
    reserved: int
    keeping: Keeping = Keeping.EITHER
    pieces: frozenset[str] = frozenset()
    cut: tuple[str, ...] = ()
    inlined: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    leaner: Mapping[str, Chosen] = field(default_factory=dict)

    @property
    def arena(self) -> int:
        """Bytes of a run in the program's order."""
        return self.in_order.arena_bytes + self.reserved

    @property
    def peak(self) -> int:
        """Bytes live at the most in the program's order."""
        return self.in_order.peak_bytes + self.reserved

    @property
    def joins(self) -> bool:
        """Whether concatenations are joined in the program's order."""
        return bool(self.in_order.wholes)

    def computes_as(self, other: Stated) -> bool:
        """Whether the same was done to both."""
        same = self.program.statements == other.program.statements and self.variants == other.variants
        return same and self.storage == other.storage

    def longer(self, duration: int) -> float:
        """By how many per cent a duration is longer than that of this program."""
        return round(100 * (duration / max(1, self.problem.duration) - 1), 4)


@dataclass(slots=True)
class Kernels:
    """What the kernels of a program, and of those that are made of it, are and cost.

    ``tuned`` is the program whose kernels were tuned, ``as_written`` the same one without what only our own kernels profit from.
    With ``paging`` (a rate, or ``target``) values may be copied to the host.
    """

    tuned: Program
    as_written: Program
    cpu: CpuTarget
    database: Database
    tuning: Tuning
    paging: str | None
    quiet: Quiet
    deadline: float | None
    progress: Progress
    _lowered: dict[Any, Any] = field(default_factory=dict)
    _others: LeanerKernels | None = None
    _alike: Alike = field(default_factory=Alike)

    @property
    def records(self) -> Records:
        """What was measured for the target."""
        from codegen.tune.records import Records

        return Records(self.database, self.cpu)

    @property
    def differing(self) -> tuple[str, ...]:
        """The values that are computed otherwise in the program as it was written."""
        tuned = expressions_of(self.tuned)
        return tuple(
            name for name, expression in expressions_of(self.as_written).items() if tuned.get(name) is not expression
        )

    def stated(
        self,
        program: Program,
        keeping: Keeping = Keeping.EITHER,
        pieces: frozenset[str] = frozenset(),
        leaner: Mapping[str, Chosen] | None = None,
        written: tuple[str, ...] = (),
    ) -> Stated:
        """The problem with the kernels that will run: their measured durations and their workspaces; with paging transfers too.

        With paging nothing is joined, since parts could not be fetched by themselves.
        """
        from codegen.build import workspaces_of
        from codegen.tune.worker import MeasuredCost
        from passes.pipeline import plan as placed_in_order
        from passes.plan.bounds.working_sets import needs
        from passes.plan.lifetimes import joined_storage
        from passes.plan.of_program import problem_of
        from passes.plan.realise import in_arena
        from passes.plan.storage import storage_of

        before = leaner or {}
        chosen = {
            name: before[name]
            for name, expression in expressions_of(program).items()
            if name in before and before[name].expression is expression
        }
        variants = variants_of(program, self.tuned, self.tuning.variants)
        variants |= {name: one.parameters for name, one in chosen.items()}
        joined = joined_storage(program)
        steps = self._steps(program, joined, variants)
        workspaces = workspaces_of(steps)
        in_order = placed_in_order(program, workspaces, joined)
        optional = {whole for whole in storage_of(program, ()).parts.values() if whole not in pieces}
        storages = {Keeping.JOINED: joined, Keeping.APART: storage_of(program, optional)}
        tried = [*storages.values()] if keeping is Keeping.EITHER else [storages[keeping]]
        choices = []
        with MeasuredCost(self.cpu, quiet=self.quiet, records=self.records) as measured:
            costs = CostsOfPieces(measured, self._alike, pieces)
            for storage in tried if self.paging is None else [storage_of(program)]:
                made = problem_of(program, costs, storage, lambda share, name: self.progress("measure", share, name))
                sizes = workspaces if storage is joined else workspaces_of(self._steps(program, storage, variants))
                choices.append((storage, in_arena(self._as_tuned(made, sizes, variants, chosen))))
        storage, problem = min(choices, key=lambda choice: max(needs(choice[1]), default=0))
        if self.paging is not None:
            problem = paged(problem, bytes_per_unit(self.paging, True, self.cpu.host_bytes_per_second))
        reserved = ALIGNMENT if any(step.shared.kernel.checked for step in steps) else 0
        return Stated(
            program, storage, problem, in_order, variants, workspaces, reserved, keeping, pieces,
            written=written, leaner=chosen,
        )  # fmt: skip

    def smaller(self, stated: Stated, alone: int, live: int, share: float) -> Stated | None:
        """A program that needs less; see `Shrinking.within`. None where nothing is done."""
        from passes.plan.storage import storage_of

        def other(statement: Compute, most: int) -> Leaner | None:
            return self._leaner(stated, statement, most)

        def before(statement: Compute) -> Written | None:
            return self._written(stated, statement)

        # slabs leave concatenations that are not joined with a place of their own for every part
        storage = stated.storage if stated.keeping is Keeping.JOINED else storage_of(stated.program)
        shrinking = Shrinking(stated.program, stated.problem, stated.workspaces, storage, other, before, stated.pieces)
        less = shrinking.within(alone - stated.reserved, live - stated.reserved, share)
        if less is None:
            return None
        made = self.stated(
            less.program, stated.keeping, less.pieces, self._chosen(stated, less), (*stated.written, *less.written)
        )
        return replace(made, cut=(*stated.cut, *less.cut), inlined=(*stated.inlined, *less.inlined))

    def _chosen(self, stated: Stated, less: Smaller) -> dict[str, Chosen]:
        """The variants that were taken so far, and those that were found now, which take as much longer than those before."""
        expressions = expressions_of(less.program)
        before = {name: one.seconds for name, one in stated.leaner.items()}
        return {**stated.leaner} | {
            name: Chosen(expressions[name], found.parameters, before.get(name, 0.0) + found.seconds)
            for name, found in less.leaner.items()
        }

    def _leaner(self, stated: Stated, statement: Compute, most: int) -> Leaner | None:
        from codegen.tune.leaner import LeanerKernels

        if self._others is None:
            self._others = LeanerKernels(self.cpu, self.records, self.quiet, self.deadline)
        now = stated.variants.get(statement.output.name, {})
        measured = self._alike.first(statement) if statement.output.name in stated.pieces else statement
        return self._others.within(stated.program, measured, now, most)

    def _written(self, stated: Stated, statement: Compute) -> Written | None:
        """The statement without products at points, where what it reads then is there; None where it is none with them."""
        from codegen.build import lowered, workspaces_of
        from codegen.tune.worker import MeasuredCost

        name = statement.output.name
        same = [one for one in self.tuned.statements if one.outputs[0].name == name]
        others = [one for one in self.as_written.statements if one.outputs[0].name == name]
        other = others[0] if others else None
        if not same or same[0] is not statement or not isinstance(other, Compute):
            return None
        values = {tensor.name for one in stated.program.statements for tensor in one.outputs}
        values |= {tensor.name for tensor in stated.program.inputs}
        constants = self.as_written.constants
        if other.expression is statement.expression or any(
            tensor.name not in values and tensor.name not in constants for tensor in other.inputs
        ):
            return None
        read = {tensor.name: constants[tensor.name] for tensor in other.inputs if tensor.name in constants}
        alone = replace(self.as_written, statements=(other,), outputs=(other.output,))
        workspace = workspaces_of(lowered(alone, (), self.cpu, known=self._lowered)).get(name, 0)
        with MeasuredCost(self.cpu, quiet=self.quiet, records=self.records) as costs:
            cost = costs.cost(other, frozenset(constants))
        now = next(step.duration for step in stated.problem.steps if step.name == name)
        return Written(other, read, workspace, max(0.0, cost.seconds - now / 1e9))

    def _steps(self, program: Program, storage: Storage, variants: Mapping[str, Any]) -> list[Step]:
        from codegen.build import lowered

        return lowered(program, storage.idle, self.cpu, variants=variants, strides=storage.strides, known=self._lowered)

    def _as_tuned(
        self, problem: Problem, workspaces: Mapping[str, int], variants: Mapping[str, Any], chosen: Mapping[str, Chosen]
    ) -> Problem:
        """The problem with the workspaces of the kernels that will run, and the durations that were measured of their variants."""
        seconds = {
            statement.outputs[0].name: tuned.best_seconds
            for tuned in self.tuning.kernels
            for statement in tuned.kernel.uses
            if statement.outputs[0].name in variants
        }
        steps = []
        for step in problem.steps:
            known = seconds.get(step.name)
            duration = step.duration if known is None else round(known * 1e9)
            duration += round(chosen[step.name].seconds * 1e9) if step.name in chosen else 0
            steps.append(replace(step, duration=duration, workspace=workspaces.get(step.name, 0)))
        return replace(problem, steps=tuple(steps)).check()
