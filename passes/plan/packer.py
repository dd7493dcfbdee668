"""Offsets: buffers with fixed lifetimes packed into one arena."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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


def pack(problem: Allocation) -> Placement:
    """The smallest arena found: by first fit over a few orders if that reaches the live peak, and otherwise by search."""
    if len(problem.buffers) <= FEW:
        offsets, arena = min((_first_fit(problem, order) for order in ORDERS.values()), key=lambda found: found[1])
        if arena <= _align(problem.live_peak(), problem.alignment):
            return Placement(offsets, arena, problem.live_peak())
    from passes.plan.packing.search import smallest  # loads a compiler

    found = smallest(_whole(problem), NODES).placement
    assert found is not None
    if len(problem.buffers) <= FEW and arena <= found.arena_bytes:
        return Placement(offsets, arena, problem.live_peak())
    return replace(found, peak_bytes=problem.live_peak())


def _whole(problem: Allocation) -> Allocation:
    """The problem with every buffer live as a whole, which the search knows no other way."""
    return replace(problem, buffers=tuple(replace(buffer, parts=()) for buffer in problem.buffers))


def _first_fit(problem: Allocation, order: Order) -> tuple[dict[str, int], int]:
    """Each buffer, in the given order, at the lowest aligned offset where nothing that lives at the same time lies."""
    placed: list[Buffer] = []
    offsets: dict[str, int] = {}
    arena = 0
    for buffer in sorted(problem.buffers, key=order):
        offset = _lowest(buffer, [(offsets[other.name], other) for other in placed], problem.alignment)
        offsets[buffer.name] = offset
        arena = max(arena, offset + buffer.bytes)
        placed.append(buffer)
    return offsets, _align(arena, problem.alignment)


def _lowest(buffer: Buffer, placed: list[tuple[int, Buffer]], alignment: int) -> int:
    """The lowest aligned offset of a buffer at which nothing of it lies where something else is live at the same time.

    Each pair of spans that are live together forbids an interval of offsets; the answer is the first aligned gap.
    """
    forbidden = sorted(
        (offset + one.start - own.start - own.bytes, offset + one.start + one.bytes - own.start)
        for offset, other in placed
        for one in other.spans
        for own in buffer.spans
        if own.first <= one.last and one.first <= own.last and own.bytes and one.bytes
    )
    lowest = 0
    for low, high in forbidden:
        if low < lowest < high:
            lowest = _align(high, alignment)
        elif low >= lowest:
            break
    return lowest


def _align(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
