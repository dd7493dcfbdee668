"""Timing of several functions against each other in one run, in alternating blocks.

Figures from different minutes do not compare on a shared machine, and an engine's threads go on spinning after a call
and slow down whoever comes next. So the functions take turns, each turn is a block of calls, the order rotates, and
before each block the machine idles.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

IDLE_SECONDS = 0.02
"""Before each block; ONNX Runtime's and TVM's threads have stopped spinning by then."""
BLOCK_SECONDS = 0.15
"""What a block should last; calls longer than that make blocks of one call."""
MOST_CALLS = 100


@dataclass(frozen=True, slots=True)
class Series:
    """The times of one function: one figure a block, the median of the block's calls, in milliseconds."""

    blocks: tuple[float, ...]
    calls: int
    """Timed calls in each block."""

    @property
    def median(self) -> float:
        """Median over the blocks, in milliseconds."""
        return statistics.median(self.blocks)


def alternate(functions: Mapping[str, Callable[[], object]], blocks: int = 7) -> dict[str, Series]:
    """Time the functions in turn, `blocks` blocks each (at least 5), and return the series by name.

    The first call of every block is not timed: it finds cold caches and sleeping threads.
    """
    if blocks < 5:
        raise ValueError(f"{blocks} blocks: fewer than 5 do not make a median")
    names = list(functions)
    calls = {name: _calls(function) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in names}
    for index in range(blocks):
        start = index % len(names)
        for name in names[start:] + names[:start]:
            times[name].append(_block(functions[name], calls[name]))
    return {name: Series(tuple(times[name]), calls[name]) for name in names}


def _calls(function: Callable[[], object]) -> int:
    """How many calls fill a block, from a second call that is timed after a first that warms up."""
    function()
    seconds = _seconds(function)
    return max(1, min(MOST_CALLS, round(BLOCK_SECONDS / seconds)))


def _block(function: Callable[[], object], calls: int) -> float:
    """Idle, call once untimed, then return the median of `calls` calls in milliseconds."""
    time.sleep(IDLE_SECONDS)
    function()
    return 1e3 * statistics.median(_seconds(function) for _ in range(calls))


def _seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
