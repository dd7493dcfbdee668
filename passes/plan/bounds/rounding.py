"""From a solution of the gap-cover program to a plan in the input order, of the same duration or a shorter one.

Every recomputation or fetch goes right before the next use of what it writes, or earlier where another recomputation needs it. On
training graphs the plan often fits the budget, and is then optimal, for the program bounds all plans. Where recomputations nest it
may not: what they take beside one another is in no row of the program.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from passes.plan.bounds.gap_cover import GapCover, Segments
from passes.plan.bounds.program import Literal
from passes.plan.trace import trace

True_ = Callable[[Literal], bool]


@dataclass(frozen=True, slots=True)
class Rounded:
    """A sequence in the input order, with its duration and its peak, which may be over the budget."""

    sequence: tuple[int, ...]
    duration: int
    peak_bytes: int


def rounded(cover: GapCover, values: tuple[bool, ...]) -> Rounded:
    """The plan of a solution of a program over all first computations in the input order."""
    problem = cover.problem
    assert cover.moments.count == len(problem.steps)
    chosen = _placed(cover, lambda literal: cover.program.holds(literal, values))
    candidates = []
    for arranged in (_ascending, _by_need):
        sequence: list[int] = []
        for step in range(len(problem.steps)):
            sequence += arranged(cover, step, chosen.get(step, []))
            sequence.append(step)
        sequence += arranged(cover, None, chosen.get(len(problem.steps), []))
        found = trace(problem, sequence)
        candidates.append(Rounded(found.sequence, found.duration(), found.peak()))
    return min(candidates, key=lambda one: one.peak_bytes)


def _placed(cover: GapCover, true: True_) -> dict[int, list[int]]:
    """The actions by the moment right before which they come, each list in the order of the steps.

    Steps are placed from the last to the first, so that what a recomputation serves is placed before it.
    """
    problem = cover.problem
    needed: list[list[int]] = [[] for _ in problem.steps]
    placed: dict[int, list[int]] = {}
    for step in range(len(problem.steps) - 1, -1, -1):
        found = cover.segments[step]
        for segment in range(len(found.recomputed)):
            fetched = true(found.fetched[segment])
            if not fetched and not true(found.recomputed[segment]):
                continue
            start, end = found.ends[segment : segment + 2]
            latest = [moment for moment in needed[step] if start < moment <= end]
            used = any(true(found.present[value][segment + 1]) for value in problem.steps[step].writes)
            if not latest and not used:
                continue
            if fetched:
                placed.setdefault(min([*latest, end]), []).append(step + len(problem.steps))
                continue
            moment = _latest(cover, true, step, start, min([*latest, end]))
            placed.setdefault(moment, []).append(step)
            for value in problem.steps[step].reads:
                needed[problem.writer[value]].append(moment)
    return {moment: sorted(actions, key=problem.step_of) for moment, actions in placed.items()}


def _latest(cover: GapCover, true: True_, step: int, start: int, end: int) -> int:
    """The last moment after ``start`` and up to ``end`` right before which all that a step reads can be had; ``end`` if none."""
    sources = [(cover.segments[cover.problem.writer[value]], value) for value in cover.problem.steps[step].reads]
    for moment in range(end, start, -1):
        if all(_available(source, true, value, moment) for source, value in sources):
            return moment
    return end


def _available(found: Segments, true: True_, value: int, moment: int) -> bool:
    """Whether a value is live at the moment before, or had again in the segment around."""
    segment = bisect_left(found.ends, moment) - 1
    if segment < len(found.recomputed) and (true(found.recomputed[segment]) or true(found.fetched[segment])):
        return True
    if found.ends[segment] == moment - 1:
        return true(found.present[value][segment])
    return segment < len(found.recomputed) and true(found.retained[value][segment])


def _ascending(cover: GapCover, step: int | None, again: list[int]) -> list[int]:
    """Actions in the order of the input."""
    return again


def _by_need(cover: GapCover, step: int | None, again: list[int]) -> list[int]:
    """Actions depth first from what they serve: each right before the first that reads it."""
    problem = cover.problem
    left = {problem.step_of(action): action for action in again}
    order: list[int] = []

    def visit(number: int) -> None:
        for value in problem.actions[number].reads:
            writer = problem.writer[value]
            if writer in left:
                action = left.pop(writer)
                visit(action)
                order.append(action)

    if step is not None:
        visit(step)
    for action in reversed(again):
        if left.pop(problem.step_of(action), None) is not None:
            visit(action)
            order.append(action)
    return order
