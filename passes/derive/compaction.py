"""Sums over windows made as short as they are: what an importer writes as a guarded sum over a whole image.

``ConvTranspose`` arrives as a sum over all input positions, of which a few meet the kernel. Derivation starts from that form;
code that is generated for the statement as written wants the short one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from passes.derive.candidate import SearchReport
from passes.derive.certify.certificate import Checker
from passes.derive.rules import RULES_BY_NAME
from passes.derive.state import State, compacted
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.pass_manager import Context
from tensoropt.rewrite.derivation import derive_along
from tensoropt.rewrite.rule import Refusal


@dataclass(frozen=True, slots=True)
class CompactWindows:
    """Shortens every sum over a window, each change checked exactly as a derivation is."""

    name: ClassVar[str] = "compact_windows"

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        if RULES_BY_NAME["compact_window"].name in context.excluded_rules:
            return program
        return program.with_statements(map(shortened, program.statements))


def shortened(statement: Statement) -> Statement:
    """The statement with its windows compacted; the statement itself where there is none or the check fails."""
    if not isinstance(statement, Compute):
        return statement
    short = compacted(State(statement.expression), SearchReport())
    if not short.chain:
        return statement
    found = Compute(statement.output, short.root, statement.origin)
    derivation = derive_along(statement.expression, list(short.chain), RULES_BY_NAME)
    verdict = Checker().check(derivation, statement, (found,))
    return statement if isinstance(verdict, Refusal) else found
