"""Vectors of every m-th neighbour from vectors of neighbours, and back, for m a power of two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

Bind = Callable[[Any], Any]


def separate(vectors: Sequence[Any], lanes: int, bind: Bind) -> list[Any]:
    """``m`` vectors of neighbours as m vectors, of which the r-th holds the elements r, r + m, r + 2·m, …"""
    count = len(vectors)
    if count == 1:
        return list(vectors)
    evens, odds = list(range(0, 2 * lanes, 2)), list(range(1, 2 * lanes, 2))
    pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
    even = separate([bind(tirx.Shuffle(list(pair), evens)) for pair in pairs], lanes, bind)
    odd = separate([bind(tirx.Shuffle(list(pair), odds)) for pair in pairs], lanes, bind)
    return [vector for both in zip(even, odd, strict=True) for vector in both]


def interleave(vectors: Sequence[Any], lanes: int, bind: Bind) -> list[Any]:
    """The inverse of ``separate``."""
    count = len(vectors)
    if count == 1:
        return list(vectors)
    low = [place for lane in range(lanes // 2) for place in (lane, lanes + lane)]
    high = [place + lanes // 2 for place in low]
    even, odd = interleave(vectors[::2], lanes, bind), interleave(vectors[1::2], lanes, bind)
    return [
        bind(tirx.Shuffle([first, second], half))
        for first, second in zip(even, odd, strict=True)
        for half in (low, high)
    ]


def shifted(vector: Any, following: Any, places: Sequence[int], lanes: int, bind: Bind) -> Any:
    """The vector moved down by as many lanes as there are places, which are filled from the following vector."""
    kept = list(range(len(places), lanes))
    return bind(tirx.Shuffle([vector, following], [*kept, *(lanes + place for place in places)]))
