"""The sparse stage model: a boolean for each recomputation that makes sense, one for each stretch over which a value is retained.

No time intervals and no table of stages by steps: a value's retention changes only where it is made or read, so that one boolean
covers the stages between two such events. Availability is a clause for each read. A stage has one row of memory for its first
computation, and one for each point among its recomputations at which the set of values that can be in memory is a largest one; all
rows are linear in the booleans, and count no less than what is live. Recomputations of one stage run in the order of the first
computations. After the stage-wise models of Checkmate (Jain et al., MLSys 2020, section 4) and the retention intervals of Moccasin
(Bartan et al., ICML 2023, section 2), which have quadratically many booleans and a global cumulative constraint in this place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ortools.sat.python import cp_model

from passes.plan.solvers.scaling import Scaled
from passes.plan.solvers.stages_window import Staged, Window, staged
from passes.plan.trace import trace
from tensoropt.plan_types import Problem

Literal = Any
"""A boolean variable of the solver, whose classes have no stubs."""


@dataclass(slots=True)
class StageModel:
    """The model of a window in which each step may be recomputed before the stages of its ``choices``.

    ``recompute[step, stage]`` and ``retain[value, stage]`` are its booleans; the latter says that the value stays in memory
    after the computation of that stage, up to its next event.
    """

    problem: Problem
    window: Window
    scaled: Scaled
    choices: Sequence[set[int]]
    model: Any = field(init=False)
    recompute: dict[tuple[int, int], Literal] = field(init=False, default_factory=dict)
    retain: dict[tuple[int, int], Literal] = field(init=False, default_factory=dict)
    spans: dict[int, list[tuple[int, Literal]]] = field(init=False, default_factory=dict)
    rank: dict[int, int] = field(init=False)
    again_at: dict[int, list[int]] = field(init=False)
    values_at: dict[int, list[int]] = field(init=False)
    entered: dict[tuple[int, int], Literal] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.model = cp_model.CpModel()
        window = self.window
        stages = range(window.first, window.last + 2)
        self.rank = {number: place for place, number in enumerate(window.order)}
        self.again_at = {stage: [] for stage in stages}
        self.values_at = {stage: [] for stage in stages}
        self.spans = {stage: [] for stage in stages}
        for number in window.order:
            for stage in sorted(self.choices[number]):
                self.recompute[number, stage] = self.model.new_bool_var(f"recompute {number} at {stage}")
                self.again_at[stage].append(number)
        for value in range(len(self.problem.values)):
            self._retention(value)
        for stage in stages:
            self._availability(stage)
            self._memory(stage)
        self.model.minimize(self._recomputed())

    def _recomputed(self) -> Any:
        """The scaled duration of the window's recomputations."""
        durations = [self.scaled.durations[step] for step, _ in self.recompute]
        return cp_model.LinearExpr.weighted_sum(list(self.recompute.values()), durations)

    def at_most(self, duration: int) -> None:
        """Excludes what takes longer than a scaled duration."""
        self.model.add(self._recomputed() <= duration)

    def _reads(self, stage: int) -> Sequence[int]:
        """The values that must be there at the end of a stage's recomputations."""
        if stage > self.window.last:
            return sorted(self.window.leaving)
        return self.problem.steps[self.window.order[stage]].reads

    def _retention(self, value: int) -> None:
        """A value's events and the booleans between them. It stays after an event if it was there before or is made there."""
        window, writer = self.window, self.problem.writer[value]
        made = [stage for stage in self.again_at if (writer, stage) in self.recompute]
        events = {*made}
        for reader in self.problem.readers[value]:
            events |= {stage for stage in self.again_at if (reader, stage) in self.recompute}
            if window.first <= self.rank[reader] <= window.last:
                events.add(self.rank[reader])
        if value in window.leaving:
            events.add(window.last + 1)
        if window.first <= self.rank[writer] <= window.last:
            events.add(self.rank[writer])
        for stage in events:
            self.values_at[stage].append(value)
        if value in window.entering:
            events.add(window.first - 1)
        for stage, following in pairwise(sorted(events)):
            born = stage == self.rank[writer] or stage < window.first
            sources = [] if born else self._there(value, stage)
            if not born and not sources:
                continue
            name = f"retain {value} after {stage}"
            self.retain[value, stage] = stays = self.model.new_bool_var(name)
            self.entered[value, following] = stays
            if not born:
                self.model.add_bool_or([*sources, stays.negated()])
            for between in range(max(stage + 1, window.first), following):
                self.spans[between].append((value, stays))

    def _there(self, value: int, stage: int) -> list[Literal]:
        """What makes a value available at a stage: that it was retained, or that it is recomputed there."""
        found = [self.entered.get((value, stage)), self.recompute.get((self.problem.writer[value], stage))]
        return [one for one in found if one is not None]

    def _availability(self, stage: int) -> None:
        """Clauses for every read of a stage. What is retained is not recomputed as well."""
        for value in self._reads(stage):
            self.model.add_bool_or(self._there(value, stage))
        for number in self.again_at[stage]:
            for value in self.problem.steps[number].reads:
                self.model.add_bool_or([*self._there(value, stage), self.recompute[number, stage].negated()])
        for value in self.values_at[stage]:
            there = self._there(value, stage)
            if len(there) == 2:
                self.model.add_at_most_one(there)

    def _memory(self, stage: int) -> None:
        """The rows of a stage: at those recomputations after which something is gone, and at the first computation."""
        base = [(self.scaled.sizes[value], stays) for value, stays in self.spans[stage] if self.scaled.sizes[value]]
        last_need = self._last_needs(stage)
        again = self.again_at[stage]
        for at, number in enumerate(again):
            step = self.problem.steps[number]
            place = self.rank[number]
            gone = any(last_need.get(value, place) == place for value in {*step.reads, *step.writes})
            # a later recomputation may not take place, so that only the first computation is sure to need workspace afterwards
            covered = self._workspace(stage) if at + 1 == len(again) else 0
            if gone or self.scaled.workspaces[number] > covered:
                self._row([*base, *self._at_recomputation(stage, number, last_need)], 0)
        self._row_of_first(stage, base)

    def _last_needs(self, stage: int) -> dict[int, int]:
        """The place in the order of the last step of a stage that may read a value; its first computation is behind all."""
        found: dict[int, int] = {}
        for number in self.again_at[stage]:
            for value in self.problem.steps[number].reads:
                found[value] = self.rank[number]
        return found | {value: len(self.window.order) for value in self._reads(stage)}

    def _workspace(self, stage: int) -> int:
        return 0 if stage > self.window.last else self.scaled.workspaces[self.window.order[stage]]

    def _at_recomputation(self, stage: int, number: int, last_need: dict[int, int]) -> list[tuple[int, Literal]]:
        """What of a stage's own values may be in memory while a recomputation runs.

        Before its last possible read there a value counts where it is there at all, afterwards only where it stays.
        """
        here, place, rank = self.recompute[number, stage], self.rank[number], self.rank
        terms: list[tuple[int, Literal]] = [(self.scaled.workspaces[number], here)]
        for value in self.values_at[stage]:
            size, writer = self.scaled.sizes[value], self.problem.writer[value]
            made = self.recompute.get((writer, stage))
            entered = self.entered.get((value, stage))
            if made is not None and rank[writer] > place:
                present = [entered]
            elif writer == number or last_need.get(value, -1) >= place:
                present = [entered, made]
            else:
                present = [self.retain.get((value, stage))] if rank[writer] != stage else []
            terms += [(size, one) for one in present if one is not None]
        for size, literal in self._saved(stage, number, lambda source: last_need.get(source) == place):
            terms.append((-size, here if literal is None else literal))
            if literal is not None:
                self.model.add_implication(literal, here)
        return terms

    def _row_of_first(self, stage: int, base: list[tuple[int, Literal]]) -> None:
        """While a stage's computation runs: what it reads and writes, and what stays."""
        touched = {*self._reads(stage)}
        constant = self._workspace(stage)
        terms = list(base)
        if stage <= self.window.last:
            number = self.window.order[stage]
            touched |= {*self.problem.steps[number].writes}
            for size, literal in self._saved(stage, number, lambda source: True):
                if literal is None:
                    constant -= size
                else:
                    terms.append((-size, literal))
        constant += sum(self.scaled.sizes[value] for value in touched)
        for value in self.values_at[stage]:
            stays = self.retain.get((value, stage))
            if value not in touched and stays is not None:
                terms.append((self.scaled.sizes[value], stays))
        self._row(terms, constant)

    def _saved(self, stage: int, number: int, dead: Callable[[int], bool]) -> list[tuple[int, Literal | None]]:
        """What a step is sure to save by writing in place, each amount with the literal that says so, or without a condition.

        Of several pairs the first that can be had is had. The model may retain a value that then serves nothing, so that this can
        be any up to the first of which the model knows, and the least of them is what is sure. ``dead`` tells of a value whether
        nothing may read it later in the stage.
        """
        always, least = 0, -1
        conditional: list[tuple[int, Literal]] = []
        for _, source in self.problem.steps[number].in_place:
            size = self.scaled.sizes[source]
            least = size if least < 0 else min(least, size)
            stays = self.retain.get((source, stage))
            if dead(source) and stays is None:
                always = least
                break
            if dead(source) and stays is not None:
                conditional.append((least, stays))
        found: list[tuple[int, Literal | None]] = [(always, None)] if always else []
        for size, stays in conditional:
            if size > always:
                literal = self.model.new_bool_var(f"in place {number} at {stage}")
                self.model.add_implication(literal, stays.negated())
                found.append((size - always, literal))
        self.model.add_at_most_one(literal for _, literal in found if literal is not None)
        return found

    def _row(self, terms: Sequence[tuple[int, Literal]], constant: int) -> None:
        """A row of memory, unless nothing can exceed it."""
        counted = [(size, literal) for size, literal in terms if size]
        if constant + sum(size for size, _ in counted if size > 0) > self.scaled.budget:
            total = cp_model.LinearExpr.weighted_sum([one for _, one in counted], [size for size, _ in counted])
            self.model.add(total <= self.scaled.budget - constant)

    def hint(self, sequence: Sequence[int]) -> None:
        """Tells the solver of a sequence whose first computations are those of the window's order."""
        plan = staged(sequence)
        again = [sorted(set(numbers), key=self.rank.__getitem__) for numbers in plan.again]
        ordered = Staged(plan.order, tuple(tuple(numbers) for numbers in again))
        for (number, stage), literal in self.recompute.items():
            self.model.add_hint(literal, number in again[stage])
        ends, position = [-1], -1
        for stage in range(len(plan.order)):
            position += len(again[stage]) + 1
            ends.append(position)
        over: set[tuple[int, int]] = set()
        stages_of = {position: stage for stage, position in enumerate(ends[1:])}
        for occurrences in trace(self.problem, ordered.sequence).written:
            for one in occurrences:
                kept = self.problem.values[one.value].kept and one.last == len(ordered.sequence) - 1
                last = len(ordered.sequence) if kept else one.last
                over |= {(one.value, stages_of[at]) for at in range(one.first, last) if at in stages_of}
        for (value, stage), literal in self.retain.items():
            self.model.add_hint(literal, (value, stage) in over)

    def sequence(self, value_of: Callable[[Literal], int]) -> list[int]:
        """The window's positions under an assignment, those of its last stage's recomputations included."""
        found: list[int] = []
        for stage in range(self.window.first, self.window.last + 2):
            found += [number for number in self.again_at[stage] if value_of(self.recompute[number, stage])]
            if stage <= self.window.last:
                found.append(self.window.order[stage])
        return found
