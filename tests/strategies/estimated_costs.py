"""A cost model for tests that need one which tells cheap from dear: what is estimated, without a machine."""

from __future__ import annotations

from collections.abc import Sequence

from passes.derive.cost import estimated_seconds
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.program import Compute, Statement


class EstimatedCosts:
    """``tensoropt.cost.CostModel`` by ``estimated_seconds``."""

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        """See ``CostModel``."""
        return self.compare([Alternative((kernel,), kernel.outputs, constants)])[0]

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``."""
        found = []
        for alternative in alternatives:
            kernels = tuple(kernel for kernel in alternative.kernels if isinstance(kernel, Compute))
            found.append(KernelCost(estimated_seconds(kernels, alternative.constants), source="predicted"))
        return found


class PreferChange(EstimatedCosts):
    """What is compared first, the original, is the dearest, so that every proposal is taken."""

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``."""
        return [KernelCost(1.0 / (1 + place), source="predicted") for place in range(len(alternatives))]
