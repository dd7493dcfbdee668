"""One run of CP-SAT under a goal's limits, every solution of which is offered to an incumbent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ortools.sat.python import cp_model

from passes.plan.solvers.incumbent import Incumbent
from passes.plan.solving import Goal

WORK_UNITS = 1000
"""Of a goal's ``work`` in one unit of CP-SAT's deterministic time, which is about a second."""

ValueOf = Callable[[Any], int]
"""What a solution says of a variable of the solver, whose classes have no stubs."""


def search(
    model: Any,
    goal: Goal,
    until: float,
    work: float | None,
    incumbent: Incumbent,
    sequence: Callable[[ValueOf], Sequence[int]],
    subsolvers: Sequence[str] = (),
) -> tuple[Any, Any]:
    """The solver after its run, and its status. It ends at the time ``until`` of the monotonic clock or at the end of the work.

    With a limit of work the workers take turns in a fixed manner, which is slower and makes the run repeatable. ``subsolvers``
    are CP-SAT's names of what its workers run, the first workers first; by default it is for CP-SAT to choose.
    """
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(0.0, until - time.monotonic())
    solver.parameters.num_workers = goal.workers
    solver.parameters.random_seed = goal.seed
    solver.parameters.subsolvers.extend(subsolvers)
    if work is not None:
        solver.parameters.max_deterministic_time = work / WORK_UNITS
        solver.parameters.interleave_search = True
    return solver, solver.solve(model, _Reporter(incumbent, sequence))


def work_done(solver: Any) -> float:
    """What a run has taken of a goal's work."""
    return float(solver.response_proto.deterministic_time) * WORK_UNITS


class _Reporter(cp_model.CpSolverSolutionCallback):  # type: ignore[misc]  # no stubs
    """Offers each solution to an incumbent."""

    def __init__(self, incumbent: Incumbent, sequence: Callable[[ValueOf], Sequence[int]]) -> None:
        super().__init__()
        self.incumbent, self.sequence = incumbent, sequence

    def on_solution_callback(self) -> None:
        """Called by the solver, from one thread at a time."""
        self.incumbent.offer(self.sequence(self.value))
