"""Fusion: statements joined to one kernel by nesting the producer's scope in the consumer's access.

Three shapes of groups are joined, each around the statement that comes last, the anchor:

- an **epilogue**: pointwise statements that read one another, and at most one folding statement (a contraction, a pooling), each at
  its own position; they are computed in registers before the folded element is stored;
- a **row group**: a pointwise anchor with the reductions along its trailing axes that it reads (softmax, normalisations); they are
  computed just before the row;
- a **prologue**: pointwise statements that feed whole rows to a plain reduction.

A producer is absorbed only when every reader of it is in the group, so nothing is computed twice and nothing else needs the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from tensoropt.ir.expression import Access, Scope, Tensor, accesses, replace_sources, scopes
from tensoropt.ir.index import Index
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import is_contraction, is_identity, is_row_access, view_source
from tensoropt.pass_manager import Context

Group = dict[Tensor, Compute]


@dataclass(frozen=True, slots=True)
class Fuse:
    """Greedy fusion from the last statement to the first. ``row_bytes`` bounds the rows of a row group, which stay in the cache."""

    name: ClassVar[str] = "fuse"
    row_bytes: int = 1 << 20

    def run(self, program: Program, context: Context) -> Program:
        """See ``Pass``."""
        groups = self.groups(program)
        statements: list[Statement] = []
        for statement in program.statements:
            if not isinstance(statement, Compute):
                statements.append(statement)
            elif statement.output in groups:
                statements.append(_nest(statement, groups[statement.output], program))
        return program if len(statements) == len(program.statements) else program.with_statements(statements)

    def groups(self, program: Program) -> dict[Tensor, Group]:
        """The groups of the program's expressions by the output of their anchors; every expression is in exactly one."""
        producers = program.producers()
        readers = program.consumers()
        kept = set(program.outputs)
        absorbed: set[Tensor] = set()
        groups: dict[Tensor, Group] = {}
        for anchor in reversed(program.statements):
            if not isinstance(anchor, Compute) or anchor.output in absorbed:
                continue
            group: Group = {anchor.output: anchor}
            refused: set[Tensor] = set()
            while (candidate := _next_producer(group, producers, refused)) is not None:
                output = candidate.output
                private = output not in kept and all(
                    isinstance(reader, Compute) and reader.output in group for reader in readers[output]
                )
                wider = {**group, output: candidate}
                if private and self._is_group(wider, anchor):
                    group = wider
                    absorbed.add(output)
                    refused.clear()
                else:
                    refused.add(output)
            groups[anchor.output] = group
        return groups

    def _is_group(self, group: Group, anchor: Compute) -> bool:
        if any(view_source(member.expression) is not None for member in group.values()):
            return False  # a view costs nothing as an alias, and would hide the producer from the schedules
        return _is_epilogue(group, anchor) or self._is_row_group(group, anchor) or _is_prologue(group, anchor)

    def _is_row_group(self, group: Group, anchor: Compute) -> bool:
        if _folds(anchor) or any(_is_heavy(member) for member in group.values()):
            return False
        shape = anchor.output.shape
        leads = [_lead(member.output.shape, shape) for member in group.values()]
        if None in leads:
            return False
        row = prod(int(extent) for extent in shape[min(lead for lead in leads if lead is not None) :])
        return row * anchor.output.dtype.itemsize <= self.row_bytes and _all_reads(group, _is_row_read)


def _is_epilogue(group: Group, anchor: Compute) -> bool:
    """At most one member folds, and all reads within the group are at the reader's own position."""
    if len(group) > 1 and _folds(anchor):
        return False
    folding = [member for member in group.values() if _folds(member)]
    same_shape = all(member.output.shape == anchor.output.shape for member in group.values())
    return len(folding) <= 1 and same_shape and _all_reads(group, _is_own_position)


def _is_prologue(group: Group, anchor: Compute) -> bool:
    """A plain reduction of whole rows over pointwise members of one shape."""
    rest = [member for member in group.values() if member is not anchor]
    if not _folds(anchor) or _is_heavy(anchor) or any(_folds(member) for member in rest):
        return False
    return len({member.output.shape for member in rest}) <= 1 and _all_reads(group, _is_row_read)


def _folds(member: Compute) -> bool:
    return any(scope.reduction for scope in scopes(member.expression))


def _is_heavy(member: Compute) -> bool:
    return any(is_contraction(scope) for scope in scopes(member.expression))


def _lead(own: tuple[int, ...], shape: tuple[int, ...]) -> int | None:
    """How many leading axes a member shares with the anchor, the others being of extent 1 or absent; None if they are not."""
    if len(own) > len(shape):
        return None
    lead = next((axis for axis, extent in enumerate(own) if extent != shape[axis]), len(own))
    return lead if all(extent == 1 for extent in own[lead:]) else None


def _all_reads(group: Group, allowed: Callable[[Access, Scope], bool]) -> bool:
    return all(
        allowed(access, scope)
        for member in group.values()
        for scope in scopes(member.expression)
        for access in accesses(scope.body)
        if access.source in group
    )


def _is_own_position(access: Access, scope: Scope) -> bool:
    return not scope.reduction and is_identity(access, scope.traversal)


def _is_row_read(access: Access, scope: Scope) -> bool:
    """At the reader's own position, one element of a row for all of it, or a whole row along the reduction."""
    if not scope.reduction:
        return is_identity(access, scope.traversal) or is_row_access(access, scope.traversal)
    lead = 0
    for index, iterator in zip(access.indices, scope.traversal, strict=False):
        if index is not Index.of(iterator):
            break
        lead += 1
    along = [Index.of(iterator) for iterator in scope.reduction]
    return list(access.indices[lead:]) == along and access.stays_inside


def _next_producer(group: Group, producers: dict[Tensor, Statement], refused: set[Tensor]) -> Compute | None:
    return next(_producers(group, producers, refused), None)


def _producers(group: Group, producers: dict[Tensor, Statement], refused: set[Tensor]) -> Iterator[Compute]:
    for member in group.values():
        for tensor in member.inputs:
            producer = producers.get(tensor)
            if isinstance(producer, Compute) and tensor not in group and tensor not in refused:
                yield producer


def _nest(anchor: Compute, group: Group, program: Program) -> Compute:
    if len(group) == 1:
        return anchor
    nested: dict[Tensor | Scope, Tensor | Scope] = {}
    origin: dict[str, None] = {}
    for statement in program.statements:
        if isinstance(statement, Compute) and statement.output in group:
            nested[statement.output] = replace_sources(statement.expression, nested)
            origin.update(dict.fromkeys(statement.origin))
    expression = nested[anchor.output]
    assert isinstance(expression, Scope)
    return Compute(anchor.output, expression, tuple(origin))
