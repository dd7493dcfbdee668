"""Uniform-cost search over what was computed and what is in memory: exact in both orders, for problems of about a dozen steps.

A state is the set of steps that have run and the set of values in memory, both bit masks, and with paging the set of steps whose
values were copied to the host. To forget a value costs nothing and is
possible at any time, so that values are only dropped where the next step would not fit, and of such drops only those that are
minimal under inclusion: a state whose memory holds more can do all that one can whose memory holds less. Two things are no mere
forgetting. A step writes in place only where the value that it reads is dropped there. And of several such pairs the first that
can be had is had, so that to have a later and larger one, the values of the earlier ones must really serve something afterwards:
these are *pledged*, and are neither dropped nor overwritten before they are read or the plan ends with them as kept values.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from passes.plan.solving import Better, Goal, Outcome
from passes.plan.trace import trace
from tensoropt.plan_types import Bound, Problem

STATES = 1_000_000
"""How many states are expanded at most where the goal gives no limit of work."""


class State(NamedTuple):
    """Bit masks: steps that have run; values in memory; those of them that have to serve something yet; steps on the host."""

    done: int
    memory: int
    pledged: int
    copied: int = 0


@dataclass(frozen=True, slots=True)
class InPlace:
    """To write over value ``source`` (a mask): ``saved`` bytes, if the values ``pledged`` are read again."""

    saved: int
    source: int
    pledged: int


@dataclass(slots=True)
class Moves:
    """The actions that can follow a state within the budget. Lists have an entry for each action of the problem."""

    problem: Problem
    budget: int
    in_input_order: bool
    reads: list[int] = field(init=False)
    writes: list[int] = field(init=False)
    in_place: list[list[InPlace]] = field(init=False)
    kept: int = field(init=False)
    useful_after: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.reads = [sum(1 << value for value in set(step.reads)) for step in self.problem.actions]
        self.writes = [sum(1 << value for value in step.writes) for step in self.problem.actions]
        self.kept = sum(1 << number for number, value in enumerate(self.problem.values) if value.kept)
        self.in_place = [self._in_place(number) for number in range(len(self.problem.actions))]

    def _in_place(self, number: int) -> list[InPlace]:
        """The pairs of a step that save something, one for each value that it may write over."""
        found: list[InPlace] = []
        earlier: dict[int, int] = {}
        for _, source in self.problem.actions[number].in_place:
            size = self.problem.values[source].bytes
            if source not in earlier and size > 0:
                found.append(InPlace(size, 1 << source, sum(1 << one for one in earlier if earlier[one] < size)))
            earlier[source] = size
        return found

    def finished(self, state: State) -> bool:
        """Whether every step has run, the kept values are there, and every pledge is redeemed."""
        every = (1 << len(self.problem.steps)) - 1
        return state.done == every and not self.kept & ~state.memory and not state.pledged & ~self.kept

    def after(self, state: State) -> Iterator[tuple[int, State]]:
        """Each action that can be next, with the state that it leads to; one occurs once for each choice of what is dropped."""
        for number, step in enumerate(self.problem.steps):
            bit = 1 << number
            if self.reads[number] & ~state.memory or self.writes[number] & state.pledged:
                continue
            if state.done & bit:
                missing = self.writes[number] & ~state.memory & self.useful(state.done)
                if not step.recomputable or not (missing or self.reads[number] & state.pledged):
                    continue
            elif self.in_input_order and state.done != bit - 1:
                continue
            yield from ((number, following) for following in self._run(state, number))
        for fetch in range(len(self.problem.steps), len(self.problem.actions)):
            done = state.done >> self.problem.step_of(fetch) & 1
            missing = self.writes[fetch] & ~state.memory & self.useful(state.done)
            if done and missing and not self.writes[fetch] & state.pledged:
                yield from ((fetch, following) for following in self._run(state, fetch))

    def cost(self, state: State, action: int) -> int:
        """What an action after a state takes beyond every step once."""
        step = self.problem.step_of(action)
        if step == action:
            return self.problem.steps[step].duration if state.done >> step & 1 else 0
        return self.problem.transfers[step] * (1 if state.copied >> step & 1 else 2)

    def _run(self, state: State, number: int) -> Iterator[State]:
        """The states after an action; none where it does not fit, whatever is dropped."""
        held = state.memory & ~self.writes[number]
        step = self.problem.step_of(number)
        done = state.done | 1 << step
        copied = state.copied | (0 if step == number else 1 << step)
        pledged = state.pledged & ~self.reads[number]
        useful = self.useful(done)
        over = self.bytes(held | self.writes[number]) + self.problem.actions[number].workspace - self.budget
        choices = [InPlace(0, 0, 0), *self.in_place[number]] if over > 0 else [InPlace(0, 0, 0)]
        for choice in choices:
            promised = pledged | choice.pledged
            for dropped in self._drops(held & ~(self.reads[number] | pledged), over - choice.saved):
                memory = held & ~dropped & ~choice.source | self.writes[number]
                yield State(done, memory & (useful | promised), promised, copied)

    def _drops(self, candidates: int, over: int) -> Iterator[int]:
        """The sets of values, minimal under inclusion, that free at least ``over`` bytes."""
        if over <= 0:
            yield 0
            return
        sizes = sorted(((self.problem.values[value].bytes, value) for value in _members(candidates)), reverse=True)
        remaining = [0]
        for size, _ in reversed(sizes):
            remaining.append(remaining[-1] + size)
        remaining.reverse()
        # The largest first: the last that is taken is then the smallest, and without it the set was not enough.
        stack = [(0, over, 0)]
        while stack:
            index, missing, dropped = stack.pop()
            if missing <= 0:
                yield dropped
            elif remaining[index] >= missing:
                size, value = sizes[index]
                stack.append((index + 1, missing, dropped))
                stack.append((index + 1, missing - size, dropped | 1 << value))

    def useful(self, done: int) -> int:
        """The values that a plan may still have use for: kept ones, and what a step reads that has to or may have to run."""
        if done not in self.useful_after:
            found = self.kept
            for number in reversed(range(len(self.problem.steps))):
                again = self.problem.steps[number].recomputable and self.writes[number] & found
                if not done >> number & 1 or again:
                    found |= self.reads[number]
            self.useful_after[done] = found
        return self.useful_after[done]

    def bytes(self, values: int) -> int:
        """Of a set of values."""
        return sum(self.problem.values[value].bytes for value in _members(values))


def solve(problem: Problem, goal: Goal, better: Better) -> Outcome:
    """The plan of the shortest duration within the budget, or the proof that there is none; a bound where a limit is reached.

    One unit of the goal's ``work`` is one state; STATES are the limit where none is given.
    """
    claim = "any plan" if goal.order == "free" else "any plan in the input order"
    moves = Moves(problem, goal.budget, goal.order == "input")
    until = time.monotonic() + goal.seconds
    limit = STATES if goal.work is None else goal.work
    start = State(0, 0, 0)
    reached: dict[State, tuple[int, State | None, int]] = {start: (0, None, -1)}
    settled: dict[tuple[int, int, int], list[int]] = {}
    # Every plan runs each step once, so that only what is run again is counted. Among equals what is nearer to the end is first.
    queue = [(0, 0, 0, start)]
    expanded = pushed = 0
    while queue:
        extra, _, _, state = heapq.heappop(queue)
        if extra > reached[state][0] or _dominated(
            state, settled.setdefault((state.done, state.pledged, state.copied), [])
        ):
            continue
        if moves.finished(state) and goal.budget >= 0:
            sequence = _sequence(state, reached)
            if trace(problem, sequence).peak() > goal.budget:
                raise AssertionError(f"{problem.name}: the search counts less memory than the trace of {sequence}")
            better(sequence)
            return Outcome(sequence, True, claim, (_bound(problem, goal, extra),))
        if expanded >= limit or (expanded % 64 == 0 and time.monotonic() > until):
            return Outcome(None, bounds=(_bound(problem, goal, extra),))
        expanded += 1
        for number, following in moves.after(state):
            cost = extra + moves.cost(state, number)
            if following not in reached or cost < reached[following][0]:
                reached[following] = cost, state, number
                pushed += 1
                heapq.heappush(queue, (cost, -following.done.bit_count(), pushed, following))
    return Outcome(None, True, claim)


def _bound(problem: Problem, goal: Goal, extra: int) -> Bound:
    """What every plan takes that continues a state of the frontier."""
    return Bound(
        problem.duration + extra, "uniform-cost search", "any order" if goal.order == "free" else "input order"
    )


def _dominated(state: State, memories: list[int]) -> bool:
    """Whether a state at no greater cost had all that is in memory here; if not, it is added to the memories of its kind."""
    if any(not state.memory & ~memory for memory in memories):
        return True
    memories.append(state.memory)
    return False


def _sequence(state: State, reached: dict[State, tuple[int, State | None, int]]) -> tuple[int, ...]:
    found: list[int] = []
    at: State | None = state
    while at is not None:
        _, before, number = reached[at]
        found.append(number)
        at = before
    return tuple(reversed(found[:-1]))


def _members(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
