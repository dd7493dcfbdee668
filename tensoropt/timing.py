"""Wall-clock times: of a run's stages, and of functions against one another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(runs: Mapping[str, Callable[[], Any]], blocks: int = 5, budget: float = 2.0) -> dict[str, float]:
    """Median milliseconds of a call of each, timed in alternating blocks with 10 ms of idle time before each.

    Idle time, because thread pools of other engines spin for a while after a call and would be timed too.
    """
    calls: dict[str, int] = {}
    for name, run in runs.items():
        run()
        started = time.perf_counter()
        run()
        once = max(time.perf_counter() - started, 1e-6)
        calls[name] = max(1, min(50, int(budget / blocks / len(runs) / once)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(blocks):
        for name, run in runs.items():
            time.sleep(0.01)
            run()
            for _ in range(calls[name]):
                started = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - started)
    return {name: sorted(values)[len(values) // 2] * 1e3 for name, values in times.items()}


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
