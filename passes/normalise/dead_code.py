"""Dead code: statements and constants that no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Program, Statement
from tensoropt.pass_manager import Context


@dataclass(frozen=True, slots=True)
class RemoveDeadCode:
    """Keeps what the outputs are computed from, in the same order."""

    name: ClassVar[str] = "remove_dead_code"

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        needed: set[Tensor] = set(program.outputs)
        kept: list[Statement] = []
        for statement in reversed(program.statements):
            if any(output in needed for output in statement.outputs):
                kept.append(statement)
                needed.update(statement.inputs)
        names = {tensor.name for tensor in needed}
        constants = {name: array for name, array in program.constants.items() if name in names}
        if len(kept) == len(program.statements) and len(constants) == len(program.constants):
            return program
        return program.with_statements(reversed(kept), constants)
