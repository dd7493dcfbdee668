"""Pieces of one statement that are alike: one of them stands for all where kernels are measured."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensoropt.cost import Alternative, CostModel, KernelCost
from tensoropt.ir.program import Compute, Statement

_NUMBERS = re.compile(r"\d+")


@dataclass(slots=True)
class Alike:
    """The first of the pieces that read as much in the same way and write as much, whatever the positions are."""

    _first: dict[Any, Compute] = field(default_factory=dict)

    def first(self, statement: Compute) -> Compute:
        """The piece that was seen first of those that are like this one. Names of pieces differ in numbers only, as indices do."""
        form = _NUMBERS.sub("#", repr(statement.expression))
        key = (form, statement.output.type, tuple(tensor.type for tensor in statement.inputs))
        return self._first.setdefault(key, statement)


@dataclass(frozen=True, slots=True)
class CostsOfPieces:
    """A cost model that asks another for one of the ``pieces`` that are alike, instead of for each."""

    costs: CostModel
    alike: Alike
    pieces: Collection[str]

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        """See ``CostModel``."""
        if isinstance(kernel, Compute) and kernel.output.name in self.pieces:
            kernel = self.alike.first(kernel)
        return self.costs.cost(kernel, constants)

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``."""
        return self.costs.compare(alternatives)
