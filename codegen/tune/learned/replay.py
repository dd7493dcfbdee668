"""How good an order of variants is, by what was measured: nothing is run again.

An order is given by scores, the least first. All figures are of one kernel, among its measured variants.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codegen.tune.learned.samples import Numbers

ENOUGH = 0.95
"""The share of the final speed that tuning is to reach."""


def pairwise_accuracy(scores: Numbers, seconds: Numbers, apart: float = 0.0) -> float:
    """The share of pairs that scores order as the times do; pairs count whose times differ by more than a share ``apart``.

    Equal scores are right half of the time. NaN where no pair counts.
    """
    ours = np.sign(scores[:, None] - scores[None, :])
    slower = seconds[:, None] > seconds[None, :] * (1 + apart)
    if not slower.any():
        return float("nan")
    return float((0.5 + 0.5 * ours[slower]).mean())


def regret(scores: Numbers, seconds: Numbers) -> float:
    """How much longer the variant with the least score takes than the fastest, as a share."""
    return float(seconds[int(np.argmin(scores))] / seconds.min() - 1)


def curve(order: Sequence[int] | NDArray[np.int64], seconds: Numbers) -> Numbers:
    """The best time after each trial, in an order."""
    found: Numbers = np.minimum.accumulate(seconds[np.asarray(order)])
    return found


def trials_needed(order: Sequence[int] | NDArray[np.int64], seconds: Numbers) -> int:
    """After how many trials of an order the best is within ``ENOUGH`` of the speed that all of them find."""
    reached = curve(order, seconds) <= seconds.min() / ENOUGH
    return int(np.argmax(reached)) + 1


def default_first(scores: Numbers) -> NDArray[np.int64]:
    """The order of scores, after the default, which is the first of the variants and always tried first."""
    order = np.argsort(scores[1:], kind="stable") + 1
    return np.concatenate([[0], order])
