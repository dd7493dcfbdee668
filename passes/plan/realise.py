"""From a plan to a program that runs it: a statement for every entry of the sequence, each reader wired to what serves it.

What is computed again is a statement of its own with a value of its own name, so that a program stays single-assignment and code
generation needs to know nothing of recomputation. No pass may run afterwards that finds equal statements and merges them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from passes.plan.storage import Storage, placed, storage_of
from tensoropt.allocation import ALIGNMENT, Placement, shown
from tensoropt.ir.expression import Scope, Tensor, replace_sources
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import copy_of
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
    """The program of a plan of `in_arena`; the problem is that of program and storage (`passes.plan.of_program`).

    First occurrences have the names of the program. What is fetched is copied to the host's memory, behind the arena, when it is
    first written, and from there to its place. ValueError for a plan that writes an output twice, and for fetches of parts.
    """
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
        self.hosted: dict[str, Tensor] = {}
        self.host_end = 0
        self.originals: dict[str, str] = {}

    def run(self, problem: Problem, plan: Plan) -> Realised:
        """Everything in the order of the plan; a view follows what it shows, and a whole its last part."""
        written = {tensor.name for statement in self.program.statements for tensor in statement.outputs}
        for base in self.shows:
            if base not in written:  # an input or a constant
                self._show(base)
        offsets: dict[str, int] = {}
        workspaces: dict[str, int] = {}
        fetched = {problem.step_of(action) for action in plan.sequence if action >= len(problem.steps)}
        self._require_fetchable(problem, fetched)
        for position, action in enumerate(plan.sequence):
            one = problem.steps[problem.step_of(action)]
            before = self.statements[one.name]
            if action < len(problem.steps):
                emitted: tuple[Tensor, ...] = self._emit(before).outputs
            else:
                emitted = tuple(self._fetched(tensor) for tensor in before.outputs)
            for tensor, value, offset in zip(emitted, one.writes, plan.offsets[position], strict=True):
                part = tensor.name in self.storage.parts
                name = problem.values[value].name if part else tensor.name
                if name not in self.outputs and name not in self.storage.parts:
                    offsets[name] = offset
            if one.workspace and action < len(problem.steps):
                workspaces[emitted[0].name] = plan.workspaces[position]
            for tensor in before.outputs:
                self._written(tensor.name)
                if action in fetched and tensor.name not in {*self.hosted, *self.outputs}:
                    self._keep_at_host(tensor, plan.arena_bytes, offsets)
        made = self.program.with_statements(self.emitted)
        hosted = {tensor.name for tensor in self.hosted.values()}
        views = storage_of(made.with_statements(one for one in self.emitted if not self._copies(one, hosted)))
        parts = self.storage.parts
        starts = {**views.starts, **{part: self.storage.starts.get(part, 0) for part in parts}}
        placement = Placement(
            offsets,
            plan.arena_bytes,
            plan.peak_bytes,
            {},
            workspaces,
            host_bytes=max(0, self.host_end - plan.arena_bytes),
        )
        storage = Storage(views.views, parts, starts, self.storage.strides)
        return Realised(made, placed(placement, storage), self.originals)

    def _require_fetchable(self, problem: Problem, fetched: set[int]) -> None:
        for step in fetched:
            outputs = self.statements[problem.steps[step].name].outputs
            if any(tensor.name in self.storage.parts for tensor in outputs):
                raise ValueError(
                    f"{self.program.name}: {outputs[0].name} is part of a whole, and is not fetched by itself"
                )

    def _keep_at_host(self, tensor: Tensor, arena: int, offsets: dict[str, int]) -> None:
        """The copy to the host of what was just written."""
        start = max(self.host_end, -(-arena // ALIGNMENT) * ALIGNMENT)
        copy = Tensor(self._free(f"{tensor.name}@host"), tensor.type)
        self.hosted[tensor.name] = copy
        self._append_copy(self.current[tensor.name], copy)
        offsets[copy.name] = start
        self.host_end = start + tensor.type.bytes

    def _fetched(self, tensor: Tensor) -> Tensor:
        """A further occurrence of a value, copied from the host; an output is still where the caller has it."""
        if tensor.name in self.outputs:
            return self.current[tensor.name]
        made = self._named(tensor)
        self._append_copy(self.hosted[tensor.name], made)
        self.current[tensor.name] = made
        self.originals[made.name] = tensor.name
        return made

    def _append_copy(self, source: Tensor, target: Tensor) -> None:
        self.emitted.append(Compute(target, copy_of(source)))

    @staticmethod
    def _copies(statement: Statement, hosted: set[str]) -> bool:
        """Whether the statement moves a value to the host or back, and is no view."""
        names = {tensor.name for tensor in (*statement.inputs, *statement.outputs)}
        return bool(names & hosted)

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
        return Tensor(self._free(f"{tensor.name}#{number}"), tensor.type)

    def _free(self, wish: str) -> str:
        """The name, or one like it that nothing has."""
        while wish in self.taken:
            wish += "'"
        self.taken.add(wish)
        return wish
