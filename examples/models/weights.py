"""Seeded random weights that are the same bits on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Weights:
    """A stream of random arrays from one seed.

    Values are uniform and not normal: a uniform float is made from random bits by one multiplication, where a normal
    one passes through logarithms whose last bit differs between mathematical libraries.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, shape: tuple[int, ...], std: float) -> Array:
        """Return float32 values of mean 0 and the given standard deviation."""
        bound = std * 3**0.5
        return self.between(shape, -bound, bound)

    def between(self, shape: tuple[int, ...], low: float, high: float) -> Array:
        """Return float32 values uniform in [low, high)."""
        values = self._generator.random(shape, dtype=np.float32)
        values *= np.float32(high - low)
        values += np.float32(low)
        return values
