"""Less memory for the statements that need the most: their chains in slabs, or operands computed while they are packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from tensoropt.ir.program import Program
from tensoropt.ir.verifier import verify
from tensoropt.plan_types import Problem

if TYPE_CHECKING:
    from passes.slabs.choosing import Estimate, Known


WORTH_CUTTING = 0.9
"""Of what is live at a statement, what slabs may leave where they do not meet the budget: less is not worth measuring them."""


@dataclass(frozen=True, slots=True)
class Smaller:
    """A program that needs less memory where it needed the most.

    ``cut``: the values whose chains are in slabs, ``inlined``: those whose operands are computed while they are packed; ``pieces``:
    all values that slabs write.
    """

    program: Program
    cut: tuple[str, ...] = ()
    inlined: tuple[str, ...] = ()
    pieces: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Shrinking:
    """A program that is to need less: as a planning problem, with the workspaces of its kernels in bytes.

    ``pieces``: values that slabs write, which are not cut again.
    """

    program: Program
    problem: Problem
    workspaces: Mapping[str, int]
    pieces: frozenset[str] = frozenset()

    def within(self, budget: int, share: float) -> Smaller | None:
        """With every statement at which more is live than a budget computed otherwise, in the program's order.

        That may take any time for statements that need more than the budget by themselves. For others a plan may find something
        better: they are cut where it takes at most a share of the program's time. None where nothing is done.
        """
        from passes.inline_operands import without_operand
        from passes.slabs.cutting import in_slabs

        alone, live, known = self._alone(), _live(self.program, self.workspaces), self._known()
        needed = {name: max(live[name], own) for name, own in alone.items()}
        names = sorted((name for name in alone if needed[name] > budget), key=lambda name: -needed[name])
        duration = self.problem.duration / 1e9
        written = {statement.outputs[0].name: statement for statement in self.program.statements}
        cut: list[str] = []
        inlined: list[str] = []
        changed = self.program
        for name in names:
            unchanged = {id(statement) for statement in changed.statements}
            if id(written[name]) not in unchanged:
                continue
            must = alone[name] > budget
            found = self._cheapest(name, known, budget, inf if must else share, inf if must else duration / budget)
            if found is not None and all(id(statement) in unchanged for statement in found.slabs.statements):
                changed = in_slabs(changed, found.slabs)
                cut.append(found.slabs.last.name)
                continue
            other = without_operand(changed, name) if must else None
            if other is not None:
                changed = other
                inlined.append(name)
        verify(changed)
        before = {tensor.name for statement in self.program.statements for tensor in statement.outputs}
        after = {tensor.name for statement in changed.statements for tensor in statement.outputs}
        pieces = self.pieces | (after - before if cut else set()) | {*cut}
        return Smaller(changed, tuple(cut), tuple(inlined), frozenset(pieces)) if cut or inlined else None

    def _alone(self) -> dict[str, int]:
        """What each statement is sure to need by itself, pieces apart."""
        from passes.plan.bounds.working_sets import needs

        own = zip(self.problem.steps, needs(self.problem), strict=True)
        return {step.name: needed for step, needed in own if step.name not in self.pieces}

    def _cheapest(self, name: str, known: Known, budget: int, share: float, penalty: float) -> Estimate | None:
        """The slabs that save memory at a statement, within a share of the program's time."""
        from passes.slabs.choosing import cheapest

        found = cheapest(self.program, name, known, budget, penalty)
        before = sum(known.others[name].values()) + self.workspaces.get(name, 0)
        limit = share * self.problem.duration / 1e9
        worth = found is not None and (found.bytes <= budget or found.bytes < before * WORTH_CUTTING)
        return found if found is not None and worth and found.seconds <= limit else None

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
