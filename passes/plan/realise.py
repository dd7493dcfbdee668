"""From a plan to a program that runs it: a statement for every entry of the sequence, each reader wired to what serves it.

What is computed again is a statement of its own with a value of its own name, so that a program stays single-assignment and code
generation needs to know nothing of recomputation. No pass may run afterwards that finds equal statements and merges them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from passes.plan.storage import Storage, placed, storage_of
from tensoropt.allocation import Placement, shown
from tensoropt.ir.expression import Scope, Tensor, replace_sources
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.opaque_names import renamed
from tensoropt.plan_types import Plan, Problem


@dataclass(frozen=True, slots=True)
class Realised:
    """``placement`` has an offset for every value in the arena and for the workspace of every statement that has one.

    ``originals``: the name that each value has in the program before, by its name here.
    """

    program: Program
    placement: Placement
    originals: dict[str, str]


def in_arena(problem: Problem) -> Problem:
    """The problem of what a run allocates: outputs are the caller's and take nothing there. What writes them runs once."""
    kept = {number for number, value in enumerate(problem.values) if value.kept}
    return replace(
        problem,
        values=tuple(replace(one, bytes=0) if one.kept else one for one in problem.values),
        steps=tuple(replace(one, recomputable=False) if kept & {*one.writes} else one for one in problem.steps),
    )


def realised(program: Program, problem: Problem, plan: Plan, storage: Storage) -> Realised:
    """The program of a plan of `in_arena` without fetches; the problem is that of program and storage (`passes.plan.of_program`).

    First occurrences have the names of the program. ValueError for a plan that fetches, or that writes an output twice.
    """
    if any(action >= len(problem.steps) for action in plan.sequence):
        raise ValueError(f"{problem.name}: fetches from the host are not executed yet")
    return _Realisation(program, storage).run(problem, plan)


class _Realisation:
    """What has been emitted so far; ``current`` is the tensor that stands for one of the program's, by its name there."""

    def __init__(self, program: Program, storage: Storage) -> None:
        self.program, self.storage = program, storage
        self.statements = {statement.outputs[0].name: statement for statement in program.statements}
        self.outputs = {tensor.name for tensor in program.outputs}
        self.shows: dict[str, list[Statement]] = {}
        for statement in program.statements:
            if statement.outputs[0].name in storage.views:
                self.shows.setdefault(shown(statement.outputs[0].name, storage.views), []).append(statement)
        self.missing = Counter(storage.parts.values())
        """Parts of each whole that are not yet written."""
        self.taken = {tensor.name for statement in program.statements for tensor in statement.outputs}
        self.taken |= {tensor.name for tensor in program.inputs} | set(program.constants)
        self.current: dict[str, Tensor] = {}
        self.emitted: list[Statement] = []
        self.originals: dict[str, str] = {}

    def run(self, problem: Problem, plan: Plan) -> Realised:
        """Everything in the order of the plan; a view follows what it shows, and a whole its last part."""
        written = {tensor.name for statement in self.program.statements for tensor in statement.outputs}
        for base in self.shows:
            if base not in written:  # an input or a constant
                self._show(base)
        offsets: dict[str, int] = {}
        workspaces: dict[str, int] = {}
        for position, step in enumerate(plan.sequence):
            one = problem.steps[step]
            before = self.statements[one.name]
            statement = self._emit(before)
            for tensor, value, offset in zip(statement.outputs, one.writes, plan.offsets[position], strict=True):
                part = tensor.name in self.storage.parts
                name = problem.values[value].name if part else tensor.name
                if tensor.name not in self.outputs and name not in self.storage.parts:
                    offsets[name] = offset
            if one.workspace:
                workspaces[statement.outputs[0].name] = plan.workspaces[position]
            for tensor in before.outputs:
                self._written(tensor.name)
        made = self.program.with_statements(self.emitted)
        views = storage_of(made)
        parts = self.storage.parts
        starts = {**views.starts, **{part: self.storage.starts.get(part, 0) for part in parts}}
        placement = Placement(offsets, plan.arena_bytes, plan.peak_bytes, {}, workspaces)
        return Realised(made, placed(placement, Storage(views.views, parts, starts)), self.originals)

    def _written(self, name: str) -> None:
        """What follows a value: its views, and the whole that has all of its parts now."""
        self._show(name)
        whole = self.storage.parts.get(name)
        if whole is not None:
            self.missing[whole] -= 1
            if not self.missing[whole]:
                self._emit(self.statements[whole])
                self._written(whole)

    def _show(self, base: str) -> None:
        """The views of what was just written."""
        for statement in self.shows.get(base, ()):
            self._emit(statement)

    def _emit(self, statement: Statement) -> Statement:
        """The statement, reading and writing what stands for its tensors now."""
        reads = {tensor: self.current[tensor.name] for tensor in statement.inputs if tensor.name in self.current}
        writes = {tensor: self._named(tensor) for tensor in statement.outputs}
        if isinstance(statement, Compute):
            changed: dict[Tensor | Scope, Tensor | Scope] = {
                tensor: other for tensor, other in reads.items() if other is not tensor
            }
            made: Statement = Compute(
                writes[statement.output], replace_sources(statement.expression, changed), statement.origin
            )
        else:
            made = renamed(statement, {tensor.name: other for tensor, other in (reads | writes).items()})
        for tensor, other in writes.items():
            self.current[tensor.name] = other
            self.originals[other.name] = tensor.name
        self.emitted.append(made)
        return made

    def _named(self, tensor: Tensor) -> Tensor:
        """The tensor itself when it is first written, later one of another name."""
        if tensor.name not in self.current:
            return tensor
        if tensor.name in self.outputs:
            raise ValueError(f"{self.program.name}: the plan writes the output {tensor.name} twice")
        number = 2
        while f"{tensor.name}#{number}" in self.taken:
            number += 1
        self.taken.add(f"{tensor.name}#{number}")
        return Tensor(f"{tensor.name}#{number}", tensor.type)
