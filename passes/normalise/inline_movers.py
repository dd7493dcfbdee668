"""Movers read through: a consumer reads the source of a transpose, slice or gather in place of a moved copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tensoropt.ir.expression import Access, Scalar, Scope, Tensor, map_scalar, scopes
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import is_mover, view_source
from tensoropt.pass_manager import Context


@dataclass(frozen=True, slots=True)
class InlineMovers:
    """``f({L<z> A[σ(z)]}[τ(x)]) → f(A[σ(τ(x))])`` where τ stays inside the box of z.

    A mover that enlarges (an expanded tensor, gathered windows) is read through by every consumer that can; any other only where
    it has one consumer and what remains is affine, since divisions in an index cost more than the copy.
    """

    name: ClassVar[str] = "inline_movers"

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        consumers = program.consumers()
        movers: dict[Tensor, Access] = {}
        traversals: dict[Tensor, Scope] = {}
        statements: list[Statement] = []
        for statement in program.statements:
            if isinstance(statement, Compute):
                statement = _read_through(statement, movers, traversals, consumers)
                body = statement.expression.body
                if (
                    is_mover(statement.expression)
                    and isinstance(body, Access)
                    and view_source(statement.expression) is None
                ):
                    movers[statement.output] = body
                    traversals[statement.output] = statement.expression
            statements.append(statement)
        same = all(new is old for new, old in zip(statements, program.statements, strict=True))
        return program if same else program.with_statements(statements)


def _read_through(
    statement: Compute,
    movers: dict[Tensor, Access],
    traversals: dict[Tensor, Scope],
    consumers: dict[Tensor, list[Statement]],
) -> Compute:
    if is_mover(statement.expression) or len(scopes(statement.expression)) > 1:
        return statement  # movers of movers are composed by a pass of their own

    def leaf(node: Scalar) -> Scalar:
        if not isinstance(node, Access) or not isinstance(node.source, Tensor) or node.source not in movers:
            return node
        moved = movers[node.source]
        if not node.stays_inside:
            return node
        mapping = dict(zip(traversals[node.source].traversal, node.indices, strict=True))
        indices = tuple(index.substitute(mapping) for index in moved.indices)
        enlarges = node.source.type.elements > moved.source.type.elements
        simple = len(consumers[node.source]) == 1 and all(index.is_affine for index in indices)
        return Access(moved.source, indices, moved.outside) if enlarges or simple else node

    scope = statement.expression
    body = map_scalar(scope.body, leaf)
    if body is scope.body:
        return statement
    return Compute(statement.output, Scope(scope.traversal, body, scope.reduction, scope.reducer), statement.origin)
