"""How many trials the tuning of a whole model needs, by what was measured: nothing is run again.

Trials go to kernels as they do when a model is tuned (``codegen.tune.gains``), and within a kernel in an order of its variants; or
to any variant of any kernel at random. The defaults are known beforehand and do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from codegen.tune.gains import PART, Expectation
from codegen.tune.learned.replay import ENOUGH, default_first
from codegen.tune.learned.samples import Numbers, Sample

SHUFFLES = 32
"""Random orders whose mean counts."""


def trials_by_gains(samples: Sequence[Sample], scores: Sequence[Numbers]) -> int:
    """Trials until a model is within ``ENOUGH`` of its final speed; by scores of each kernel's variants, the least first."""
    promises: list[list[float | None]] = [[None] * len(one) for one in scores]
    return _needed(samples, _by_gains(samples, [default_first(one)[1:] for one in scores], promises))


def trials_by_promises(samples: Sequence[Sample], scores: Sequence[Numbers]) -> int:
    """The same where scores are logarithms of times: they say too which kernels gain most."""
    promises: list[list[float | None]] = [list(map(float, one[0] - one)) for one in scores]
    return _needed(samples, _by_gains(samples, [default_first(one)[1:] for one in scores], promises))


def trials_at_random(samples: Sequence[Sample], seed: int) -> float:
    """The same where every variant of every kernel may be next: the mean of ``SHUFFLES`` orders."""
    random = np.random.default_rng(seed)
    trials = [(kernel, number) for kernel, one in enumerate(samples) for number in range(1, len(one.fastest))]
    orders = (random.permutation(len(trials)) for _ in range(SHUFFLES))
    return float(np.mean([_needed(samples, (trials[place] for place in order)) for order in orders]))


def _by_gains(
    samples: Sequence[Sample], orders: Sequence[NDArray[np.int64]], promises: Sequence[Sequence[float | None]]
) -> Iterator[tuple[int, int]]:
    """Kernels and the numbers of their variants, as they are measured one after another."""
    expected = [Expectation() for _ in samples]
    best = [float(one.fastest[0]) for one in samples]
    left = [list(map(int, order)) for order in orders]

    def saving(kernel: int) -> float:
        now = best[kernel] / float(samples[kernel].fastest[0])
        return now * samples[kernel].share * expected[kernel].share(promises[kernel][left[kernel][0]], now)

    while waiting := [kernel for kernel, numbers in enumerate(left) if numbers]:
        kernel = max(waiting, key=saving)
        part, left[kernel] = left[kernel][:PART], left[kernel][PART:]
        yield from ((kernel, number) for number in part)
        before, best[kernel] = best[kernel], min(best[kernel], float(samples[kernel].fastest[part].min()))
        expected[kernel].learn(1 - best[kernel] / before)


def _needed(samples: Sequence[Sample], trials: Iterator[tuple[int, int]]) -> int:
    """How many trials come before the model is fast enough."""
    times = [one.share * one.fastest / one.fastest[0] for one in samples]
    now, goal = [float(one[0]) for one in times], sum(float(one.min()) for one in times) / ENOUGH
    total, made = sum(now), 0
    while total > goal:
        kernel, number = next(trials)
        made += 1
        faster = min(now[kernel], float(times[kernel][number]))
        total, now[kernel] = total - now[kernel] + faster, faster
    return made
