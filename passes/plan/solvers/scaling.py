"""Sizes and durations as integers that a constraint solver holds: divided by what they have in common, rounded where they must be.

Sizes are rounded up and the budget down, so that what fits rounded fits; durations are rounded down, so that a bound of the
rounded is one of the true ones. Whether either was rounded is said: an optimum or an impossibility of the rounded proves nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tensoropt.plan_types import Problem

LARGEST_SUM = 2**40
"""What all sizes, or all durations, together are at most: sums over several copies of each stay far below 2^63."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """Per value, per step and per step, in units of ``size_unit`` bytes and ``time_unit``."""

    sizes: tuple[int, ...]
    workspaces: tuple[int, ...]
    durations: tuple[int, ...]
    budget: int
    size_unit: int
    time_unit: int
    sizes_exact: bool
    durations_exact: bool


def scaled(problem: Problem, budget: int) -> Scaled:
    """The problem's integers in the smallest units that keep their sums in range. The budget is at most the sum of all sizes."""
    sizes = [value.bytes for value in problem.values]
    workspaces = [step.workspace for step in problem.steps]
    durations = [step.duration for step in problem.steps]
    size_unit, sizes_exact = _unit([*sizes, *workspaces])
    time_unit, durations_exact = _unit(durations)
    up = [-(-size // size_unit) for size in sizes]
    workspaces_up = [-(-size // size_unit) for size in workspaces]
    # More than everything at once, each value twice as when it is written over itself, is never needed.
    most = 2 * sum(up) + sum(workspaces_up)
    return Scaled(
        tuple(up),
        tuple(workspaces_up),
        tuple(duration // time_unit for duration in durations),
        max(-1, min(budget // size_unit, most)),
        size_unit,
        time_unit,
        sizes_exact,
        durations_exact,
    )


def _unit(numbers: list[int]) -> tuple[int, bool]:
    """A divisor of the numbers, or where their sum would be too large, a greater unit that is none."""
    common = math.gcd(*numbers) or 1
    total = sum(numbers) // common
    if total <= LARGEST_SUM:
        return common, True
    return common * -(-total // LARGEST_SUM), False
