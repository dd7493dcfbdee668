"""Orders of the buffers: in which greedy packing places them, and which of several the search tries first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from passes.plan.packing.instance import Instance, Integers


def ordered(instance: Instance, keys: str) -> Integers:
    """Places of the instance's buffers, first to last, by the keys in turn; ties by start, then in the instance's order.

    Descending (S)ize, (W)idth of the lifetime, (A)rea, largest (T)otal of a section where the buffer lives; ascending
    (L)ower end of the lifetime; descending upper end, which is ascending start with time (R)eversed.
    """
    columns: dict[str, npt.NDArray[np.generic]] = {
        "S": -instance.sizes,
        "W": -instance.widths,
        "A": -instance.sizes * instance.widths.astype(np.float64),
        "T": -_largest_totals(instance),
        "L": instance.lower,
        "R": -instance.upper,
    }
    return np.lexsort((instance.lower, *(columns[key] for key in reversed(keys)))).astype(np.int64)


def blended(instance: Instance, random: np.random.Generator) -> Integers:
    """A random mixture of size, width and total."""
    size, width, total, noise = random.random(4) * (1, 1, 3, 0.2)
    key = (
        size * np.log(instance.sizes)
        + width * np.log(instance.widths + 1)
        + total * np.log(_largest_totals(instance))
        + noise * random.standard_normal(instance.count)
    )
    return np.argsort(-key, kind="stable").astype(np.int64)


def _largest_totals(instance: Instance) -> Integers:
    totals = instance.totals()
    return np.array(
        [totals[lower:upper].max() for lower, upper in zip(instance.lower, instance.upper, strict=True)], np.int64
    )
