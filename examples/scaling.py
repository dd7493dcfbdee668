"""How many whole cores the machine gives at this moment.

On a shared machine two processors may be two cores now and two halves of one core a minute later, and engines differ in how much
they suffer from it. So a benchmark says beside each figure what it had.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

ELEMENTS = 1 << 16
"""Of f32: 256 KiB in and out, which second-level caches hold."""

REPEATS = 1000


def cores(threads: int, rounds: int = 3) -> float:
    """The throughput of so many threads of vector arithmetic over that of one: ``threads`` on as many whole cores, 1 on one."""
    time.sleep(0.1)  # engines' threads spin for a while after a call
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_work, range(threads)))
        found = []
        for _ in range(rounds):
            alone = _work(0)
            together = max(pool.map(_work, range(threads)))
            found.append(threads * alone / together)
    return statistics.median(found)


def _work(seed: int) -> float:
    values = np.linspace(0.1, 0.9, ELEMENTS, dtype=np.float32)
    result = np.empty_like(values)
    started = time.perf_counter()
    for _ in range(REPEATS):
        np.exp(values, out=result)
    return time.perf_counter() - started
