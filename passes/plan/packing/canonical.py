"""The hot loop of the search: depth first over canonical placements, on arrays, stopped and resumed at any node.

Canonical (Moffitt, *MiniMalloc: A Lightweight Memory Allocator for Hardware-Accelerated Machine Learning*, ASPLOS 2023 vol. 4):
every buffer lies at 0 or on another that lives together with it; buffers are placed by ascending offset, and at equal offsets by
ascending number. So the next buffer can lie at one offset only, its height: the highest end of what is placed and lives together
with it. From that paper are also the dominance of `_candidate`, the division of `_divide`, and that what remains of a section must
fit above its floor; `_fits` strengthens that from the floor to every offset, `_barred` and `_lift` raise the offsets, and
components that failed are remembered.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from passes.plan.compiled import compiled
from passes.plan.packing.instance import Integers

RUNNING, FOUND, EXHAUSTED = range(3)

DEPTH, NODES, AGENDA, STORE, TRAIL, STATUS, LARGEST = range(7)
"""Registers of a search: its frame, its nodes, the tops of its three stacks, one of the above, and the largest size."""

START, LENGTH, POSITION, VIABLE, LAST, CHOICE, OLD_TRAIL, OLD_AGENDA, OLD_STORE, REST, PARENT = range(11)
"""Of a frame, a component of which one buffer after the other is placed first: its list and the next position in it, the least
end of any, the buffer placed before, the buffer now placed, the stacks before that, the agenda without the component, and the
frame that made the component."""

ENTRY_START, ENTRY_LENGTH, ENTRY_NEXT, ENTRY_PARENT = range(4)
"""Of an entry of the agenda, a component that waits. Entries are linked, so that going back restores the agenda."""

FAILURES = 1 << 18
"""Components remembered to have no placement, by their hashes of 128 bits; a later one takes the place of an earlier."""

LIFTS = 4
"""Rounds of raising offsets at one node; few nodes have use for more."""

INFINITE = np.iinfo(np.int64).max


class Arrays(NamedTuple):
    """A search at some node. Buffers are numbered in the preorder; the height of a placed buffer is its offset.

    ``remaining`` units in each section are not placed; ``crossing[s]`` such buffers live in the sections s - 1 and s. ``store``
    holds the lists of the components, each by ascending height and number; ``trail`` the buffers raised and ``trail_heights``
    what their heights were. Searches may share ``failures`` if their ``salts`` differ.
    """

    sizes: Integers
    lower: Integers
    upper: Integers
    heights: Integers
    remaining: Integers
    crossing: Integers
    registers: Integers
    frames: Integers
    agenda: Integers
    store: npt.NDArray[np.int32]
    trail: npt.NDArray[np.int32]
    trail_heights: Integers
    hashes: npt.NDArray[np.uint64]
    failures: npt.NDArray[np.uint64]
    salts: npt.NDArray[np.uint64]


class Scratch(NamedTuple):
    """What is used within one node: lists of buffers, values by buffer, and values by section."""

    merged: npt.NDArray[np.int32]
    raised: npt.NDArray[np.int32]
    ranked: npt.NDArray[np.int32]
    bounds: Integers
    stacked: Integers
    latest: Integers
    least: Integers
    labels: Integers
    counts: Integers


@compiled
def advance(search: Arrays, capacity: int, limit: int) -> int:
    """Goes on until the search has tried ``limit`` placements in all, or is FOUND or EXHAUSTED; returns the status."""
    registers, frames = search.registers, search.frames
    count, sections = len(search.sizes), len(search.remaining)
    scratch = Scratch(
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.int64),
        np.empty(sections, np.int64),
        np.empty(sections, np.int64),
        np.empty(sections, np.int64),
        np.empty(sections + 1, np.int64),
        np.empty(sections + 1, np.int64),
    )
    while registers[STATUS] == RUNNING and registers[NODES] < limit:
        depth = registers[DEPTH]
        buffer = _candidate(search, depth)
        if buffer < 0:
            _fail(search, depth)
        elif _clear(search, buffer, search.heights[buffer], capacity):
            registers[NODES] += 1
            before = registers[TRAIL]
            low, high = _raise(search, scratch, depth, buffer)
            if _possible(search, scratch, frames[depth, LENGTH] - 1, buffer, capacity, low, high):
                frames[depth, CHOICE] = buffer
                frames[depth, OLD_TRAIL] = before
                _place(search, scratch, depth, buffer)
            else:
                _restore(search, before)
    return int(registers[STATUS])


@compiled
def enter(search: Arrays, depth: int, entry: int) -> None:
    """Takes a component off the agenda. One that is known to fail has no candidates.

    What may follow depends on the buffers, on their heights and on which of them may no longer be placed at their heights.
    """
    frame, parent = search.frames[depth], search.agenda[entry, ENTRY_PARENT]
    frame[START] = search.agenda[entry, ENTRY_START]
    frame[LENGTH] = search.agenda[entry, ENTRY_LENGTH]
    frame[REST] = search.agenda[entry, ENTRY_NEXT]
    frame[PARENT] = parent
    frame[LAST] = search.frames[parent, CHOICE] if parent >= 0 else -1
    frame[POSITION] = 0
    frame[CHOICE] = -1
    viable = INFINITE
    one, two = search.salts[0], search.salts[0]
    for place in range(frame[START], frame[START] + frame[LENGTH]):
        buffer = search.store[place]
        height = search.heights[buffer]
        viable = min(viable, height + search.sizes[buffer])
        name = np.uint64(
            2 * buffer + 1 + _barred(search, buffer, frame[LAST])
        )  # 0 would hash to 0, which is "none known"
        one += _mixed(np.uint64(height) * np.uint64(0x9E3779B97F4A7C15) + name)
        two += _mixed(np.uint64(height) * np.uint64(0xD1B54A32D192ED03) - name)
    frame[VIABLE] = viable
    search.hashes[depth, 0] = one
    search.hashes[depth, 1] = two
    known = search.failures[one & np.uint64(FAILURES - 1)]
    if known[0] == one and known[1] == two:
        frame[POSITION] = frame[LENGTH]


@compiled
def _mixed(word: np.uint64) -> np.uint64:
    """Steele et al., *Fast splittable pseudorandom number generators* (OOPSLA 2014): the finalizer of SplitMix64."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@compiled
def _barred(search: Arrays, buffer: int, last: int) -> bool:
    """Whether a buffer comes too late to be placed at its height after ``last``. It can still be raised and placed."""
    if last < 0:
        return False
    height, offset = search.heights[buffer], search.heights[last]
    return bool(height < offset or (height == offset and buffer < last))


@compiled
def _candidate(search: Arrays, depth: int) -> int:
    """The next buffer of a component that may be placed first, or -1.

    None at or above the least height plus size of another: that could as well be slipped in below.
    """
    frame = search.frames[depth]
    while frame[POSITION] < frame[LENGTH]:
        buffer = search.store[frame[START] + frame[POSITION]]
        if search.heights[buffer] >= frame[VIABLE]:
            return -1
        frame[POSITION] += 1
        if not _barred(search, buffer, frame[LAST]):
            return int(buffer)
    return -1


@compiled
def _clear(search: Arrays, buffer: int, offset: int, capacity: int) -> bool:
    """Whether all that remains in each section of a buffer fits above an offset."""
    return bool(search.remaining[search.lower[buffer] : search.upper[buffer]].max() <= capacity - offset)


@compiled
def _raise(search: Arrays, scratch: Scratch, depth: int, buffer: int) -> tuple[int, int]:
    """Raises what lives together with a buffer to its end. The component without the buffer, in order, is ``merged``.

    Returns the range of sections of what was raised.
    """
    frame, heights, merged, raised = search.frames[depth], search.heights, scratch.merged, scratch.raised
    low, high = search.lower[buffer], search.upper[buffer]
    first, end, top = low, high, heights[buffer] + search.sizes[buffer]
    trail = search.registers[TRAIL]
    kept = count = 0
    for place in range(frame[START], frame[START] + frame[LENGTH]):
        other = search.store[place]
        if other == buffer:
            continue
        if search.lower[other] < end and search.upper[other] > first and heights[other] < top:
            search.trail[trail] = other
            search.trail_heights[trail] = heights[other]
            trail += 1
            heights[other] = top
            raised[count] = other
            count += 1
            low, high = min(low, search.lower[other]), max(high, search.upper[other])
        else:
            merged[kept] = other
            kept += 1
    search.registers[TRAIL] = trail
    raised[:count].sort()
    while count:  # merges from the end; what is kept is in order already
        other, new = merged[kept - 1], raised[count - 1]
        if kept and (heights[other] > top or (heights[other] == top and other > new)):
            merged[kept + count - 1] = other
            kept -= 1
        else:
            merged[kept + count - 1] = new
            count -= 1
    return low, high


@compiled
def _restore(search: Arrays, trail: int) -> None:
    """Takes back what was raised since the trail was of a length."""
    while search.registers[TRAIL] > trail:
        search.registers[TRAIL] -= 1
        top = search.registers[TRAIL]
        search.heights[search.trail[top]] = search.trail_heights[top]


@compiled
def _possible(search: Arrays, scratch: Scratch, length: int, last: int, capacity: int, low: int, high: int) -> bool:
    """False if the component, as it is after ``last`` was placed, cannot be placed. Looks at the given sections.

    A barred buffer lies on another that is placed between now and where the buffer itself would fit below. (Not looked at where
    all fits above even so.)
    """
    largest = search.registers[LARGEST]
    merged, ranked, bounds, heights = scratch.merged, scratch.ranked, scratch.bounds, search.heights
    for place in range(length):
        buffer = merged[place]
        bounds[buffer] = heights[buffer]
        fits_below = heights[buffer] + search.sizes[buffer]
        if _barred(search, buffer, last) and not _clear(search, buffer, fits_below + largest, capacity):
            bounds[buffer] = INFINITE
            for other in merged[:length]:
                offset = max(heights[last], heights[other])
                if offset >= fits_below:
                    break
                if (
                    other != buffer
                    and search.lower[other] < search.upper[buffer]
                    and search.upper[other] > search.lower[buffer]
                ):
                    bounds[buffer] = min(bounds[buffer], offset + search.sizes[other])
            if bounds[buffer] == INFINITE:
                return False
            low, high = min(low, search.lower[buffer]), max(high, search.upper[buffer])
        ranked[place] = buffer
        _sink(scratch, place)
    for _ in range(LIFTS):
        if not _fits(search, scratch, length, capacity, low, high):
            return False
        if not _lift(search, scratch, length, capacity, low, high):
            return True
    return True


@compiled
def _sink(scratch: Scratch, place: int) -> None:
    """One step of sorting ``ranked`` by the bounds."""
    ranked, bounds = scratch.ranked, scratch.bounds
    buffer = ranked[place]
    while place > 0 and bounds[ranked[place - 1]] > bounds[buffer]:
        ranked[place] = ranked[place - 1]
        place -= 1
    ranked[place] = buffer


@compiled
def _fits(search: Arrays, scratch: Scratch, length: int, capacity: int, low: int, high: int) -> bool:
    """Whether in each section, what must lie at or above any offset fits between that and the capacity. All is ``stacked``."""
    stacked = scratch.stacked
    stacked[low:high] = 0
    for place in range(length - 1, -1, -1):
        buffer = scratch.ranked[place]
        size, most = search.sizes[buffer], 0
        for section in range(max(low, search.lower[buffer]), min(high, search.upper[buffer])):
            stacked[section] += size
            most = max(most, stacked[section])
        if most > capacity - scratch.bounds[buffer]:
            return False
    return True


@compiled
def _lift(search: Arrays, scratch: Scratch, length: int, capacity: int, low: int, high: int) -> bool:
    """Raises bounds, and tells whether any was. What can be lowest in a section lies at most where all still fits above.

    A buffer that cannot be so low lies on what is. (The first part of edge finding for machines; Carlier and Pinson, 1989.)
    """
    ranked, bounds, latest, least = scratch.ranked, scratch.bounds, scratch.latest, scratch.least
    latest[low:high] = capacity - scratch.stacked[low:high]
    least[low:high] = INFINITE
    for place in range(length):
        buffer = ranked[place]
        bound, end = bounds[buffer], bounds[buffer] + search.sizes[buffer]
        for section in range(max(low, search.lower[buffer]), min(high, search.upper[buffer])):
            if bound <= latest[section]:
                least[section] = min(least[section], end)
    lifted = False
    for place in range(length):
        buffer = ranked[place]
        bound = bounds[buffer]
        for section in range(max(low, search.lower[buffer]), min(high, search.upper[buffer])):
            if bound > latest[section]:
                bound = max(bound, least[section])
        if bound > bounds[buffer]:
            bounds[buffer] = bound
            lifted = True
    if lifted:
        for place in range(1, length):
            _sink(scratch, place)
    return lifted


@compiled
def _place(search: Arrays, scratch: Scratch, depth: int, buffer: int) -> None:
    """Places the choice of a frame and enters the next component that waits; without any, the search is done."""
    registers, frame = search.registers, search.frames[depth]
    frame[OLD_AGENDA], frame[OLD_STORE] = registers[AGENDA], registers[STORE]
    search.remaining[search.lower[buffer] : search.upper[buffer]] -= search.sizes[buffer]
    search.crossing[search.lower[buffer] + 1 : search.upper[buffer]] -= 1
    head = frame[REST]
    if frame[LENGTH] > 1:
        head = _divide(search, scratch, depth, buffer)
    registers[DEPTH] = depth + 1
    if head < 0:
        registers[STATUS] = FOUND
    else:
        enter(search, depth + 1, head)


@compiled
def _divide(search: Arrays, scratch: Scratch, depth: int, buffer: int) -> int:
    """Puts the rest of a component on the agenda, divided where nothing that is not placed crosses. Returns the agenda's head."""
    registers, agenda, frame = search.registers, search.agenda, search.frames[depth]
    labels, counts = scratch.labels, scratch.counts
    first, end = search.lower[buffer], search.upper[buffer]
    parts = 1
    counts[0] = labels[first] = 0
    for section in range(first + 1, end):
        if search.crossing[section] == 0:
            counts[parts] = 0
            parts += 1
        labels[section] = parts - 1
    rest = scratch.merged[: frame[LENGTH] - 1]
    for other in rest:
        counts[_part(labels, search.lower[other], first, end)] += 1
    head = int(frame[REST])
    while True:  # the smallest part comes to the head: it fails soonest
        largest = 0
        for part in range(parts):
            if counts[part] > counts[largest]:
                largest = part
        if counts[largest] <= 0:
            break
        entry = registers[AGENDA]
        agenda[entry, ENTRY_START] = registers[STORE]
        agenda[entry, ENTRY_LENGTH] = counts[largest]
        agenda[entry, ENTRY_NEXT] = head
        agenda[entry, ENTRY_PARENT] = depth
        registers[AGENDA] += 1
        registers[STORE] += counts[largest]
        counts[largest] = -agenda[entry, ENTRY_START] - 1  # from now on, where the part's next buffer goes
        head = int(entry)
    for other in rest:
        part = _part(labels, search.lower[other], first, end)
        search.store[-counts[part] - 1] = other
        counts[part] -= 1
    return head


@compiled
def _part(labels: Integers, lower: int, first: int, end: int) -> int:
    """Of what starts in a section, where the sections from ``first`` to ``end`` have labels."""
    return int(labels[max(first, min(lower, end - 1))])


@compiled
def _fail(search: Arrays, depth: int) -> None:
    """Remembers a component that has no placement and goes back to the frame that made it, which was wrong.

    What other components were placed since does not matter to it.
    """
    registers = search.registers
    search.failures[search.hashes[depth, 0] & np.uint64(FAILURES - 1)] = search.hashes[depth]
    target = search.frames[depth, PARENT]
    if target < 0:
        registers[STATUS] = EXHAUSTED
        return
    for back in range(depth - 1, target - 1, -1):
        frame = search.frames[back]
        buffer = frame[CHOICE]
        search.remaining[search.lower[buffer] : search.upper[buffer]] += search.sizes[buffer]
        search.crossing[search.lower[buffer] + 1 : search.upper[buffer]] += 1
        _restore(search, frame[OLD_TRAIL])
        registers[AGENDA], registers[STORE] = frame[OLD_AGENDA], frame[OLD_STORE]
    registers[DEPTH] = target
