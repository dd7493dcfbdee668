"""The stage bound: what is computed or fetched between a few moments, and retained over each, so that memory fits at those moments.

Checkmate's program (Jain et al., MLSys 2020, section 4) with few stages instead of one for each step, and memory counted only
where stages meet. With one moment it is a closure of least cost with a knapsack row. The moments are first computations in their
known order: any steps where plans keep the input order; for plans in any order the steps of a chain, where all that is known of
the stage of another step's first computation is that it is after its ancestors' and before its descendants'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from passes.plan.bounds.moments import Moments
from passes.plan.bounds.program import FALSE, TRUE, BinaryProgram, Literal
from passes.plan.bounds.working_sets import working_set
from tensoropt.plan_types import Problem


@dataclass(frozen=True, slots=True)
class Stages:
    """No plan of the moments' order takes less than ``fixed`` and the least cost of the program together."""

    program: BinaryProgram
    fixed: int


def stages(problem: Problem, budget: int, moments: Moments) -> Stages:
    """Stage k ends with moment k, the last one with the plan."""
    program, fixed = BinaryProgram(), 0
    runs: list[list[Literal]] = []
    fetches: list[list[Literal]] = []
    first: list[int] = []
    for number, step in enumerate(problem.steps):
        own = moments.at[number]
        early, late = (moments.after[number] + 1, moments.before[number]) if own is None else (own, own)
        first.append(early)
        fixed += step.duration if early == late else 0
        runs.append(
            [_run(program, step.duration, stage, early, late, step.recomputable) for stage in range(moments.count + 1)]
        )
        program.clause(*runs[-1][early : late + 1])
        fetches.append(_fetches(problem, program, number, early, runs[-1]))
        if not step.recomputable:
            program.at_most([(1, literal) for literal in runs[-1] if literal != FALSE], 1)
    retained = [
        [program.boolean() if first[problem.writer[value]] <= moment else FALSE for moment in range(moments.count)]
        for value in range(len(problem.values))
    ]
    for value, held in enumerate(retained):
        writer = problem.writer[value]
        for stage in range(moments.count + 1):
            had = (held[stage - 1] if stage else FALSE, runs[writer][stage], fetches[writer][stage])
            if stage < moments.count:
                program.clause(~held[stage], *had)
            elif problem.values[value].kept:
                program.clause(*had)
            for reader in problem.readers[value]:
                program.clause(~runs[reader][stage], *had)
    for moment, number in enumerate(moments.steps):
        _memory(problem, budget, program, number, [held[moment] for held in retained])
    return Stages(program, fixed)


def _run(program: BinaryProgram, duration: int, stage: int, early: int, late: int, recomputable: bool) -> Literal:
    """Whether a step runs in a stage, where its first computation is in one of the stages from ``early`` to ``late``."""
    if stage < early or (stage > late and not recomputable):
        return FALSE
    return TRUE if early == late == stage else program.boolean(duration)


def _fetches(problem: Problem, program: BinaryProgram, step: int, early: int, runs: Sequence[Literal]) -> list[Literal]:
    """Whether what a step wrote is fetched in a stage, after one in which it ran; with the copy to the host that this needs."""
    if not problem.transfers or early + 1 >= len(runs):
        return [FALSE] * len(runs)
    transfer = problem.transfers[step]
    found = [program.boolean(transfer) if stage > early else FALSE for stage in range(len(runs))]
    copied = program.boolean(transfer)
    for stage in range(early + 1, len(runs)):
        program.clause(~found[stage], copied)
        program.clause(~found[stage], *runs[early:stage])
    return found


def _memory(problem: Problem, budget: int, program: BinaryProgram, number: int, held: Sequence[Literal]) -> None:
    """What is retained over the first computation of a step fits the budget beside its working set, less what it saves in place."""
    step = problem.steps[number]
    terms = [
        (problem.values[value].bytes, literal)
        for value, literal in enumerate(held)
        if value not in step.reads and value not in step.writes
    ]
    saved = []
    for result, source in step.in_place:
        literal = program.boolean()
        program.clause(~literal, ~held[source])
        saved.append((-problem.values[result].bytes, literal))
    program.at_most([(1, literal) for _, literal in saved], 1)
    program.at_most([*terms, *saved], budget - working_set(problem, number))


def loaded(candidates: Sequence[int], weights: Sequence[float], count: int) -> tuple[int, ...]:
    """Up to ``count`` of the steps, in their order: those of the largest weight, none close to one that weighs more.

    Steps near one another bound much the same; what is close is a share of the candidates that leaves room for ``count``.
    """
    apart = max(1, len(candidates) // (2 * count + 1)) if count < len(candidates) else 1
    picked: list[int] = []
    for place in sorted(range(len(candidates)), key=lambda place: -weights[candidates[place]]):
        if len(picked) < count and all(abs(place - other) >= apart for other in picked):
            picked.append(place)
    return tuple(candidates[place] for place in sorted(picked))
