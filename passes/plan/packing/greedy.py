"""Greedy packing: buffers in a fixed order, each into a gap between those that live at the same time. A portfolio of orders.

First fit takes the lowest gap, best fit the tightest (Wilson et al., *Dynamic storage allocation: a survey*, 1995, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passes.plan.compiled import compiled
from passes.plan.packing.instance import Instance, Integers
from passes.plan.packing.orders import ordered

ORDERS = ("S", "A", "W", "L", "R", "TS", "TA", "TW", "WA", "LW", "RW")
"""Keys of `orders.ordered`, first to last. Time reversed, first fit by start is first fit by descending end (``R``)."""


@dataclass(frozen=True)
class Stack:
    """An offset for each buffer of an instance, and the largest end, both in units."""

    offsets: Integers
    height: int

    @staticmethod
    def of(instance: Instance, offsets: Integers) -> Stack:
        """The stack of offsets."""
        return Stack(offsets, int((offsets + instance.sizes).max(initial=0)))


def portfolio(instance: Instance, enough: int) -> Stack:
    """The lowest stack over all orders and both ways to fit; the first that is not above ``enough`` ends the search."""
    best: Stack | None = None
    for keys in ORDERS:
        order = ordered(instance, keys)
        for fit in (first_fit, best_fit):
            found = fit(instance, order)
            if best is None or found.height < best.height:
                best = found
            if best.height <= enough:
                return best
    assert best is not None
    return best


def first_fit(instance: Instance, order: Integers) -> Stack:
    """Each buffer, in the order, at the lowest offset where nothing that lives at the same time lies."""
    return Stack.of(instance, _first_fit(order, instance.sizes, instance.lower, instance.upper))


def best_fit(instance: Instance, order: Integers) -> Stack:
    """Each buffer, in the order, in the gap that it fills best, the lowest of equals; on top of all where it fits in none."""
    return Stack.of(instance, _best_fit(order, instance.sizes, instance.lower, instance.upper))


@compiled
def _insert(
    count: int, buffer: int, offset: int, sizes: Integers, lower: Integers, upper: Integers, placed: Integers
) -> None:
    """Keeps the rows (start, end, lower, upper) of what is placed sorted by start."""
    place = np.searchsorted(placed[0, :count], offset)
    for row in range(4):
        for move in range(count, place, -1):
            placed[row, move] = placed[row, move - 1]
    placed[0, place] = offset
    placed[1, place] = offset + sizes[buffer]
    placed[2, place] = lower[buffer]
    placed[3, place] = upper[buffer]


@compiled
def _first_fit(order: Integers, sizes: Integers, lower: Integers, upper: Integers) -> Integers:
    offsets = np.zeros(len(sizes), np.int64)
    placed = np.empty((4, len(sizes)), np.int64)
    for count, buffer in enumerate(order):
        size, start, end = sizes[buffer], lower[buffer], upper[buffer]
        top = 0
        for place in range(count):
            if placed[2, place] < end and placed[3, place] > start:
                if placed[0, place] - top >= size:
                    break
                top = max(top, placed[1, place])
        offsets[buffer] = top
        _insert(count, buffer, top, sizes, lower, upper, placed)
    return offsets


@compiled
def _best_fit(order: Integers, sizes: Integers, lower: Integers, upper: Integers) -> Integers:
    offsets = np.zeros(len(sizes), np.int64)
    placed = np.empty((4, len(sizes)), np.int64)
    for count, buffer in enumerate(order):
        size, start, end = sizes[buffer], lower[buffer], upper[buffer]
        top, chosen, tightest = 0, -1, np.iinfo(np.int64).max
        for place in range(count):
            if placed[2, place] < end and placed[3, place] > start:
                gap = placed[0, place] - top
                if size <= gap < tightest:
                    chosen, tightest = top, gap
                top = max(top, placed[1, place])
        offsets[buffer] = top if chosen < 0 else chosen
        _insert(count, buffer, offsets[buffer], sizes, lower, upper, placed)
    return offsets
