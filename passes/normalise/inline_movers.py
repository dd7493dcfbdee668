"""Movers read through: a consumer reads the source of a transpose, slice or gather in place of a moved copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tensoropt.ir.expression import Access, Scalar, Scope, Tensor, map_scalar, scopes
from tensoropt.ir.index import Index
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import is_mover, view_source
from tensoropt.pass_manager import Context


@dataclass(frozen=True, slots=True)
class InlineMovers:
    """``f({L<z> A[σ(z)]}[τ(x)]) → f(A[σ(τ(x))])`` where τ leaves the box of z only along axes that are whole axes of A.

    A mover that enlarges (an expanded tensor, gathered windows) and a range of a tensor are read through by every consumer that
    can; any other only where it has one consumer and what remains is affine, since divisions in an index cost more than the copy.
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
        if not _same_outside(node, moved, traversals[node.source]):
            return node
        mapping = dict(zip(traversals[node.source].traversal, node.indices, strict=True))
        indices = tuple(index.substitute(mapping) for index in moved.indices)
        enlarges = node.source.type.elements > moved.source.type.elements
        alone = len(consumers[node.source]) == 1 or _is_range(moved, traversals[node.source])
        simple = alone and all(index.is_affine for index in indices)
        outside = moved.outside if node.stays_inside else node.outside
        return Access(moved.source, indices, outside) if enlarges or simple else node

    scope = statement.expression
    body = map_scalar(scope.body, leaf)
    if body is scope.body:
        return statement
    return Compute(statement.output, Scope(scope.traversal, body, scope.reduction, scope.reducer), statement.origin)


def _same_outside(read: Access, moved: Access, mover: Scope) -> bool:
    """Whether reading the source finds what reading the mover does, also where it leaves the box.

    Along an axis that the read may leave, the mover must take over a whole axis of its source and use its iterator nowhere else.
    """
    if read.stays_inside:
        return True
    if not moved.stays_inside:
        return False
    for iterator, index, extent in zip(mover.traversal, read.indices, mover.shape, strict=True):
        if index.low >= 0 and index.high < extent:
            continue
        uses = [place for place, found in enumerate(moved.indices) if iterator in found.iterators()]
        whole = len(uses) == 1 and moved.indices[uses[0]] is Index.of(iterator)
        if not whole or moved.source.shape[uses[0]] != extent:
            return False
    return True


def _is_range(moved: Access, mover: Scope) -> bool:
    """Whether the mover is part of its source, element beside element: ranges of some axes and one place of others."""
    along = [index - index.constant for index in moved.indices if not index.is_constant]
    return moved.stays_inside and along == [Index.of(found) for found in mover.traversal if found.extent > 1]
