"""Composition of movers: a mover that reads a mover reads its source instead, so chains of reshapes and transposes are one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tensoropt.ir.expression import Access, Scope, Tensor
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import is_mover, view_source
from tensoropt.pass_manager import Context


@dataclass(frozen=True, slots=True)
class ComposeMovers:
    """``L<x> {L<z> A[σ(z)]}[τ(x)] → L<x> A[σ(τ(x))]`` where τ stays inside the box of z.

    A view of a view becomes a view of the first source. Other movers are composed only where the one in between has no other
    reader, since otherwise its elements would be moved twice.
    """

    name: ClassVar[str] = "compose_movers"

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        consumers = program.consumers()
        movers: dict[Tensor, Scope] = {}
        statements: list[Statement] = []
        for statement in program.statements:
            if isinstance(statement, Compute) and is_mover(statement.expression):
                expression = statement.expression
                body = expression.body
                assert isinstance(body, Access)
                inner = movers.get(body.source) if isinstance(body.source, Tensor) else None
                if inner is not None and body.stays_inside and isinstance(body.source, Tensor):
                    alone = len(consumers[body.source]) == 1 and body.source not in program.outputs
                    both_views = view_source(inner) is not None and view_source(expression) is not None
                    if alone or both_views:
                        expression = _compose(expression, body, inner)
                        statement = Compute(statement.output, expression, statement.origin)
                movers[statement.output] = expression
            statements.append(statement)
        same = all(new is old for new, old in zip(statements, program.statements, strict=True))
        return program if same else program.with_statements(statements)


def _compose(outer: Scope, read: Access, inner: Scope) -> Scope:
    source = inner.body
    assert isinstance(source, Access)
    mapping = dict(zip(inner.traversal, read.indices, strict=True))
    indices = tuple(index.substitute(mapping) for index in source.indices)
    return Scope(outer.traversal, Access(source.source, indices, source.outside))
