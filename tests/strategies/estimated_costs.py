"""A cost model for tests in which every proposal is taken."""

from __future__ import annotations

from collections.abc import Sequence

from passes.derive.cost import EstimatedCosts
from tensoropt.cost import Alternative, KernelCost


class PreferChange(EstimatedCosts):
    """What is compared first, the original, is the dearest, so that every proposal is taken."""

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``."""
        return [KernelCost(1.0 / (1 + place), source="predicted") for place in range(len(alternatives))]
