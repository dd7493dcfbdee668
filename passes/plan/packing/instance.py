"""What is packed: sizes in units of the alignment, lifetimes as ranges of sections, and one instance for each independent part.

A section stands for a time at which the set of live buffers is maximal (Moffitt, *MiniMalloc*, ASPLOS 2023 vol. 4, calls all
times between two changes sections; those whose live buffers are a subset of another's say nothing more). Two buffers live
together exactly if they share a section.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

from tensoropt.allocation import Allocation, Buffer

Integers = npt.NDArray[np.int64]

LARGEST = 1 << 62
"""Total of the sizes in units, beyond which sums of two totals would not fit in 64 bits."""


@dataclass(frozen=True)
class Instance:
    """Buffers that are connected in time, ``sizes`` in units: positive. Live in the sections ``lower`` to ``upper``, half-open.

    ``widths`` are lifetimes in steps, or in more than one step where 32 bits would not hold them: they only rank. ``numbers``
    are positions in the allocation.
    """

    numbers: tuple[int, ...]
    sizes: Integers
    lower: Integers
    upper: Integers
    widths: Integers

    @property
    def count(self) -> int:
        """Of buffers."""
        return len(self.numbers)

    @property
    def sections(self) -> int:
        """How many there are."""
        return int(self.upper.max(initial=0))

    def totals(self) -> Integers:
        """Live units in each section."""
        changes = np.zeros(self.sections + 1, np.int64)
        np.add.at(changes, self.lower, self.sizes)
        np.subtract.at(changes, self.upper, self.sizes)
        return np.cumsum(changes)[:-1]

    def peak(self) -> int:
        """The most live units in any section: no arena is smaller."""
        return int(self.totals().max(initial=0))


@dataclass(frozen=True)
class Scaled:
    """An allocation in units of ``unit`` bytes. ``exact``: an arena of n units exists exactly if the instances fit in n units.

    Where it is not exact, sizes were rounded up to the unit: what fits in units fits in bytes, and not the other way round.
    ``peak_bytes`` is the live peak of the sizes rounded up to the alignment: a bound on every arena of this alignment.
    """

    allocation: Allocation
    instances: tuple[Instance, ...]
    unit: int
    exact: bool
    peak_bytes: int

    def capacity(self, bytes_: int) -> int:
        """The units that bytes hold."""
        return bytes_ // self.unit


def scaled(allocation: Allocation) -> Scaled:
    """The instances of an allocation. ValueError for a negative size, or a buffer that ends before it starts.

    Sizes are rounded up to the alignment and divided by what they have in common. Buffers of size 0 belong to no instance.
    """
    alignment = allocation.alignment
    for buffer in allocation.buffers:
        if buffer.bytes < 0 or buffer.last < buffer.first:
            raise ValueError(f"{buffer.name} has a negative size or lifetime")
    aligned = [-(-buffer.bytes // alignment) * alignment for buffer in allocation.buffers]
    rounded = tuple(
        Buffer(buffer.name, size, buffer.first, buffer.last)
        for buffer, size in zip(allocation.buffers, aligned, strict=True)
    )
    unit, exact = max(gcd(*aligned), alignment), True
    while sum(-(-size // unit) for size in aligned) >= LARGEST:
        unit, exact = 2 * unit, False
    present = [number for number, size in enumerate(aligned) if size]
    sizes = {number: -(-aligned[number] // unit) for number in present}
    instances = tuple(_instance(part, sizes, rounded) for part in _connected(present, rounded))
    return Scaled(allocation, instances, unit, exact, Allocation(rounded).live_peak())


def _connected(numbers: Sequence[int], buffers: Sequence[Buffer]) -> list[list[int]]:
    """Buffers of one part overlap in a chain; those of two parts never live at the same time."""
    parts: list[list[int]] = []
    end = -1
    for number in sorted(numbers, key=lambda number: (buffers[number].first, number)):
        if not parts or buffers[number].first > end:
            parts.append([])
            end = buffers[number].last
        parts[-1].append(number)
        end = max(end, buffers[number].last)
    return parts


def _instance(numbers: Sequence[int], sizes: dict[int, int], buffers: Sequence[Buffer]) -> Instance:
    """A section is counted at the first end after a start."""
    events = sorted(
        [(buffers[number].first, 1, place) for place, number in enumerate(numbers)]
        + [(buffers[number].last + 1, 0, place) for place, number in enumerate(numbers)]
    )
    lower, upper = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.int64)
    sections, started = 0, False
    for _, starts, place in events:
        if starts:
            lower[place] = sections
            started = True
        else:
            sections += started
            started = False
            upper[place] = sections
    widths = [buffers[number].last + 1 - buffers[number].first for number in numbers]
    coarse = max(1, max(widths) >> 31)
    return Instance(
        tuple(numbers),
        np.array([sizes[number] for number in numbers], np.int64),
        lower,
        upper,
        np.array([width // coarse for width in widths], np.int64),
    )
