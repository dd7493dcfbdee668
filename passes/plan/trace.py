"""What a sequence means: every occurrence of every value with the positions at which it is live. The plain definition.

Solvers evaluate the same incrementally in compiled code and are tested against this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensoropt.plan_types import Problem


@dataclass(slots=True)
class Occurrence:
    """A value written at position ``first``, live up to ``last``; ``over`` is the occurrence whose bytes it took over."""

    value: int
    first: int
    last: int
    over: Occurrence | None = None


@dataclass(frozen=True)
class Trace:
    """``written[position]`` are the occurrences that the step there writes, in the order of its values."""

    problem: Problem
    sequence: tuple[int, ...]
    written: tuple[tuple[Occurrence, ...], ...]

    def profile(self) -> list[int]:
        """Bytes at each position of the sequence."""
        changes = [0] * (len(self.sequence) + 1)
        for occurrences in self.written:
            for one in occurrences:
                start = one.first if one.over is None else one.first + 1
                if start <= one.last:
                    changes[start] += self.problem.values[one.value].bytes
                    changes[one.last + 1] -= self.problem.values[one.value].bytes
        live, profile = 0, []
        for position, step in enumerate(self.sequence):
            live += changes[position]
            profile.append(live + self.problem.actions[step].workspace)
        return profile

    def peak(self) -> int:
        """The most bytes at any position; 0 for an empty sequence."""
        return max(self.profile(), default=0)

    def duration(self) -> int:
        """Of all that the sequence does."""
        return self.problem.duration_of(self.sequence)


def trace(problem: Problem, sequence: Sequence[int]) -> Trace:
    """The occurrences of a sequence. ValueError, which names the step, where a step reads or fetches what was not yet written."""
    latest: dict[int, Occurrence] = {}
    written: list[tuple[Occurrence, ...]] = []
    served: list[list[Occurrence]] = []
    for position, number in enumerate(sequence):
        step = problem.actions[number]
        fetched = step.writes if number >= len(problem.steps) else ()
        for value in (*step.reads, *fetched):
            if value not in latest:
                raise ValueError(
                    f"{step.name} at position {position} reads {problem.values[value].name} before it is written"
                )
        for value in step.reads:
            latest[value].last = position
        served.append([latest[value] for value in step.reads])
        occurrences = tuple(Occurrence(value, position, position) for value in step.writes)
        latest |= {one.value: one for one in occurrences}
        written.append(occurrences)
    for value, one in latest.items():
        if problem.values[value].kept:
            one.last = max(one.last, len(sequence) - 1)
    for position, number in enumerate(sequence):
        for result, source in problem.actions[number].in_place:
            read = next(one for one in served[position] if one.value == source)
            kept = problem.values[source].kept and latest[source] is read
            if read.last == position and not kept:
                next(one for one in written[position] if one.value == result).over = read
                break
    return Trace(problem, tuple(sequence), tuple(written))
