"""Less memory for the statements that need the most: chains in slabs, kernels with less scratch memory, operands not stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.verifier import verify
from tensoropt.plan_types import Problem

if TYPE_CHECKING:
    from codegen.tune.leaner import Leaner
    from passes.slabs.choosing import Estimate, Goal, Known


WORTH_CUTTING = 0.9
"""Of what is live at a statement, what slabs may leave where they do not meet the budget: less is not worth measuring them."""


@dataclass(frozen=True, slots=True)
class Smaller:
    """A program that needs less memory where it needed the most.

    ``cut``: the values whose chains are in slabs, ``inlined``: those whose operands are computed while they are packed, ``leaner``:
    the variants of kernels that need less scratch memory; ``pieces``: all values that slabs write.
    """

    program: Program
    cut: tuple[str, ...] = ()
    inlined: tuple[str, ...] = ()
    leaner: Mapping[str, Leaner] = field(default_factory=dict)
    pieces: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Shrinking:
    """A program that is to need less: as a planning problem, with the workspaces of its kernels in bytes.

    ``leaner`` finds a kernel with scratch memory of at most so many bytes; ``pieces``: values that slabs write, which are not cut
    again.
    """

    program: Program
    problem: Problem
    workspaces: Mapping[str, int]
    leaner: Callable[[Compute, int], Leaner | None]
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
        duration, known = self.problem.duration / 1e9, self._known()
        goal = Goal(most_alone, most_live, inf if share == inf else duration / most_live)
        written = {statement.outputs[0].name: statement for statement in self.program.statements}
        cut: list[str] = []
        inlined: list[str] = []
        leaner: dict[str, Leaner] = {}
        changed = self.program
        for name in sorted((name for name in own if not goal.met(*needed[name])), key=lambda name: -needed[name][1]):
            unchanged = {id(statement) for statement in changed.statements}
            if id(written[name]) not in unchanged:
                continue
            must = own[name] > most_alone
            limit = inf if must else share * duration
            match self._best(written[name], goal, needed[name], limit, known, unchanged):
                case Estimate() as found:
                    changed = in_slabs(changed, found.slabs)
                    cut.append(found.slabs.last.name)
                case None:
                    other = without_operand(changed, name) if must and name not in self.pieces else None
                    if other is not None:
                        changed = other
                        inlined.append(name)
                case found:
                    leaner[name] = found
        verify(changed)
        before = {tensor.name for statement in self.program.statements for tensor in statement.outputs}
        after = {tensor.name for statement in changed.statements for tensor in statement.outputs}
        pieces = self.pieces | (after - before if cut else set()) | {*cut}
        smaller = Smaller(changed, tuple(cut), tuple(inlined), leaner, frozenset(pieces))
        return smaller if cut or inlined or leaner else None

    def _best(
        self, statement: Statement, goal: Goal, needed: tuple[int, int], limit: float, known: Known, unchanged: set[int]
    ) -> Estimate | Leaner | None:
        """What meets a goal best for at most so many seconds: slabs of statements that are ``unchanged``, or another kernel."""
        from passes.slabs.choosing import cheapest

        name = statement.outputs[0].name
        slabs = cheapest(self.program, name, known, goal)
        if slabs is not None and not (
            slabs.seconds <= limit
            and _worthwhile(goal, needed, (slabs.own, slabs.bytes))
            and all(id(one) in unchanged for one in slabs.slabs.statements)
        ):
            slabs = None
        less = self._leaner(statement, goal, needed)
        if less is None or less.seconds > limit:
            return slabs
        own, live = (bytes - self.workspaces[name] + less.workspace for bytes in needed)
        better = slabs is None or goal.rank(own, live, less.seconds) <= goal.rank(slabs.own, slabs.bytes, slabs.seconds)
        return less if better else slabs

    def _leaner(self, statement: Statement, goal: Goal, before: tuple[int, int]) -> Leaner | None:
        """A kernel with less scratch memory for a statement that needs so much by itself, and while which so much is live."""
        workspace = self.workspaces.get(statement.outputs[0].name, 0)
        own, live = before
        if not isinstance(statement, Compute) or not _worthwhile(goal, before, (own - workspace, live - workspace)):
            return None
        found = self.leaner(statement, workspace - max(own - goal.own, live - goal.live))
        if found is None:
            return None
        saved = workspace - found.workspace
        return found if saved > 0 and _worthwhile(goal, before, (own - saved, live - saved)) else None

    def _alone(self) -> dict[str, int]:
        """What each statement is sure to need by itself."""
        from passes.plan.bounds.working_sets import needs

        return {step.name: needed for step, needed in zip(self.problem.steps, needs(self.problem), strict=True)}

    def _known(self) -> Known:
        """What the program's order says: with a place of its own for every value, as slabs leave concatenations."""
        from passes.plan.lifetimes import lifetimes
        from passes.plan.storage import storage_of
        from passes.slabs.choosing import Known

        program = self.program
        storage = storage_of(program)
        buffers = lifetimes(program, {}, storage).problem.buffers
        others = {
            statement.outputs[0].name: {one.name: one.bytes for one in buffers if one.first <= step <= one.last}
            for step, statement in enumerate(program.statements)
        }
        seconds = {step.name: step.duration / 1e9 for step in self.problem.steps}
        callers = {tensor.name for tensor in (*program.inputs, *program.outputs)}
        callers |= program.constants.keys() | storage.views.keys()
        return Known(others, seconds, self.workspaces, callers, self.pieces)


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
    spans = [span for buffer in buffers for span in buffer.spans]
    return {
        statement.outputs[0].name: sum(span.bytes for span in spans if span.first <= step <= span.last)
        for step, statement in enumerate(program.statements)
    }
