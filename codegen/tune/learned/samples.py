"""What is learned from: the measured variants of a kernel on one target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codegen.tune.learned.features import Rows

Numbers = NDArray[np.float64]
_STEADY = 0.05
"""How far apart two measurements of most variants of a kernel may be, as a share."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Variants of one kernel: a row of features and the seconds of each, the default first.

    ``again`` are the seconds of a second measurement where there was one; ``origin`` says which model the kernel is of, and
    ``share`` how long its default takes beside those of the model's other kernels.
    """

    kernel: str
    rows: Rows
    seconds: Numbers
    again: Numbers | None = None
    origin: str = ""
    share: float = 1.0

    @property
    def fastest(self) -> Numbers:
        """Seconds of the faster of two measurements: what runs beside a kernel makes it slower, and nothing faster."""
        found: Numbers = self.seconds if self.again is None else np.minimum(self.seconds, self.again)
        return found

    @property
    def behind(self) -> Numbers:
        """How many times longer than the fastest each takes, as a logarithm to the base 2: what is to be predicted."""
        found: Numbers = np.log2(self.fastest / self.fastest.min())
        return found

    @property
    def is_steady(self) -> bool:
        """Whether a second measurement agrees: where something else ran on the machine, times say little. True without one."""
        if self.again is None:
            return True
        return bool(np.median(np.abs(np.log(self.again / self.seconds))) <= _STEADY)
