"""Constant folding: what is computed from constants alone is computed once, here."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from tensoropt.ir.expression import Scope, scopes
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.pass_manager import Context


@dataclass(frozen=True, slots=True)
class FoldConstants:
    """Evaluates statements whose inputs are all constants, to a fixpoint.

    A value is not folded where it is much larger than what it is computed from (a fill, an iota, an expanded scalar): such
    values are cheaper to compute than to store. ``growth`` is the largest allowed ratio of bytes, ``small`` the size in bytes
    under which everything is folded, ``points`` how many points of scalar arithmetic the interpreter is given at the most.
    """

    name: ClassVar[str] = "fold_constants"
    growth: int = 2
    small: int = 1 << 16
    points: int = 1 << 28

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        constants = dict(program.constants)
        kept: list[Statement] = []
        for statement in program.statements:
            if isinstance(statement, Compute) and self._worth(statement, constants.keys()):
                constants[statement.output.name] = evaluate(statement.expression, constants)
            else:
                kept.append(statement)
        return program.with_statements(kept, constants) if len(kept) < len(program.statements) else program

    def _worth(self, statement: Compute, constants: object) -> bool:
        if not all(tensor.name in constants for tensor in statement.inputs):  # type: ignore[operator]
            return False
        size = statement.output.type.bytes
        read = sum(tensor.type.bytes for tensor in statement.inputs)
        return (size <= self.small or size <= self.growth * read) and _points(statement.expression) <= self.points


def _points(expression: Scope) -> int:
    return sum(
        scope.type.elements * prod(iterator.extent for iterator in scope.reduction) for scope in scopes(expression)
    )
