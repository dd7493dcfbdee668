"""The memory profile of a sequence, kept up to date while steps are put in and taken out. Compiled.

Inserting or removing one occurrence changes the lifetimes of what it reads and writes only: their share of the profile is
taken away, everything behind the position moves by one, and the shares as they are now are added. What a sequence means is
defined by `passes.plan.trace`, which tests compare this with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from passes.plan.compiled import compiled
from tensoropt.plan_types import Problem

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

COPIES = 12
"""Moves do not have what a step writes more often than this; a sequence that they start from may."""

_LARGEST = 1 << 60
"""What all sizes together may not exceed, so that sums fit in 64 bits."""


class Net(NamedTuple):
    """A problem as arrays; lists of lists are flat, with the start of each list and one more."""

    duration: Floats
    transfer: Floats
    """Of what a step writes, to the host or back; empty where nothing may be fetched."""
    workspace: Ints
    bytes: Ints
    kept: NDArray[np.bool_]
    recomputable: NDArray[np.bool_]
    writer: Ints
    read_at: Ints
    read: Ints
    write_at: Ints
    written: Ints
    reader_at: Ints
    reader: Ints
    pair_at: Ints
    pair_result: Ints
    pair_source: Ints
    follower_at: Ints
    follower: Ints
    """Steps that may write in place of what a step writes."""


class State(NamedTuple):
    """A sequence with its profile. ``numbers``: its length, bytes over the budget summed over positions, repetitions.

    Positions hold actions as `Problem` numbers them; ``copy`` counts the occurrences of a step, fetches among them.
    """

    sequence: Ints
    copy: Ints
    times: Ints
    place: Ints
    carried: Ints
    """Bytes that positions before have left, by position."""
    memory: Ints
    extras: Ints
    """The steps that occur again, once for each time."""
    numbers: Ints
    spent: Floats
    marks: Ints


LENGTH, EXCESS, EXTRAS, BUDGET, STAMP = range(5)


def scaled(problem: Problem, budget: int) -> tuple[list[int], list[int], int, int]:
    """Sizes of values, workspaces and the budget in units in which they fit 64 bits, and the unit.

    Rounded up, the budget down: what fits in units fits in bytes.
    """
    sizes = [value.bytes for value in problem.values]
    workspaces = [step.workspace for step in problem.steps]
    unit = gcd(*sizes, *workspaces) or 1
    if (sum(sizes) + max(workspaces, default=0)) // unit >= _LARGEST:
        unit = -(-(sum(sizes) + max(workspaces, default=0)) // _LARGEST) * 2
    capped = min(budget // unit, 2 * _LARGEST)
    return [-(-size // unit) for size in sizes], [-(-size // unit) for size in workspaces], capped, unit


def _flat(lists: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    starts = np.zeros(len(lists) + 1, np.int64)
    starts[1:] = np.cumsum([len(one) for one in lists])
    return starts, np.array([item for one in lists for item in one], np.int64)


def as_arrays(problem: Problem, budget: int) -> tuple[Net, int]:
    """The problem as arrays and the budget in their units."""
    sizes, workspaces, capped, _ = scaled(problem, budget)
    steps, values = problem.steps, problem.values
    most = max([1, *(step.duration for step in steps), *problem.transfers])
    durations = [step.duration / most for step in steps]
    followers: list[list[int]] = [[] for _ in steps]
    for number, step in enumerate(steps):
        for _, source in step.in_place:
            followers[problem.writer[source]].append(number)
    reads = _flat([tuple(dict.fromkeys(step.reads)) for step in steps])
    writes, readers = _flat([step.writes for step in steps]), _flat(problem.readers)
    pairs, sources = (_flat([[pair[side] for pair in step.in_place] for step in steps]) for side in (0, 1))
    net = Net(
        np.array(durations, np.float64),
        np.array([transfer / most for transfer in problem.transfers], np.float64),
        np.array(workspaces, np.int64),
        np.array(sizes, np.int64),
        np.array([value.kept for value in values], np.bool_),
        np.array([step.recomputable for step in steps], np.bool_),
        np.array(problem.writer, np.int64),
        *reads,
        *writes,
        *readers,
        *pairs,
        sources[1],
        *_flat(followers),
    )
    return net, capped


def state_of(net: Net, sequence: Sequence[int], budget: int) -> State:
    """The state of a sequence, in which every step occurs and no occurrence reads what was not written."""
    steps = len(net.duration)
    room = len(sequence) + 3 * steps + 64
    most = max(Counter(action if action < steps else action - steps for action in sequence).values(), default=0)
    state = State(
        np.zeros(room, np.int64),
        np.zeros(room, np.int64),
        np.zeros(steps, np.int64),
        np.zeros((steps, max(COPIES, most)), np.int64),
        np.zeros(room + 1, np.int64),
        np.zeros(room, np.int64),
        np.zeros(room, np.int64),
        np.array([0, 0, 0, budget, 0], np.int64),
        np.zeros(1, np.float64),
        np.zeros(steps, np.int64),
    )
    _fill(net, state, np.array(sequence, np.int64))
    return state


@compiled
def _fill(net: Net, state: State, sequence: Ints) -> None:
    for position, action in enumerate(sequence):
        step = acting(net, action)
        state.spent[0] += _duration(net, state, action)
        state.sequence[position] = action
        state.copy[position] = state.times[step]
        state.place[step, state.times[step]] = position
        state.times[step] += 1
        state.memory[position] = _workspace(net, action)
        over = state.memory[position] - state.numbers[BUDGET]
        if over > 0:
            state.numbers[EXCESS] += over
        if state.copy[position]:
            state.extras[state.numbers[EXTRAS]] = step
            state.numbers[EXTRAS] += 1
    state.numbers[LENGTH] = len(sequence)
    for step in range(len(net.duration)):
        share(net, state, step, 1)


@compiled
def acting(net: Net, action: int) -> int:
    """The step that an action runs, or whose values it fetches."""
    return action if action < len(net.duration) else action - len(net.duration)


@compiled
def fetches(net: Net, state: State, position: int) -> bool:
    """Whether what is at a position is a fetch."""
    return len(net.transfer) > 0 and state.sequence[position] >= len(net.duration)


@compiled
def _workspace(net: Net, action: int) -> int:
    return int(net.workspace[action]) if action < len(net.duration) else 0


@compiled
def _duration(net: Net, state: State, action: int) -> float:
    """What an action adds to the duration of a sequence that it is not in: for a first fetch also the copy to the host."""
    step = acting(net, action)
    if step == action:
        return float(net.duration[step])
    for copy in range(state.times[step]):
        if fetches(net, state, state.place[step, copy]):
            return float(net.transfer[step])
    return 2 * float(net.transfer[step])


@compiled
def _last_read(
    reader_at: Ints, readers: Ints, times: Ints, place: Ints, sequence: Ints, value: int, first: int, until: int
) -> int:
    """See ``last_use``. A few arrays: to hand over all of them takes longer than the search."""
    last, steps = first, len(times)
    for number in range(reader_at[value], reader_at[value + 1]):
        reader = readers[number]
        for copy in range(times[reader] - 1, -1, -1):
            position = place[reader, copy]
            if position < until and sequence[position] < steps:  # a fetch reads nothing
                last = max(last, position)
                break
    return last


@compiled
def last_use(net: Net, state: State, value: int, first: int, until: int) -> int:
    """The last position before ``until`` that reads what was written at ``first``."""
    return int(_last_read(net.reader_at, net.reader, state.times, state.place, state.sequence, value, first, until))


@compiled
def end_of(net: Net, state: State, value: int, copy: int) -> int:
    """The last position at which an occurrence is live; the sequence's length where it is kept to the end."""
    step = net.writer[value]
    final = copy + 1 == state.times[step]
    if final and net.kept[value]:
        return int(state.numbers[LENGTH])
    until = state.numbers[LENGTH] if final else state.place[step, copy + 1]
    first = state.place[step, copy]
    return int(_last_read(net.reader_at, net.reader, state.times, state.place, state.sequence, value, first, until))


@compiled
def serving(state: State, step: int, position: int) -> int:
    """Which occurrence of a step a reader at a position is served by; -1 for none."""
    for copy in range(state.times[step] - 1, -1, -1):
        if state.place[step, copy] < position:
            return copy
    return -1


@compiled
def _in_place(net: Net, state: State, step: int, position: int) -> int:
    """The value that a step at a position writes in place; -1 for none."""
    for number in range(net.pair_at[step], net.pair_at[step + 1]):
        source = net.pair_source[number]
        copy = serving(state, net.writer[source], position)
        if copy >= 0 and end_of(net, state, source, copy) == position:
            return int(net.pair_result[number])
    return -1


@compiled
def share(net: Net, state: State, step: int, sign: int) -> None:
    """Adds the share of the profile that all occurrences of what a step writes have; or takes it away."""
    budget = state.numbers[BUDGET]
    excess = 0
    for copy in range(state.times[step]):
        first = state.place[step, copy]
        replaced = -1
        if net.pair_at[step] < net.pair_at[step + 1] and not fetches(net, state, first):
            replaced = _in_place(net, state, step, first)
        for number in range(net.write_at[step], net.write_at[step + 1]):
            value = net.written[number]
            change = sign * net.bytes[value]
            if change == 0:
                continue
            end = end_of(net, state, value, copy)
            start = first + 1 if value == replaced else first
            used = state.memory[start : min(end + 1, state.numbers[LENGTH])]
            for index in range(len(used)):  # over slices: the compiler sees that no index is negative and uses vectors
                before = used[index]
                after = before + change
                used[index] = after
                excess += max(after - budget, 0) - max(before - budget, 0)
            carried = state.carried[first + 1 : end + 1]
            for index in range(len(carried)):
                carried[index] += change
    state.numbers[EXCESS] += excess


@compiled
def _touched(net: Net, state: State, action: int, found: Ints) -> int:
    """The steps whose shares change with an occurrence of an action; how many."""
    step = acting(net, action)
    state.numbers[STAMP] += 1
    stamp = state.numbers[STAMP]
    found[0] = step
    state.marks[step] = stamp
    count = 1
    for number in range(net.read_at[step], net.read_at[step + 1] if step == action else net.read_at[step]):
        writer = net.writer[net.read[number]]
        if state.marks[writer] != stamp:
            state.marks[writer] = stamp
            found[count] = writer
            count += 1
    for index in range(count):
        origin = found[index]
        for number in range(net.follower_at[origin], net.follower_at[origin + 1]):
            follower = net.follower[number]
            if state.marks[follower] != stamp:
                state.marks[follower] = stamp
                found[count] = follower
                count += 1
    return count


@compiled
def _renumber(net: Net, state: State, start: int, end: int, change: int) -> None:
    """The places of what lies at positions that have moved."""
    steps = len(net.duration)
    sequence, copies = state.sequence[start:end], state.copy[start:end]
    for index in range(len(sequence)):
        action = sequence[index]
        state.place[action if action < steps else action - steps, copies[index]] += change


@compiled
def insert(net: Net, state: State, action: int, position: int, touched: Ints) -> None:
    """Puts an occurrence of an action before what is at a position now. ``touched`` is scratch memory, one entry a step."""
    step = acting(net, action)
    state.spent[0] += _duration(net, state, action)
    count = _touched(net, state, action, touched)
    for index in range(count):
        share(net, state, touched[index], -1)
    length = state.numbers[LENGTH]
    rank = state.times[step]
    while rank and state.place[step, rank - 1] >= position:
        state.place[step, rank] = state.place[step, rank - 1]
        state.copy[state.place[step, rank - 1]] = rank
        rank -= 1
    state.times[step] += 1
    # Through copies: source and destination overlap.
    state.carried[position + 1 : length + 2] = state.carried[position : length + 1].copy()
    state.memory[position + 1 : length + 1] = state.memory[position:length].copy()
    state.sequence[position + 1 : length + 1] = state.sequence[position:length].copy()
    state.copy[position + 1 : length + 1] = state.copy[position:length].copy()
    _renumber(net, state, position + 1, length + 1, 1)
    state.sequence[position], state.copy[position], state.place[step, rank] = action, rank, position
    state.memory[position] = state.carried[position] + _workspace(net, action)
    state.numbers[EXCESS] += max(state.memory[position] - state.numbers[BUDGET], 0)
    state.numbers[LENGTH] = length + 1
    if state.times[step] > 1:
        state.extras[state.numbers[EXTRAS]] = step
        state.numbers[EXTRAS] += 1
    for index in range(count):
        share(net, state, touched[index], 1)


@compiled
def remove(net: Net, state: State, position: int, touched: Ints) -> None:
    """Takes out the occurrence at a position."""
    action, rank = state.sequence[position], state.copy[position]
    step = acting(net, action)
    count = _touched(net, state, action, touched)
    for index in range(count):
        share(net, state, touched[index], -1)
    if state.times[step] > 1:
        for index in range(state.numbers[EXTRAS]):
            if state.extras[index] == step:
                state.extras[index] = state.extras[state.numbers[EXTRAS] - 1]
                break
        state.numbers[EXTRAS] -= 1
    for copy in range(rank, state.times[step] - 1):
        state.place[step, copy] = state.place[step, copy + 1]
        state.copy[state.place[step, copy]] = copy
    state.times[step] -= 1
    state.numbers[EXCESS] -= max(state.memory[position] - state.numbers[BUDGET], 0)
    length = state.numbers[LENGTH] - 1
    state.carried[position:length] = state.carried[position + 1 : length + 1].copy()
    state.memory[position:length] = state.memory[position + 1 : length + 1].copy()
    state.sequence[position:length] = state.sequence[position + 1 : length + 1].copy()
    state.copy[position:length] = state.copy[position + 1 : length + 1].copy()
    _renumber(net, state, position, length, -1)
    state.carried[length] = state.carried[length + 1]
    state.carried[length + 1] = 0
    state.memory[length] = 0
    state.numbers[LENGTH] = length
    state.spent[0] -= _duration(net, state, action)
    for index in range(count):
        if state.times[touched[index]]:
            share(net, state, touched[index], 1)


def sequence_of(state: State) -> tuple[int, ...]:
    """The sequence of a state."""
    return tuple(int(step) for step in state.sequence[: state.numbers[LENGTH]])


def profile_of(state: State) -> list[int]:
    """Bytes (in units) at each position."""
    return [int(size) for size in state.memory[: state.numbers[LENGTH]]]
