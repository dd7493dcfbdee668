"""What kernels cost: the vocabulary between passes, which choose, and code generators, which measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Statement

MARGIN = 0.05
"""The share by which a rewrite must beat what it replaces: equal kernels are told apart by a few percent of noise."""


@dataclass(frozen=True, slots=True)
class KernelCost:
    """Duration in seconds and workspace in bytes. ``source`` says where the figure is from.

    "measured" is a timing on the target, "predicted" a model's estimate, "failed" (infinite) a kernel that could not be built,
    crashed, hung or gave a wrong result; ``reason`` says which, or what bounds a prediction. ``terms`` are the seconds of a
    prediction by what they are for, the dearest first.
    """

    seconds: float
    workspace_bytes: int = 0
    source: str = "measured"
    reason: str = ""
    terms: tuple[tuple[str, float], ...] = ()

    @staticmethod
    def failed(reason: str) -> KernelCost:
        """The cost of a kernel that does not work."""
        return KernelCost(math.inf, 0, "failed", reason)


@dataclass(frozen=True, slots=True)
class Alternative:
    """Kernels, in order, that compute ``outputs``; ``constants`` are the inputs that are known when the model is compiled."""

    kernels: tuple[Statement, ...]
    outputs: tuple[Tensor, ...]
    constants: frozenset[str] = frozenset()
    label: str = "original"


class CostModel(Protocol):
    """A target's costs. Implemented by code generators, injected by the API."""

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        """What one kernel costs on the target; ``constants`` as in ``Alternative``."""
        ...

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """What whole alternatives cost, measured beside one another on the same inputs.

        The first one is the reference: another whose outputs differ from its outputs has failed.
        """
        ...
