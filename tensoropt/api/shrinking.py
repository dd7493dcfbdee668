"""Less memory for the statements that need the most: chains in slabs, kernels with less scratch memory, operands not stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from tensoropt.allocation import Buffer
from tensoropt.ir.program import Array, Compute, Program, Statement
from tensoropt.ir.verifier import verify
from tensoropt.plan_types import Problem

if TYPE_CHECKING:
    from codegen.tune.leaner import Leaner
    from passes.plan.storage import Storage
    from passes.slabs.choosing import Estimate, Goal, Known


WORTH_CUTTING = 0.9
"""Of what is live at a statement, what slabs may leave where they do not meet the budget: less is not worth measuring them."""


@dataclass(frozen=True, slots=True)
class Written:
    """A statement as the model says it, where that needs less scratch memory than what it was rewritten to.

    ``workspace`` is that of its kernel in bytes, ``seconds`` what a run of it takes more; ``constants`` it may read.
    """

    statement: Compute
    constants: Mapping[str, Array]
    workspace: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Smaller:
    """A program that needs less memory where it needed the most.

    ``cut``: the values whose chains are in slabs, ``inlined``: those whose operands are computed while they are packed,
    ``written``: those that are computed as the model says, ``leaner``: the variants of kernels that need less scratch memory;
    ``pieces``: all values that slabs write.
    """

    program: Program
    cut: tuple[str, ...] = ()
    inlined: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    leaner: Mapping[str, Leaner] = field(default_factory=dict)
    pieces: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Shrinking:
    """A program that is to need less: as a planning problem, with the workspaces of its kernels, and where its values are kept.

    ``leaner`` finds a variant of a kernel with scratch memory of at most so many bytes, ``as_written`` what a statement was before
    it was rewritten for speed; ``pieces``: values that slabs write, which are not cut again.
    """

    program: Program
    problem: Problem
    workspaces: Mapping[str, int]
    storage: Storage
    leaner: Callable[[Compute, int], Leaner | None]
    as_written: Callable[[Compute], Written | None]
    pieces: frozenset[str] = frozenset()

    def within(self, most_alone: int, most_live: int, share: float) -> Smaller | None:
        """With every statement computed otherwise that needs more bytes by itself, or while which more are live, than is asked for.

        That may take any time for statements that need more by themselves, in the program's order. For others a plan may find
        something better: they are changed where it takes at most a share of the program's time. None where nothing is done.
        """
        from passes.inline_operands import without_operand
        from passes.slabs.choosing import Estimate, Goal
        from passes.slabs.cutting import in_slabs

        own, live = self._alone(), _live(self.program, self.workspaces)
        needed = {name: (bytes, max(bytes, live[name])) for name, bytes in own.items()}
        duration, known = self.problem.duration / 1e9, self.known()
        goal = Goal(most_alone, most_live, inf if share == inf else duration / most_live)
        statements = {statement.outputs[0].name: statement for statement in self.program.statements}
        cut: list[str] = []
        inlined: list[str] = []
        written: list[str] = []
        leaner: dict[str, Leaner] = {}
        changed = self.program
        for name in sorted((name for name in own if not goal.met(*needed[name])), key=lambda name: -needed[name][1]):
            unchanged = {id(statement) for statement in changed.statements}
            if id(statements[name]) not in unchanged:
                continue
            must = own[name] > most_alone
            limit = inf if must else share * duration
            match self._best(statements[name], goal, needed[name], limit, known, unchanged):
                case Estimate() as found:
                    changed = in_slabs(changed, found.slabs)
                    cut.append(found.slabs.last.name)
                case Written() as found:
                    changed = _replaced(changed, found)
                    written.append(name)
                case None:
                    other = without_operand(changed, name) if must and name not in self.pieces else None
                    if other is not None:
                        changed = other
                        inlined.append(name)
                case found:
                    leaner[name] = found
        verify(changed)
        # an operand that is not stored any more has no kernel
        unchanged = {id(statement) for statement in changed.statements}
        leaner = {name: found for name, found in leaner.items() if id(statements[name]) in unchanged}
        before = {tensor.name for statement in self.program.statements for tensor in statement.outputs}
        after = {tensor.name for statement in changed.statements for tensor in statement.outputs}
        pieces = self.pieces | (after - before if cut else set()) | {*cut}
        smaller = Smaller(changed, tuple(cut), tuple(inlined), tuple(written), leaner, frozenset(pieces))
        return smaller if cut or inlined or written or leaner else None

    def _best(
        self, statement: Statement, goal: Goal, needed: tuple[int, int], limit: float, known: Known, unchanged: set[int]
    ) -> Estimate | Leaner | Written | None:
        """What meets a goal best for at most so many seconds: slabs of statements that are ``unchanged``, or another kernel."""
        from passes.slabs.choosing import cheapest

        name = statement.outputs[0].name
        own, live = needed
        workspace = self.workspaces.get(name, 0)
        choices: list[tuple[tuple[int, int], Estimate | Leaner | Written]] = []
        slabs = cheapest(self.program, name, known, goal)
        if slabs is not None and all(id(one) in unchanged for one in slabs.slabs.statements):
            choices.append(((slabs.own, slabs.bytes), slabs))
        if isinstance(statement, Compute) and _worthwhile(goal, needed, (own - workspace, live - workspace)):
            most = workspace - max(own - goal.own, live - goal.live)
            for other in (self.leaner(statement, most), self.as_written(statement)):
                if other is not None and other.workspace < workspace:
                    saved = workspace - other.workspace
                    choices.append(((own - saved, live - saved), other))
        good = [
            (goal.rank(*left, choice.seconds), choice)
            for left, choice in choices
            if choice.seconds <= limit and _worthwhile(goal, needed, left)
        ]
        return min(good, key=lambda entry: entry[0], default=(None, None))[1]

    def _alone(self) -> dict[str, int]:
        """What each statement is sure to need by itself."""
        from passes.plan.bounds.working_sets import needs

        return {step.name: needed for step, needed in zip(self.problem.steps, needs(self.problem), strict=True)}

    def known(self) -> Known:
        """What the program's order says."""
        from passes.plan.lifetimes import lifetimes
        from passes.slabs.choosing import Known

        program, storage = self.program, self.storage
        others = _live_values(program, lifetimes(program, {}, storage).problem.buffers)
        seconds = {step.name: step.duration / 1e9 for step in self.problem.steps}
        callers = {tensor.name for tensor in (*program.inputs, *program.outputs)}
        callers |= program.constants.keys()
        owners = {name: storage.owner(name) for name in (*storage.parts, *storage.views)}
        callers |= {name for name, owner in owners.items() if owner in callers}
        cut = self.pieces | {*storage.parts.values()}
        return Known(others, seconds, self.workspaces, callers, cut, owners)


def _replaced(program: Program, written: Written) -> Program:
    """The program with a statement as the model says it."""
    name = written.statement.output.name
    statements = [written.statement if one.outputs[0].name == name else one for one in program.statements]
    return program.with_statements(statements, {**written.constants, **program.constants})


def _worthwhile(goal: Goal, before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether what a statement needs by itself, and what is live, gets markedly less, or little enough."""
    if goal.met(*after):
        return True
    too_much = [(old, new) for old, new, most in zip(before, after, (goal.own, goal.live), strict=True) if old > most]
    return any(new < old * WORTH_CUTTING for old, new in too_much)


def _live(program: Program, workspaces: Mapping[str, int]) -> dict[str, int]:
    """The bytes that are live while each statement runs in the program's order, by the first value that it writes."""
    from passes.plan.in_place import takeovers
    from passes.plan.lifetimes import joined_storage, lifetimes

    storage = joined_storage(program)
    buffers = lifetimes(program, workspaces, storage, takeovers(program, storage)).problem.buffers
    return {name: sum(live.values()) for name, live in _live_values(program, buffers).items()}


def _live_values(program: Program, buffers: Iterable[Buffer]) -> dict[str, dict[str, int]]:
    """The bytes of each buffer that are live while a statement runs, by the first value that the statement writes."""
    spans = [(buffer.name, span) for buffer in buffers for span in buffer.spans]
    found: dict[str, dict[str, int]] = {}
    for step, statement in enumerate(program.statements):
        live = found[statement.outputs[0].name] = {}
        for name, span in spans:
            if span.first <= step <= span.last:
                live[name] = live.get(name, 0) + span.bytes
    return found
