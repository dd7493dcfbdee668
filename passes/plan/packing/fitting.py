"""The decision problem: do the buffers of an instance fit in a capacity? Several canonical searches, in turn.

Each search is complete: one that finds a placement answers the question, and so does one that has been everywhere. They differ in
the preorder, and which is lucky varies by orders of magnitude between instances (Moffitt, *MiniMalloc*, ASPLOS 2023 vol. 4).
Searches in orders drawn at random are given up after their turn, the others go on in the next round (Gomes et al., *Heavy-tailed
phenomena in satisfiability and constraint satisfaction problems*, 2000, on why to restart).
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

import numpy as np

from passes.plan.packing.canonical import EXHAUSTED, FOUND
from passes.plan.packing.instance import Instance, Integers
from passes.plan.packing.orders import blended, ordered
from passes.plan.packing.state import Search, begin, failures, pairs

PREORDERS = ("WAT", "TAW", "TWA", "SWT", "AWT")
"""Keys of `orders.ordered`. The first three are those of Moffitt."""

DRAWN = 5
"""Orders drawn at random in every round."""

FIRST_TURN = 512
"""Nodes of a search in the first round, besides two for each buffer; doubled after every round."""

STORE = 1 << 26
"""Entries of all lists of a search; an instance that could need more (5,700 buffers that all live together) is not searched."""

CHUNK = 1 << 22
"""Entries between two looks at the clock: about a tenth of a second at most."""


@dataclass(slots=True)
class Limit:
    """What a search may use: ``nodes``, placements tried, and wall time up to ``deadline``, a value of time.monotonic().

    If the time is not reached, a number of nodes leads to the same outcome on every machine.
    """

    nodes: int
    deadline: float | None = None

    @property
    def reached(self) -> bool:
        """Whether nothing is left."""
        return self.nodes <= 0 or (self.deadline is not None and monotonic() >= self.deadline)

    def part(self, nodes: int) -> Limit:
        """At most a number of nodes of it; the caller takes off what was used."""
        return Limit(min(nodes, self.nodes), self.deadline)


@dataclass(frozen=True)
class Answer:
    """``offsets`` in units by place in the instance. None if none were found; if then ``proved``, there are none."""

    offsets: Integers | None
    proved: bool
    nodes: int


def fit(instance: Instance, capacity: int, limit: Limit) -> Answer:
    """Offsets within a capacity, both in units. Uses at most the limit, which it leaves as it is.

    That there are none is proved up to two components having the same 128 bits of hash.
    """
    if instance.peak() > capacity:
        return Answer(None, True, 0)
    if instance.count**2 // 2 + 3 * pairs(instance) > STORE:
        return Answer(None, False, 0)
    known = failures()
    lasting: list[Search] = []
    random = np.random.default_rng(0)
    used, round_, salt = 0, 0, 0
    turn = FIRST_TURN + 2 * instance.count
    while True:
        for place in range(len(PREORDERS) + DRAWN):
            if round_ and place < len(PREORDERS):
                search = lasting[place]
            else:
                order = ordered(instance, PREORDERS[place]) if place < len(PREORDERS) else blended(instance, random)
                search = begin(instance, order, capacity, known, salt)
                salt += 1
                if place < len(PREORDERS):
                    lasting.append(search)
            before = search.nodes
            status = _turn(search, Limit(min(turn, limit.nodes - used), limit.deadline))
            used += search.nodes - before
            if status == FOUND:
                return Answer(search.offsets(), True, used)
            if status == EXHAUSTED:
                return Answer(None, True, used)
            if Limit(limit.nodes - used, limit.deadline).reached:
                return Answer(None, False, used)
        turn *= 2
        round_ += 1


def _turn(search: Search, limit: Limit) -> int:
    """Goes on with a search, looking at the clock between chunks."""
    chunk = max(16, CHUNK // search.entries)
    end = search.nodes + limit.nodes
    while True:
        status = search.advance(min(chunk, end - search.nodes))
        if status in (FOUND, EXHAUSTED) or Limit(end - search.nodes, limit.deadline).reached:
            return status
