"""The certificate of a turned access: it and the access tell of the same points.

Two halves: every point of the old box that reads an element is found at that element and its ``converse``, and every point of the
new box that meets the guards reads its element and leads back. Together they say that the points that read an element and the
points over it are the same, each once. Boxes of up to ``POINTS`` points are gone through whole, larger ones by random points, each
evaluated in exact integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from passes.differentiate.turning import Guard, Turned
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array

POINTS = 4096
"""Points of each half."""


class NotConverse(Exception):
    """The turned access does not tell of the points that read an element: a defect of this program."""


def require_converse(turn: Turned, indices: Sequence[Index], box: Sequence[Iterator], seed: int = 0) -> None:
    """NotConverse where a point tells the turned access and the access apart."""
    generator = np.random.default_rng(seed)
    old = _Grid.over(box, generator)
    reads = dict(zip(turn.elements, indices, strict=True))
    at = old.mapped({**reads, **turn.converse})
    found = at.within(turn.rest) & at.meets(turn) & _same(at.mapped(turn.points), old, box)
    if (at.within(turn.elements) & ~found).any():
        raise NotConverse(f"a point that reads an element is not found at it: {indices} turned to {turn.points}")
    new = _Grid.over((*turn.elements, *turn.rest), generator)
    at = new.mapped(turn.points)
    right = at.within(box) & _same(at.mapped({**reads, **turn.converse}), new, (*turn.elements, *turn.rest))
    if (new.meets(turn) & ~right).any():
        raise NotConverse(f"a point that does not read an element is found at it: {indices} turned to {turn.points}")


@dataclass(frozen=True, slots=True)
class _Grid:
    """Points: the values of each iterator at each of them."""

    count: int
    values: Mapping[Iterator, Array]

    @staticmethod
    def over(box: Sequence[Iterator], generator: np.random.Generator) -> _Grid:
        """All points of a box, or random ones."""
        total = prod(iterator.extent for iterator in box)
        if total > POINTS:
            return _Grid(POINTS, {one: generator.integers(0, one.extent, POINTS) for one in box})
        axes = np.unravel_index(np.arange(total), [one.extent for one in box]) if box and total else ()
        places = axes or [np.zeros(total, np.int64)] * len(box)
        return _Grid(total, {one: np.asarray(place, np.int64) for one, place in zip(box, places, strict=True)})

    def evaluate(self, index: Index) -> Array:
        """The index at every point."""
        return np.broadcast_to(np.asarray(index.evaluate(self.values.__getitem__), np.int64), self.count)

    def mapped(self, indices: Mapping[Iterator, Index]) -> _Grid:
        """The points that indices give for these points."""
        return _Grid(self.count, {iterator: self.evaluate(index) for iterator, index in indices.items()})

    def within(self, box: Sequence[Iterator]) -> Array:
        """Which points are in a box."""
        return self._all([(self.values[one] >= 0) & (self.values[one] < one.extent) for one in box])

    def meets(self, turn: Turned) -> Array:
        """Which points meet the guards."""

        def holds(guard: Guard) -> Array:
            values = self.evaluate(guard.index)
            return np.asarray((guard.low <= values) & (values < guard.high))

        return self._all([holds(guard) for guard in (*turn.ranges.values(), *turn.guards)])

    def _all(self, tests: Sequence[Array]) -> Array:
        held = np.ones(self.count, np.bool_)
        for test in tests:
            held &= test
        return held


def _same(one: _Grid, other: _Grid, box: Sequence[Iterator]) -> Array:
    held = np.ones(one.count, np.bool_)
    for iterator in box:
        held &= one.values[iterator] == other.values[iterator]
    return held
