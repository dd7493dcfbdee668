"""What the cost model is trained for: differences between a kernel's variants, and which of two is faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codegen.tune.learned.samples import Numbers, Sample

FARTHEST = 2.0
"""What is slower than four times the best, as a logarithm to the base 2, is only known to be that slow: which of the slow ones is
slower does not matter."""
_PAIRS = 2.0
"""How much the order of pairs counts beside the size of differences."""
_SHARPNESS = 4.0
"""Variants whose predictions differ by less than the inverse are hardly told apart."""

Objective = Callable[[Numbers, Any], tuple[Numbers, Numbers]]
"""(predictions of all rows, the data) → first and second derivatives of the loss, as XGBoost asks for them."""


def objective(samples: Sequence[Sample]) -> Objective:
    """Of the rows of these kernels one after another, where every kernel counts the same.

    The loss of a kernel is the variance of the errors, for a number that is added to all of its predictions orders nothing; and
    the mean over pairs of RankNet's logistic loss (Burges et al., "Learning to rank using gradient descent", ICML 2005, section 3).
    """
    behind = [np.minimum(sample.behind, FARTHEST) for sample in samples]
    faster = [np.sign(one[:, None] - one[None, :]) for one in behind]
    ends = np.cumsum([len(one) for one in behind])
    mean = float(np.mean([len(one) for one in behind]))

    def derivatives(predicted: Numbers, data: Any) -> tuple[Numbers, Numbers]:
        firsts, seconds = [], []
        for one, order, found in zip(behind, faster, np.split(predicted.astype(np.float64), ends[:-1]), strict=True):
            count = len(one)
            errors = found - one
            apart = (found[:, None] - found[None, :]) * order
            doubts = np.abs(order) / (1 + np.exp(_SHARPNESS * apart))
            first = errors - errors.mean() - _PAIRS * (order * doubts).sum(axis=1) / count
            second = 1 - 1 / count + _PAIRS * _SHARPNESS * (doubts * (1 - doubts)).sum(axis=1) / count
            firsts.append(first * mean / count)
            seconds.append(second * mean / count)
        return np.concatenate(firsts), np.concatenate(seconds)

    return derivatives
