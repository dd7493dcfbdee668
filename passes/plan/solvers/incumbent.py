"""The best sequence so far: what a model returns, rid of superfluous recomputations and judged by the plain definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from passes.plan.solving import Better
from passes.plan.trace import trace
from tensoropt.plan_types import Problem


def pruned(problem: Problem, sequence: Sequence[int], budget: int) -> tuple[int, ...]:
    """A sequence within the budget without those recomputations that can be left out one by one, the longest first.

    A model leaves in what costs nothing, or what it has not yet found to be superfluous. First computations stay where they are.
    """
    best = tuple(sequence)
    seen: set[int] = set()
    again: list[tuple[int, int]] = []
    for position, number in enumerate(best):
        if number in seen:
            again.append((problem.steps[number].duration, position))
        seen.add(number)
    left_out: set[int] = set()
    for _, position in sorted(again, reverse=True):
        fewer = [number for at, number in enumerate(sequence) if at != position and at not in left_out]
        if trace(problem, fewer).peak() <= budget:
            left_out.add(position)
            best = tuple(fewer)
    return best


@dataclass(slots=True)
class Incumbent:
    """The best sequence that was offered and is within the budget; ``better`` is told of each."""

    problem: Problem
    budget: int
    better: Better
    sequence: tuple[int, ...] | None = None
    duration: int = 0

    def offer(self, sequence: Sequence[int]) -> None:
        """Takes a sequence, pruned, if it is within the budget and shorter than the best so far."""
        if trace(self.problem, sequence).peak() > self.budget:
            return
        shorter = pruned(self.problem, sequence, self.budget)
        duration = trace(self.problem, shorter).duration()
        if self.sequence is None or duration < self.duration:
            self.sequence, self.duration = shorter, duration
            self.better(shorter)
