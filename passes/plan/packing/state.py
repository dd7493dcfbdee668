"""A canonical search as an object: set up on an instance, and taken further by a number of nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from passes.plan.packing.canonical import (
    AGENDA,
    EXHAUSTED,
    FAILURES,
    LARGEST,
    NODES,
    STATUS,
    STORE,
    Arrays,
    advance,
    enter,
)
from passes.plan.packing.instance import Instance, Integers

Failures = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Search:
    """Of a placement within ``capacity`` units. ``order`` are the instance's places in the order of the search."""

    order: Integers
    capacity: int
    arrays: Arrays

    @property
    def nodes(self) -> int:
        """Placements tried so far."""
        return int(self.arrays.registers[NODES])

    @property
    def entries(self) -> int:
        """Lengths of the lists that one node goes through: of buffers times sections."""
        return len(self.arrays.sizes) + int((self.arrays.upper - self.arrays.lower).sum())

    def advance(self, nodes: int) -> int:
        """Goes on for a number of nodes. RUNNING, or FOUND or EXHAUSTED, which a search stays."""
        return int(advance(self.arrays, self.capacity, self.nodes + nodes))

    def offsets(self) -> Integers:
        """Of a search that is FOUND: in units, by place in the instance."""
        found = np.empty(len(self.order), np.int64)
        found[self.order] = self.arrays.heights
        return found


def failures() -> Failures:
    """None remembered."""
    return np.zeros((FAILURES, 2), np.uint64)


def begin(instance: Instance, order: Integers, capacity: int, known: Failures, salt: int) -> Search:
    """Nothing placed. Searches that share ``known`` have different ``salt``. The instance has at least one buffer."""
    count, together = instance.count, pairs(instance)
    sizes, lower, upper = instance.sizes[order], instance.lower[order], instance.upper[order]
    crossing = np.zeros(instance.sections + 2, np.int64)
    np.add.at(crossing, lower + 1, 1)
    np.subtract.at(crossing, upper, 1)
    arrays = Arrays(
        sizes,
        lower,
        upper,
        heights=np.zeros(count, np.int64),
        remaining=instance.totals(),
        crossing=np.cumsum(crossing),
        registers=np.zeros(7, np.int64),
        frames=np.zeros((count + 1, 11), np.int64),
        agenda=np.zeros((2 * count + 2, 4), np.int64),
        store=np.empty(count * (count + 1) // 2 + 1, np.int32),
        trail=np.empty(together + 1, np.int32),
        trail_heights=np.empty(together + 1, np.int64),
        hashes=np.zeros((count + 1, 2), np.uint64),
        failures=known,
        salts=np.array([salt], np.uint64),
    )
    arrays.store[:count] = np.arange(count)
    arrays.agenda[0] = (0, count, -1, -1)
    arrays.registers[[AGENDA, STORE, LARGEST]] = 1, count, sizes.max()
    if instance.peak() > capacity:
        arrays.registers[STATUS] = EXHAUSTED
    else:
        enter(arrays, 0, 0)
    return Search(order, capacity, arrays)


def pairs(instance: Instance) -> int:
    """How many pairs of buffers live together: raised heights are remembered at most once for each."""
    started = np.searchsorted(np.sort(instance.lower), instance.lower, side="right")
    ended = np.searchsorted(np.sort(instance.upper), instance.lower, side="right")
    _, ties = np.unique(instance.lower, return_counts=True)
    return int((started - ended).sum()) - instance.count - int((ties * (ties - 1) // 2).sum())
