"""Offsets: buffers with fixed lifetimes packed into one arena."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tensoropt.allocation import Allocation, Buffer, Placement

Order = Callable[[Buffer], tuple[int, ...]]

ORDERS: dict[str, Order] = {
    "size": lambda buffer: (-buffer.bytes, buffer.first),
    "area": lambda buffer: (-buffer.bytes * (buffer.last - buffer.first + 1), buffer.first),
    "start": lambda buffer: (buffer.first, -buffer.bytes),
}
"""Greedy orders that are tried before anything is compiled; most programs need no more."""

FEW = 400
"""Buffers up to which that takes less time than loading the compiled search."""

NODES = 50_000
"""Of the search, for a program whose greedy arena is above the live peak: about a second."""


def pack(problem: Allocation, aliases: Mapping[str, str]) -> Placement:
    """The smallest arena found: by first fit over a few orders if that reaches the live peak, and otherwise by search."""
    if len(problem.buffers) <= FEW:
        offsets, arena = min((_first_fit(problem, order) for order in ORDERS.values()), key=lambda found: found[1])
        if arena <= _align(problem.live_peak(), problem.alignment):
            return Placement(offsets, arena, problem.live_peak(), dict(aliases))
    from passes.plan.packing.search import smallest  # loads a compiler

    found = smallest(problem, NODES).placement
    assert found is not None
    return Placement(found.offsets, found.arena_bytes, found.peak_bytes, dict(aliases))


def _first_fit(problem: Allocation, order: Order) -> tuple[dict[str, int], int]:
    """Each buffer, in the given order, at the lowest aligned offset where nothing that lives at the same time lies."""
    placed: list[tuple[int, int, Buffer]] = []
    offsets: dict[str, int] = {}
    arena = 0
    for buffer in sorted(problem.buffers, key=order):
        offset = 0
        for start, end, other in placed:
            if other.first <= buffer.last and buffer.first <= other.last:
                if offset + buffer.bytes <= start:
                    break
                offset = max(offset, _align(end, problem.alignment))
        offsets[buffer.name] = offset
        arena = max(arena, offset + buffer.bytes)
        placed.append((offset, offset + buffer.bytes, buffer))
        placed.sort(key=lambda place: (place[0], place[1]))
    return offsets, _align(arena, problem.alignment)


def _align(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
