"""The moves of local search over sequences, each with a log by which it is taken back. Compiled.

A value that is live where memory is short is dropped and recomputed before its next use, with the values that this needs where
they are dead, or fetched where the problem has paging; what is repeated is taken out, moved, or had the other way; with a free
order a first computation is moved too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from passes.plan.compiled import compiled
from passes.plan.solvers.incremental import (
    BUDGET,
    COPIES,
    EXCESS,
    EXTRAS,
    LENGTH,
    Ints,
    Net,
    State,
    acting,
    end_of,
    fetches,
    insert,
    last_use,
    remove,
    serving,
)

_CHAIN = 24
"""At most so many steps are recomputed together."""


class Scratch(NamedTuple):
    """Memory of the moves: the log of (position, action or −1 − action for a removal), its length, and an entry for each step."""

    position: Ints
    action: Ints
    used: Ints
    touched: Ints


def scratch_of(net: Net) -> Scratch:
    """Scratch memory for a problem."""
    return Scratch(
        np.zeros(256, np.int64), np.zeros(256, np.int64), np.zeros(1, np.int64), np.zeros(len(net.duration), np.int64)
    )


@compiled
def put(net: Net, state: State, scratch: Scratch, action: int, position: int) -> None:
    """Inserts an occurrence and logs it."""
    insert(net, state, action, position, scratch.touched)
    scratch.position[scratch.used[0]] = position
    scratch.action[scratch.used[0]] = action
    scratch.used[0] += 1


@compiled
def take(net: Net, state: State, scratch: Scratch, position: int) -> None:
    """Removes an occurrence and logs it."""
    scratch.position[scratch.used[0]] = position
    scratch.action[scratch.used[0]] = -1 - state.sequence[position]
    scratch.used[0] += 1
    remove(net, state, position, scratch.touched)


@compiled
def undo(net: Net, state: State, scratch: Scratch) -> None:
    """Takes back what the log holds."""
    for index in range(scratch.used[0] - 1, -1, -1):
        position, action = scratch.position[index], scratch.action[index]
        if action >= 0:
            remove(net, state, position, scratch.touched)
        else:
            insert(net, state, -1 - action, position, scratch.touched)
    scratch.used[0] = 0


@compiled
def next_use(net: Net, state: State, value: int, after: int, until: int) -> int:
    """The first position from ``after`` on and before ``until`` that reads a value; ``until`` for none."""
    found, steps = until, len(net.duration)
    for number in range(net.reader_at[value], net.reader_at[value + 1]):
        reader = net.reader[number]
        for copy in range(state.times[reader]):
            position = state.place[reader, copy]
            if position >= after and state.sequence[position] < steps:  # a fetch reads nothing
                found = min(found, position)
                break
    return found


@compiled
def repeatable(net: Net, state: State, step: int) -> bool:
    """Whether what a step writes may be had once more."""
    return (net.recomputable[step] or len(net.transfer) > 0) and state.times[step] < COPIES


@compiled
def another(net: Net, step: int) -> int:
    """The action to have what a step writes once more: to run it or to fetch that, by chance, rather what takes less."""
    if len(net.transfer) == 0:
        return step
    fetched = step + len(net.duration)
    if not net.recomputable[step]:
        return fetched
    both = net.duration[step] + net.transfer[step]
    share = 0.5 if both == 0 else net.duration[step] / both
    return fetched if np.random.random() < 0.1 + 0.8 * share else step


@compiled
def short_position(state: State) -> int:
    """A position at which memory is over the budget, by chance; any where there is none."""
    length, budget = int(state.numbers[LENGTH]), state.numbers[BUDGET]
    for _ in range(20):
        position = int(np.random.randint(0, length))
        if state.memory[position] > budget:
            return position
    if state.numbers[EXCESS] == 0:
        return int(np.random.randint(0, length))
    start = int(np.random.randint(0, length))
    for offset in range(length):
        position = (start + offset) % length
        if state.memory[position] > budget:
            return position
    return start


@compiled
def idle_value(net: Net, state: State, position: int, rivals: int) -> tuple[int, int]:
    """A value that is live at a position without being used there, and its next use: large and cheap among some; −1 for none."""
    best, best_use, best_worth = -1, 0, -1.0
    values = len(net.bytes)
    if values == 0:
        return best, best_use
    found = 0
    for _ in range(60):
        value = np.random.randint(0, values)
        step = net.writer[value]
        if net.bytes[value] == 0 or not repeatable(net, state, step):
            continue
        copy = serving(state, step, position)
        if copy < 0:
            continue
        until = state.numbers[LENGTH] if copy + 1 == state.times[step] else state.place[step, copy + 1]
        use = next_use(net, state, value, position, until)
        if use == position or use >= until:
            continue
        least = net.duration[step]
        if len(net.transfer) > 0:
            least = min(least, net.transfer[step]) if net.recomputable[step] else net.transfer[step]
        worth = net.bytes[value] / (least + 1e-6) * (0.2 + np.random.random())
        if worth > best_worth:
            best, best_use, best_worth = value, use, worth
        found += 1
        if found == rivals:
            break
    return best, best_use


@compiled
def recompute(net: Net, state: State, scratch: Scratch, position: int) -> bool:
    """Drops a value that is idle at a position and has it again before its next use, and inputs for that which are dead there."""
    value, use = idle_value(net, state, position, 1 + np.random.randint(0, 4))
    if value < 0 or state.numbers[LENGTH] + _CHAIN + 2 >= len(state.sequence):
        return False
    eager = np.random.random() ** 2
    pending = np.empty(_CHAIN, np.int64)
    pending[0] = net.writer[value]
    count, done = 1, 0
    while done < count:
        step = pending[done]
        done += 1
        action = another(net, step)
        put(net, state, scratch, action, use)
        if action != step:
            continue
        for number in range(net.read_at[step], net.read_at[step + 1]):
            source = net.read[number]
            writer = net.writer[source]
            copy = serving(state, writer, use)
            first = state.place[writer, copy]
            before = last_use(net, state, source, first, use)
            dead = before < use - done and before <= position and first < position
            if not dead or not repeatable(net, state, writer) or np.random.random() > eager:
                continue
            known = False
            for index in range(count):
                known = known or pending[index] == writer
            if not known and count < _CHAIN:
                pending[count] = writer
                count += 1
    return True


@compiled
def forget(net: Net, state: State, scratch: Scratch, free: bool) -> bool:
    """Takes a recomputation out; with a free order also a first computation, where the next one comes early enough."""
    if state.numbers[EXTRAS] == 0:
        return False
    step = state.extras[np.random.randint(0, state.numbers[EXTRAS])]
    copy = np.random.randint(0 if free else 1, state.times[step])
    if copy == 0 and (
        first_read(net, state, step) <= state.place[step, 1] or fetches(net, state, state.place[step, 1])
    ):
        return False
    take(net, state, scratch, state.place[step, copy])
    return True


@compiled
def first_read(net: Net, state: State, step: int) -> int:
    """The first position that reads what a step writes, of those of first computations; the sequence's length for none."""
    first = int(state.numbers[LENGTH])
    for number in range(net.write_at[step], net.write_at[step + 1]):
        value = net.written[number]
        for at in range(net.reader_at[value], net.reader_at[value + 1]):
            first = min(first, state.place[net.reader[at], 0])
    return first


@compiled
def relocate(net: Net, state: State, scratch: Scratch, here: int, low: int, high: int) -> bool:
    """Moves an occurrence to another place from ``low`` to ``high``, by chance; False where there is no other."""
    if high <= low:
        return False
    action = state.sequence[here]
    there = np.random.randint(low, high)
    there += there >= here
    take(net, state, scratch, here)
    put(net, state, scratch, action, there)
    return True


@compiled
def shift(net: Net, state: State, scratch: Scratch) -> bool:
    """Moves a recomputation to another place between the occurrences before and after it."""
    if state.numbers[EXTRAS] == 0:
        return False
    step = state.extras[np.random.randint(0, state.numbers[EXTRAS])]
    copy = np.random.randint(1, state.times[step])
    here = state.place[step, copy]
    low = state.place[step, copy - 1] + 1
    high = state.numbers[LENGTH] - 1 if copy + 1 == state.times[step] else state.place[step, copy + 1] - 1
    if np.random.random() < 0.7:
        low, high = max(low, here - 6), min(high, here + 6)
    return relocate(net, state, scratch, here, low, high)


@compiled
def exchange(net: Net, state: State, scratch: Scratch) -> bool:
    """Fetches what was recomputed, or recomputes what was fetched, where it is."""
    if state.numbers[EXTRAS] == 0:
        return False
    step = state.extras[np.random.randint(0, state.numbers[EXTRAS])]
    if not net.recomputable[step]:
        return False
    here = state.place[step, np.random.randint(1, state.times[step])]
    action = step if fetches(net, state, here) else step + len(net.duration)
    take(net, state, scratch, here)
    put(net, state, scratch, action, here)
    return True


@compiled
def reorder(net: Net, state: State, scratch: Scratch) -> bool:
    """Moves a first computation to another place between what it reads and what reads it."""
    here = np.random.randint(0, state.numbers[LENGTH])
    if state.copy[here]:
        return False
    step = state.sequence[here]
    low, high = 0, first_read(net, state, step) - 1
    for number in range(net.read_at[step], net.read_at[step + 1]):
        low = max(low, state.place[net.writer[net.read[number]], 0] + 1)
    if state.times[step] > 1:
        high = min(high, state.place[step, 1] - 1)
    if np.random.random() < 0.6:
        low, high = max(low, here - 8), min(high, here + 8)
    return relocate(net, state, scratch, here, low, high)


@compiled
def useless(net: Net, state: State, position: int) -> bool:
    """Whether nothing reads what a recomputation wrote, and no kept value is what it is for."""
    step, copy = acting(net, state.sequence[position]), state.copy[position]
    if copy == 0:
        return False
    for number in range(net.write_at[step], net.write_at[step + 1]):
        if end_of(net, state, net.written[number], copy) > position:
            return False
    return True
