"""Wall-clock times: of functions against one another, in turns, and of a run's stages.

Figures from different minutes do not compare on a shared machine, and an engine's threads go on spinning after a call and slow
down whoever comes next. So functions take turns, each turn is a block of calls, the order rotates, and before each block the
machine idles.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

IDLE_SECONDS = 0.02
"""Before each block; the threads of ONNX Runtime, TVM and OpenVINO have stopped spinning by then."""
BLOCK_SECONDS = 0.15
"""What a block should last; calls longer than that make blocks of one call."""
MOST_CALLS = 100
FEWEST_TURNS = 3
"""Of a function that is too slow for the time that it has."""
ESTIMATES = 3
"""Calls that say how long one takes: a single one may have met another process."""
LONG_SECONDS = 1.0
"""A call that takes so long gains nothing from an untimed one before it."""


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

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile over the blocks, in milliseconds."""
        if len(self.blocks) == 1:
            return self.blocks[0], self.blocks[0]
        first, _, third = statistics.quantiles(self.blocks, n=4, method="inclusive")
        return first, third


@dataclass(frozen=True, slots=True)
class _Turns:
    """How one function takes part: timed calls in a block, blocks, and whether each begins with an untimed call."""

    calls: int
    blocks: int
    warm: bool


def alternate(
    functions: Mapping[str, Callable[[], object]],
    blocks: int = 7,
    *,
    block_seconds: float = BLOCK_SECONDS,
    budget: float = 30.0,
) -> dict[str, Series]:
    """Time the functions in turn, ``blocks`` blocks each (at least 5), and return the series by name.

    The first call of every block is not timed: it finds cold caches and sleeping threads. ``budget`` is seconds for one function;
    one that is too slow for it takes part in fewer turns, three at least. ValueError for fewer than five blocks.
    """
    if blocks < 5:
        raise ValueError(f"{blocks} blocks: fewer than 5 do not make a median")
    names = list(functions)
    turns = {name: _turns(function, blocks, block_seconds, budget) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in names}
    for index in range(blocks):
        start = index % len(names)
        for name in names[start:] + names[:start]:
            if index < turns[name].blocks:
                times[name].append(_block(functions[name], turns[name]))
    return {name: Series(tuple(times[name]), turns[name].calls) for name in names}


def _turns(function: Callable[[], object], blocks: int, block_seconds: float, budget: float) -> _Turns:
    """How many calls fill a block, from the fastest of a few; the first warms up and counts only where it takes long."""
    seconds = _seconds(function)
    if seconds <= LONG_SECONDS:
        seconds = min(_seconds(function) for _ in range(ESTIMATES))
    calls = max(1, min(MOST_CALLS, round(block_seconds / seconds)))
    warm = seconds <= LONG_SECONDS
    possible = int(budget / (seconds * (calls + warm)))
    return _Turns(calls, max(FEWEST_TURNS, min(blocks, possible)), warm)


def _block(function: Callable[[], object], turns: _Turns) -> float:
    """Idle, call once untimed, then return the median of the block's calls in milliseconds."""
    time.sleep(IDLE_SECONDS)
    if turns.warm:
        function()
    return 1e3 * statistics.median(_seconds(function) for _ in range(turns.calls))


def _seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """Ends the stage of that name."""
        now = time.monotonic()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
