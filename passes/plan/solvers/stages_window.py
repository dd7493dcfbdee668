"""A stretch of a sequence as stages: one first computation each, and the recomputations that stand before it.

A window leaves everything before and after it as it is. What it has to know of the rest is which values are in memory where it
begins, and which have to be where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from passes.plan.trace import trace
from tensoropt.plan_types import Problem


@dataclass(frozen=True, slots=True)
class Staged:
    """``order`` are the first computations; ``again[stage]`` the recomputations before the one of that stage, in their order.

    There is one stage more than first computations, for what is recomputed at the end.
    """

    order: tuple[int, ...]
    again: tuple[tuple[int, ...], ...]

    @property
    def sequence(self) -> tuple[int, ...]:
        """The positions of all stages, one after the other."""
        return (*self.between(0, len(self.order) - 1), *self.again[-1])

    def between(self, first: int, last: int) -> tuple[int, ...]:
        """The positions of stages ``first`` to ``last``, both included."""
        return tuple(number for stage in range(first, last + 1) for number in (*self.again[stage], self.order[stage]))


def staged(sequence: Sequence[int]) -> Staged:
    """A sequence, divided at its first computations."""
    order: list[int] = []
    again: list[list[int]] = [[]]
    seen: set[int] = set()
    for number in sequence:
        if number in seen:
            again[-1].append(number)
        else:
            seen.add(number)
            order.append(number)
            again.append([])
    return Staged(tuple(order), tuple(tuple(numbers) for numbers in again))


@dataclass(frozen=True, slots=True)
class Window:
    """Stages ``first`` to ``last`` of ``order``, and stage ``last + 1`` as far as it makes the values ``leaving``.

    ``entering`` are the values that may be in memory when the first stage begins; no other is.
    """

    order: tuple[int, ...]
    first: int
    last: int
    entering: frozenset[int]
    leaving: frozenset[int]

    @property
    def ends(self) -> bool:
        """Whether nothing follows the window."""
        return self.last + 1 == len(self.order)


def whole(problem: Problem, order: Sequence[int]) -> Window:
    """All stages of an order: nothing enters, and what is kept leaves."""
    kept = frozenset(number for number, value in enumerate(problem.values) if value.kept)
    return Window(tuple(order), 0, len(order) - 1, frozenset(), kept)


def within(problem: Problem, plan: Staged, first: int, last: int) -> Window:
    """The window of a plan from the recomputations of stage ``first`` to the computation of ``last``, or to the plan's end."""
    if last + 1 == len(plan.order):
        return replace(whole(problem, plan.order), first=first, entering=frozenset(_live_across(problem, plan, first)))
    return Window(
        plan.order,
        first,
        last,
        frozenset(_live_across(problem, plan, first)),
        frozenset(_live_across(problem, plan, last + 1)),
    )


def _live_across(problem: Problem, plan: Staged, stage: int) -> set[int]:
    """The values that are in memory, and serve something later, where a stage begins."""
    begin = len(plan.between(0, stage - 1))
    found: set[int] = set()
    for occurrences in trace(problem, plan.sequence).written:
        for one in occurrences:
            kept_to_end = problem.values[one.value].kept and one.last == len(plan.sequence) - 1
            if one.first < begin <= (len(plan.sequence) if kept_to_end else one.last):
                found.add(one.value)
    return found


def candidates(problem: Problem, window: Window, depth: int) -> list[set[int]]:
    """For each step, the stages of the window before which it may be recomputed: those of readers, and of readers' recomputations.

    To recompute a value earlier than before a use only takes memory. A use may be by a recomputation, and that one's by another:
    ``depth`` is how many there may be in between. What leaves is read at stage ``last + 1``.
    """
    place = {number: stage for stage, number in enumerate(window.order)}
    uses: list[set[int]] = [set() for _ in problem.steps]
    for number, step in enumerate(problem.steps):
        if step.recomputable and place[number] <= window.last:
            readers = {place[reader] for value in step.writes for reader in problem.readers[value]}
            uses[number] = {stage for stage in readers if window.first <= stage <= window.last}
            if window.leaving.intersection(step.writes):
                uses[number].add(window.last + 1)
    found = uses
    for _ in range(depth):
        nested = [set(stages) for stages in found]
        for number, step in enumerate(problem.steps):
            if step.recomputable and place[number] <= window.last:
                for value in step.writes:
                    for reader in problem.readers[value]:
                        nested[number] |= found[reader]
        if nested == found:
            break
        found = nested
    return found
