"""The moments at which bounds look at a plan: the first computations of some steps, whose order in time is known.

In the input order the first computations of any steps follow one another. In a free order those of a chain of the graph do: each
step an ancestor of the next. What else is known of the time of a step's first computation is that it lies after its ancestors'
and before its descendants', which is all that bounds on plans in any order may use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tensoropt.plan_types import Order, Problem


@dataclass(frozen=True, slots=True)
class Moments:
    """``steps`` in order of time; moment k is the first computation of ``steps[k]``.

    The first computation of a step comes after the moment ``after`` (-1: none) and before the moment ``before`` (the number of
    moments: none). A step of the moments has its own as ``at``, which is None for others.
    """

    steps: tuple[int, ...]
    at: tuple[int | None, ...]
    after: tuple[int, ...]
    before: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many moments there are; this number stands for the end of the plan."""
        return len(self.steps)


def moments(problem: Problem, order: Order, steps: Sequence[int]) -> Moments:
    """The moments of steps that ascend; in a free order they must form a chain (ValueError)."""
    count = len(problem.steps)
    at: list[int | None] = [None] * count
    for moment, step in enumerate(steps):
        at[step] = moment
    after, before = [-1] * count, [len(steps)] * count
    if order == "input":
        for step in range(1, count):
            own = at[step - 1]
            after[step] = after[step - 1] if own is None else own
        for step in range(count - 2, -1, -1):
            own = at[step + 1]
            before[step] = before[step + 1] if own is None else own
    else:
        for step in range(count):
            for value in problem.steps[step].reads:
                writer = problem.writer[value]
                own = at[writer]
                after[step] = max(after[step], after[writer] if own is None else own)
        for step in range(count - 1, -1, -1):
            own = at[step]
            for value in problem.steps[step].reads:
                writer = problem.writer[value]
                before[writer] = min(before[writer], before[step] if own is None else own)
        if any(after[step] != moment - 1 for moment, step in enumerate(steps)):
            raise ValueError("the steps do not form a chain of the graph")
    return Moments(tuple(steps), tuple(at), tuple(after), tuple(before))


def loads(problem: Problem, order: Order) -> list[float]:
    """For each step the bytes that must be live, or recomputed after it, when it is first computed, its workspace included.

    Those are the values that it or an earlier step writes and it or a later step reads or the end keeps, where earlier and later
    are ancestors and descendants in a free order. Rounded: for choosing moments only.
    """
    count = len(problem.steps)
    found = np.array([_rounded(step.workspace) for step in problem.steps], np.float64)
    if order == "input":
        changes = np.zeros(count + 1)
        for value, one in enumerate(problem.values):
            last = count - 1 if one.kept else max(problem.readers[value], default=problem.writer[value])
            changes[problem.writer[value]] += _rounded(one.bytes)
            changes[last + 1] -= _rounded(one.bytes)
        return [float(one) for one in found + np.cumsum(changes)[:count]]
    earlier, later = relatives(problem)
    for value, one in enumerate(problem.values):
        writer = problem.writer[value]
        served = 0
        for reader in problem.readers[value]:
            served |= earlier[reader]
        span = later[writer] if one.kept else later[writer] & served
        span |= 1 << writer
        bits = np.frombuffer(span.to_bytes(count // 8 + 1, "little"), np.uint8)
        found += _rounded(one.bytes) * np.unpackbits(bits, count=count, bitorder="little")
    return [float(one) for one in found]


def _rounded(bytes_: int) -> float:
    """A number that sums do not overflow."""
    return float(min(bytes_, 1 << 900))


def live_values(problem: Problem) -> int:
    """How many values are live at a step on average if the input order is run as it is, which is how long rows of memory are."""
    spans = (
        max(readers, default=writer) - writer for writer, readers in zip(problem.writer, problem.readers, strict=True)
    )
    return 1 + sum(spans) // max(1, len(problem.steps))


def relatives(problem: Problem) -> tuple[list[int], list[int]]:
    """The ancestors and the descendants of every step, itself included, as sets of bits."""
    earlier = [1 << step for step in range(len(problem.steps))]
    later = list(earlier)
    for step, one in enumerate(problem.steps):
        for value in one.reads:
            earlier[step] |= earlier[problem.writer[value]]
    for step in range(len(problem.steps) - 1, -1, -1):
        for value in problem.steps[step].reads:
            later[problem.writer[value]] |= later[step]
    return earlier, later


def heaviest_chain(problem: Problem, weights: Sequence[float]) -> tuple[int, ...]:
    """The chain of the graph, one step read by the next, that weighs most; with all weights positive it is a longest path."""
    best = [float(weight) for weight in weights]
    came: list[int | None] = [None] * len(best)
    for step, one in enumerate(problem.steps):
        for value in one.reads:
            writer = problem.writer[value]
            if best[writer] + weights[step] > best[step]:
                best[step], came[step] = best[writer] + weights[step], writer
    if not best:
        return ()
    last: int | None = max(range(len(best)), key=best.__getitem__)
    chain = []
    while last is not None:
        chain.append(last)
        last = came[last]
    return tuple(reversed(chain))
