"""The retention intervals of Moccasin (Bartan et al., "Moccasin: Efficient Tensor Rematerialization", ICML 2023, section 2).

Time is a row of events: stage k, in which the k-th step of the input order is first computed, has an event for each step up to it,
so that a recomputation of a step has one possible event in each later stage. A step has up to C computations, each a start and a
presence; each value that it writes has an interval of memory for each of them. One cumulative constraint holds the memory, and a
reservoir for each read and each computation of the reader its availability: the level is the number of intervals in which the
value is there.

Two things differ. The authors' intervals have lengths from a logarithmic grid, to save propagation; CP-SAT 9.15 multiplies such a
domain out with that of the start (100 steps: no plan in 30 s, where with all lengths the first phase ends in 4 s), and all lengths
are exact. And a step may write several values, values may be kept to the end, steps may have workspace, and steps may be barred
from running twice. Nothing is written in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ortools.sat.python import cp_model

from passes.plan.solvers.scaling import Scaled
from tensoropt.plan_types import Problem

Variable = Any
"""One of the solver's, whose classes have no stubs."""


def event(stage: int, place: int) -> int:
    """The event of the step at ``place`` of the order in a stage that is not before it."""
    return stage * (stage + 1) // 2 + place


@dataclass(frozen=True, slots=True)
class Computation:
    """One of a step's: when, and whether at all. ``ends`` are of the intervals of the values that it writes."""

    start: Variable
    present: Variable
    ends: dict[int, Variable]


@dataclass(slots=True)
class PublishedModel:
    """Variables and constraints; ``footprint`` bounds the memory, in the units of ``scaled``."""

    problem: Problem
    scaled: Scaled
    most_computations: int
    model: Any = field(init=False)
    footprint: Variable = field(init=False)
    most_memory: int = field(init=False)
    computations: list[list[Computation]] = field(init=False)
    variables: list[Variable] = field(init=False, default_factory=list)
    horizon: int = field(init=False)

    def __post_init__(self) -> None:
        self.model = cp_model.CpModel()
        count = len(self.problem.steps)
        self.horizon = event(count, 0)
        self.most_memory = self.most_computations * (sum(self.scaled.sizes) + sum(self.scaled.workspaces))
        self.footprint = self._integer(cp_model.Domain(0, self.most_memory), "footprint")
        self.computations = [self._computations(number) for number in range(count)]
        self._memory()
        for number in range(count):
            self._succession(number)
            for value in sorted(set(self.problem.steps[number].reads)):
                for reading in self.computations[number]:
                    self._availability(value, reading)

    def _integer(self, domain: Any, name: str) -> Variable:
        self.variables.append(self.model.new_int_var_from_domain(domain, name))
        return self.variables[-1]

    def _computations(self, number: int) -> list[Computation]:
        """The first at its fixed event; each other at one of the step's events in later stages, or absent."""
        step = self.problem.steps[number]
        later = [event(stage, number) for stage in range(number + 1, len(self.problem.steps))]
        found = [self._computation(number, event(number, number), self.model.new_constant(1))]
        while later and step.recomputable and step.writes and len(found) < self.most_computations:
            name = f"computation {len(found)} of {number}"
            present = self.model.new_bool_var(f"{name} present")
            self.variables.append(present)
            start = self._integer(cp_model.Domain.from_values(later), f"{name} start")
            found.append(self._computation(number, start, present))
        return found

    def _computation(self, number: int, start: Variable, present: Variable) -> Computation:
        ends = {
            value: self._integer(cp_model.Domain(1, self.horizon), f"end of {value}")
            for value in self.problem.steps[number].writes
        }
        return Computation(start, present, ends)

    def _memory(self) -> None:
        """All intervals under one cumulative constraint whose capacity is the footprint."""
        intervals: list[Any] = []
        demands: list[int] = []
        for number, computations in enumerate(self.computations):
            for one in computations:
                for value, end in one.ends.items():
                    length = self._integer(cp_model.Domain(1, self.horizon), f"length of {value}")
                    intervals.append(
                        self.model.new_optional_interval_var(one.start, length, end, one.present, f"value {value}")
                    )
                    demands.append(self.scaled.sizes[value])
                if self.scaled.workspaces[number]:
                    intervals.append(
                        self.model.new_optional_fixed_size_interval_var(one.start, 1, one.present, f"work {number}")
                    )
                    demands.append(self.scaled.workspaces[number])
        self.model.add_cumulative(intervals, demands, self.footprint)

    def _succession(self, number: int) -> None:
        """A computation follows the end of all that the one before it wrote; a kept value of the last stays to the end."""
        computations = self.computations[number]
        for place, one in enumerate(computations):
            following = computations[place + 1] if place + 1 < len(computations) else None
            for value, end in one.ends.items():
                if following is not None:
                    self.model.add(end <= following.start).only_enforce_if(following.present)
                if self.problem.values[value].kept:
                    last = [one.present] if following is None else [one.present, following.present.negated()]
                    self.model.add(end >= self.horizon).only_enforce_if(last)
            if place > 1:
                self.model.add_implication(one.present, computations[place - 1].present)

    def _availability(self, value: int, reading: Computation) -> None:
        """A reservoir whose level is the number of intervals that hold a value; a reader takes one for the time that it runs."""
        times: list[Any] = [reading.start, reading.start + 1]
        changes = [-1, 1]
        active: list[Any] = [reading.present, reading.present]
        for one in self.computations[self.problem.writer[value]]:
            times += [one.start + 1, one.ends[value]]
            changes += [1, -1]
            active += [one.present, one.present]
        self.model.add_reservoir_constraint_with_active(times, changes, active, 0, self.most_computations + 1)

    def duration(self) -> Any:
        """The scaled duration of all computations."""
        present = [one.present for computations in self.computations for one in computations]
        durations = [
            self.scaled.durations[number] for number, computations in enumerate(self.computations) for _ in computations
        ]
        return cp_model.LinearExpr.weighted_sum(present, durations)

    def sequence(self, value_of: Callable[[Variable], int]) -> list[int]:
        """The steps in the order of their events under an assignment."""
        found = [
            (value_of(one.start), number)
            for number, computations in enumerate(self.computations)
            for one in computations
            if value_of(one.present)
        ]
        return [number for _, number in sorted(found)]
