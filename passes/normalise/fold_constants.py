"""Constant folding: what is computed from constants alone is computed once, here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tensoropt.ir.constant_values import constant_value, plain_product, points
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array, Compute, Program, Statement
from tensoropt.pass_manager import Context


@dataclass(frozen=True, slots=True)
class FoldConstants:
    """Evaluates statements whose inputs are all constants, or have no elements, to a fixpoint.

    A value is not folded where it is much larger than what it is computed from (a fill, an iota, an expanded scalar): such
    values are cheaper to compute than to store. ``growth`` is the largest allowed ratio of bytes, ``small`` the size in bytes
    under which everything is folded, ``points`` how many points of scalar arithmetic the interpreter is given at the most;
    ``products`` is that limit for sums of products, which are computed as matrices.
    """

    name: ClassVar[str] = "fold_constants"
    growth: int = 2
    small: int = 1 << 16
    points: int = 1 << 28
    products: int = 1 << 36

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        constants = dict(program.constants)
        kept: list[Statement] = []
        for statement in program.statements:
            if isinstance(statement, Compute) and self.folds(statement, constants.keys()):
                empty = {tensor.name: _empty(tensor) for tensor in statement.inputs if not tensor.type.elements}
                constants[statement.output.name] = constant_value(statement.expression, {**empty, **constants})
            else:
                kept.append(statement)
        return program.with_statements(kept, constants) if len(kept) < len(program.statements) else program

    def folds(self, statement: Compute, constants: Collection[str]) -> bool:
        """Whether the statement is computed here, given the names of what is known."""
        known = (tensor.name in constants or not tensor.type.elements for tensor in statement.inputs)
        if not all(known):
            return False
        size = statement.output.type.bytes
        read = sum(tensor.type.bytes for tensor in statement.inputs)
        limit = self.points if plain_product(statement.expression) is None else self.products
        return (size <= self.small or size <= self.growth * read) and points(statement.expression) <= limit


def _empty(tensor: Tensor) -> Array:
    return np.empty(tuple(int(extent) for extent in tensor.shape), tensor.dtype.numpy)
