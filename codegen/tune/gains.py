"""What measuring more of a kernel is expected to save: the next variants are those of the kernel where that is most.

The gradient of Ansor's task scheduler (Zheng et al., OSDI 2020, section 6), looking ahead in one way: a kernel's next variants gain
what its last ones did or, where these gained little, a part of what was expected of them. The same share is expected of every
kernel that was not measured yet, so the heaviest come first. Where a model has predicted what the next variants save, that counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp2
from statistics import median

from codegen.tune.space import DEFAULT, Variant
from codegen.tune.tuned import TunedKernel

PART = 7
"""Variants of a kernel that are measured together, beside its default, at the most."""
_FIRST = 0.3
"""The share of its time that a kernel's first variants are expected to save."""
_FADING = 0.25
"""What remains of an expectation that was not met: variants come in the order of their promise."""
_TRUST = 0.5
"""How much a prediction counts after a part was measured, beside before: what was predicted first has been seen."""
_UNPREDICTED = 0.1
"""How much of what is expected without a model counts where one predicts less: predictions are wrong now and then."""


@dataclass(slots=True)
class Expectation:
    """The share of a kernel's time that its next part of variants is expected to save, after so many parts were measured."""

    measured: float = 0.0
    gain: float = field(init=False)

    def __post_init__(self) -> None:
        self.gain = _FIRST * _FADING**self.measured

    def learn(self, gained: float) -> None:
        """After a part was measured: the share of the best time before it that it has saved."""
        self.measured += 1
        self.gain = max(gained, self.gain * _FADING)

    def share(self, promise: float | None, left: float) -> float:
        """The share of the best time that the next part is expected to save.

        Its best variant is predicted to be so many times faster than the default (a logarithm to the base 2; None: nothing is),
        while the best that is known takes the share ``left`` of the default's time.
        """
        if promise is None:
            return self.gain
        trust: float = _TRUST**self.measured
        return max((1 - exp2(-promise) / left) * trust, self.gain * _UNPREDICTED)


@dataclass(slots=True, eq=False)
class Waiting:
    """A kernel with the variants that are still to be measured, in parts that are measured together, and what they may gain.

    A part of no variants is the default alone.
    """

    tuned: TunedKernel
    parts: list[list[Variant]]
    expectation: Expectation

    @staticmethod
    def of(tuned: TunedKernel, size: int) -> Waiting:
        """All variants that nothing is known of, so many together beside the default."""
        missing = [variant for variant in tuned.missing if variant.key != DEFAULT.key]
        parts = [missing[first : first + size] for first in range(0, max(1, len(missing)), size)]
        measured = sum(variant.key in tuned.entries for variant in tuned.variants if variant.key != DEFAULT.key)
        return Waiting(tuned, parts, Expectation(measured / size))

    @property
    def trials(self) -> int:
        """How many measurements are left."""
        return sum(max(1, len(part)) for part in self.parts)

    def saving(self, scale: float) -> float:
        """Seconds of a run of the program that the next part is expected to save.

        ``scale`` is how many times longer than estimated kernels take, for one of which nothing is known.
        """
        best, default = self.tuned.best_seconds, self.tuned.default_seconds
        promise = max((one.promise for one in self.parts[0] if one.promise is not None), default=None)
        share = self.expectation.share(promise, best / default if best and default else 1.0)
        return (best or scale * self.tuned.kernel.estimate) * len(self.tuned.kernel.uses) * share

    def learn(self, before: float | None) -> None:
        """After a part was measured: ``before`` is the best time, in seconds, that was known then."""
        best = self.tuned.best_seconds
        before = before or self.tuned.default_seconds
        self.expectation.learn(1 - best / before if best and before else 0.0)


def scale_of(kernels: Iterable[TunedKernel]) -> float:
    """How many times longer than estimated kernels take: the median of those that were measured, 1 where none was."""
    known = [
        tuned.default_seconds / tuned.kernel.estimate
        for tuned in kernels
        if tuned.default_seconds and tuned.kernel.estimate
    ]
    return median(known) if known else 1.0
