"""Planning: the vocabulary of recomputation and order under a memory budget. Integers throughout, of any size.

A **problem** has steps in the order of the input. A step reads values and writes values of its own; running it again writes them
again. A **sequence** is a tuple of step numbers in which every step occurs at least once, a later occurrence being a recomputation.
A value's occurrence is live from its step to the last step that it serves: a reader is served by the latest occurrence before it.
The last occurrence of a kept value is live to the end. Memory at a position of the sequence is what is live there, the values
that the step reads and writes included, and the step's workspace.

With **paging** what a step writes can be copied to the host when it is first written, and **fetched** from there instead of being
run again: the number of a fetch is that of its step plus the number of steps. A fetch reads nothing. It takes the step's transfer
time, and the first one of a step that time once more, for the copy to the host.

This is the semantics of Moccasin (Bartan et al., ICML 2023, section 2) with several outputs, kept values, workspace, steps that
may write in place, and paging added; with none of them it is the published one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from tensoropt.errors import ModelError

MemoryModel = Literal["packed", "live"]
"""What the budget holds: the arena with its offsets, or the sum of live bytes."""

Order = Literal["free", "input"]
"""Whether the first occurrences may be reordered, or keep the order of the input."""

Status = Literal["optimal", "feasible", "infeasible", "unknown"]


@dataclass(frozen=True, slots=True)
class Value:
    """What a step writes: ``bytes`` large; ``kept`` to the end of the plan, as a model's outputs are."""

    name: str
    bytes: int
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A kernel: the values (numbers in the problem) that it reads and writes.

    ``in_place`` holds pairs (written, read) of values of equal size: where the step is the last that an occurrence of the read
    value serves, the written one may take over its bytes. The first pair that can be had is had, and no second.
    """

    name: str
    duration: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    workspace: int = 0
    recomputable: bool = True
    in_place: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Problem:
    """Steps in the order of the input, which is topological, over values. ``aliases``: a view's name and what it is a view of.

    Views are read as what they show, so that they are no values here. ``transfers``: for each step how long it takes to copy what
    it writes to the host, or from there; empty where there is no paging. ModelError from ``check`` for what is no such thing.
    """

    name: str
    values: tuple[Value, ...]
    steps: tuple[Step, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    alignment: int = 1
    transfers: tuple[int, ...] = ()

    @cached_property
    def actions(self) -> tuple[Step, ...]:
        """What the numbers of a sequence mean: the steps, and behind them with paging the fetch of each."""
        fetches = (
            Step(f"fetch {step.name}", transfer, (), step.writes)
            for step, transfer in zip(self.steps, self.transfers, strict=False)  # as many, or none
        )
        return (*self.steps, *fetches)

    def step_of(self, action: int) -> int:
        """The step that is run, or whose values are fetched."""
        return action if action < len(self.steps) else action - len(self.steps)

    @cached_property
    def writer(self) -> tuple[int, ...]:
        """The step that writes each value."""
        found = {value: number for number, step in enumerate(self.steps) for value in step.writes}
        return tuple(found[value] for value in range(len(self.values)))

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """The steps that read each value, in the order of the input."""
        found: list[list[int]] = [[] for _ in self.values]
        for number, step in enumerate(self.steps):
            for value in dict.fromkeys(step.reads):
                found[value].append(number)
        return tuple(tuple(readers) for readers in found)

    @property
    def duration(self) -> int:
        """Of every step once."""
        return self.duration_of(range(len(self.steps)))

    def duration_of(self, sequence: Iterable[int]) -> int:
        """Of all that a sequence does, as often as it occurs, and of the copies to the host that it needs."""
        actions = list(sequence)
        copied = {action for action in actions if action >= len(self.steps)}
        return sum(self.actions[action].duration for action in (*actions, *copied))

    def check(self) -> Problem:
        """The problem itself. ModelError, which names the step, where it is not well formed."""
        names = Counter(action.name for action in self.actions)
        if names and names.most_common(1)[0][1] > 1:
            raise ModelError(f"{self.name}: two steps, or a step and a fetch, are called {names.most_common(1)[0][0]}")
        if self.alignment < 1:
            raise ModelError(f"{self.name}: the alignment is {self.alignment}, and must be at least 1")
        before: set[int] = set()
        for step in self.steps:
            self._check_step(step, before)
            before.update(step.writes)
        for number, value in enumerate(self.values):
            if value.bytes < 0:
                raise ModelError(f"{self.name}: {value.name} has a negative size")
            if number not in before:
                raise ModelError(f"{self.name}: nothing writes {value.name}")
        if self.transfers and (len(self.transfers) != len(self.steps) or min(self.transfers) < 0):
            raise ModelError(f"{self.name}: paging needs a transfer time that is not negative for every step")
        return self

    def _check_step(self, step: Step, before: set[int]) -> None:
        """``before`` are the values that earlier steps write."""
        for value in (*step.reads, *step.writes):
            if not 0 <= value < len(self.values):
                raise ModelError(f"{self.name}: {step.name} reads or writes value {value}, of {len(self.values)}")
        for value in step.reads:
            if value not in before:
                raise ModelError(
                    f"{self.name}: {step.name} reads {self.values[value].name}, which no earlier step writes"
                )
        for value in step.writes:
            if value in before or step.writes.count(value) > 1:
                raise ModelError(f"{self.name}: {step.name} writes {self.values[value].name} a second time")
        if step.duration < 0 or step.workspace < 0:
            raise ModelError(f"{self.name}: {step.name} has a negative duration or workspace")
        for result, source in step.in_place:
            if result not in step.writes or source not in step.reads:
                raise ModelError(f"{self.name}: {step.name} names values in place that it does not read and write")
            if self.values[result].bytes != self.values[source].bytes:
                raise ModelError(f"{self.name}: {step.name} would write in place of a value of another size")


def in_input_order(
    name: str,
    values: tuple[Value, ...],
    steps: tuple[Step, ...],
    alignment: int = 1,
    transfers: tuple[int, ...] = (),
) -> Problem:
    """A problem whose steps are put into a topological order, as near to the given one as that is. ModelError for a cycle."""
    writer = {value: number for number, step in enumerate(steps) for value in step.writes}
    before = {number: {writer[value] for value in step.reads if value in writer} for number, step in enumerate(steps)}
    if all(all(earlier < number for earlier in earliers) for number, earliers in before.items()):
        return Problem(name, values, steps, alignment=alignment, transfers=transfers).check()
    sorter = TopologicalSorter(before)
    try:
        sorter.prepare()
    except CycleError as error:
        names = " → ".join(steps[number].name for number in error.args[1])
        raise ModelError(f"{name}: the steps form a cycle ({names}); a plan needs an order") from error
    order: list[int] = []
    ready: list[int] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()])
        order.append(ready.pop(0))
        sorter.done(order[-1])
    sorted_transfers = tuple(transfers[number] for number in order) if transfers else ()
    ordered = tuple(steps[number] for number in order)
    return Problem(name, values, ordered, alignment=alignment, transfers=sorted_transfers).check()


@dataclass(frozen=True, slots=True)
class Bound:
    """A duration that no plan of a class gets below: ``holds_for`` says which, ``method`` how it was found."""

    duration: int
    method: str
    holds_for: Literal["any order", "input order"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A sequence, and where every occurrence of a value lies in the arena.

    ``offsets`` has an entry for each position of the sequence: one offset for each value that the step there writes;
    ``workspaces`` has one for each position, that of the step's workspace, 0 where it has none. Offsets are those of a packer
    under either memory model; ``peak_bytes`` is the sum of live bytes, ``arena_bytes`` what they take.
    """

    sequence: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]
    workspaces: tuple[int, ...]
    peak_bytes: int
    arena_bytes: int
    duration: int

    def used_bytes(self, model: MemoryModel) -> int:
        """What the budget holds under a memory model."""
        return self.arena_bytes if model == "packed" else self.peak_bytes
