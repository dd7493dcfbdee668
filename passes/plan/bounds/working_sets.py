"""Proofs that no plan of any order fits a budget, from single steps and from what must be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from passes.plan.bounds.moments import relatives
from tensoropt.plan_types import Problem

Holds = Literal["any order", "input order"]
"""The plans that a bound or a proof is about."""


@dataclass(frozen=True, slots=True)
class Infeasible:
    """No plan of a class keeps within the budget: ``holds_for`` says which, ``reason`` why."""

    reason: str
    holds_for: Holds


def working_set(problem: Problem, number: int) -> int:
    """The bytes of what a step reads and writes and of its workspace, without what writing in place may save."""
    step = problem.steps[number]
    return step.workspace + sum(problem.values[value].bytes for value in {*step.reads, *step.writes})


def saved_in_place(problem: Problem, number: int) -> int:
    """The most bytes that a step saves by writing in place."""
    return max((problem.values[result].bytes for result, _ in problem.steps[number].in_place), default=0)


def needs(problem: Problem) -> list[int]:
    """What each step is sure to need: its own values, what writing in place may save apart, and what cannot be had again."""
    held = _held(problem)
    return [
        working_set(problem, number) - saved_in_place(problem, number) + held[number]
        for number in range(len(problem.steps))
    ]


def working_sets(problem: Problem, budget: int) -> Infeasible | None:
    """A proof that no plan fits the budget, or None where these show nothing.

    While a step runs, its own values are live, and with them the values that cannot be had again: written by an ancestor that must
    not be run twice, where there is no paging, and read by a descendant or kept. At the end all kept values are live.
    """
    kept = sum(value.bytes for value in problem.values if value.kept)
    if kept > budget:
        return Infeasible(f"the values kept to the end take {kept} bytes", "any order")
    for step, needed in zip(problem.steps, needs(problem), strict=True):
        if needed > budget:
            return Infeasible(f"{step.name} needs {needed} bytes while it runs", "any order")
    return None


def _held(problem: Problem) -> list[int]:
    """For each step the bytes beside its own that are live at its first computation because they cannot be recomputed."""
    held = [0] * len(problem.steps)
    unique = [value for value in range(len(problem.values)) if not problem.steps[problem.writer[value]].recomputable]
    if not unique or problem.transfers:
        return held
    earlier, later = relatives(problem)
    for value in unique:
        served = 0
        for reader in problem.readers[value]:
            served |= earlier[reader]
        writer = problem.writer[value]
        span = later[writer] if problem.values[value].kept else later[writer] & served
        for number, step in enumerate(problem.steps):
            if span >> number & 1 and value not in step.reads and value not in step.writes:
                held[number] += problem.values[value].bytes
    return held
