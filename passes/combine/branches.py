"""Branches: contractions of one tensor with weights, of one form, and the pointwise statements that follow each of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from passes.derive.certify.certificate import substituted
from passes.derive.polynomials import terms_of
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import (
    Access,
    Scalar,
    Scope,
    Tensor,
    accesses,
    free_iterators,
    map_scalar,
    scopes,
    substitute,
)
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import is_contraction, is_identity, product_factors
from tensoropt.ir.types import Extent, TensorType


@dataclass(frozen=True, slots=True)
class Branch:
    """A contraction and the pointwise statements that follow it, each read by the next one only.

    Weights lie along one axis of the value; where there is none, ``axis`` is None, branches become layers of one value.
    """

    members: tuple[Compute, ...]
    axis: int | None

    @property
    def output(self) -> Tensor:
        """The value that is needed outside."""
        return self.members[-1].output

    @property
    def width(self) -> int:
        """Extent of the axis along which the weights lie; 1 for a layer."""
        return int(self.output.shape[self.axis]) if self.axis is not None else 1

    @property
    def whole(self) -> Compute:
        """The value as one nested expression."""
        origin = tuple(dict.fromkeys(name for member in self.members for name in member.origin))
        return Compute(self.output, substituted(self.members), origin)


def branches_of(program: Program) -> list[tuple[Branch, ...]]:
    """Groups of at least two branches that differ in their weights only, in the order of the program.

    A group whose branches go on in different ways is followed by the groups of those that go on alike.
    """
    constants = frozenset(program.constants)
    groups: dict[str, list[Branch]] = {}
    for statement in program.statements:
        weights = _weights(statement, constants) if isinstance(statement, Compute) else None
        if isinstance(statement, Compute) and weights is not None:
            axis = _weight_axis(statement.expression, weights)
            form = _form(statement, axis, None, constants)
            groups.setdefault(f"{axis} {form}", []).append(Branch((statement,), axis))
    found: list[tuple[Branch, ...]] = []
    waiting = [tuple(group) for group in reversed(groups.values()) if len(group) > 1]
    while waiting:
        group = waiting.pop()
        parts = _continued(group, program, constants)
        if [len(part) for part in parts] == [len(group)]:
            waiting.append(parts[0])
        else:
            found.append(group)
            waiting += reversed(parts)
    return found


def _weights(statement: Compute, constants: Collection[str]) -> Access | None:
    """The constant factor of a contraction of two factors; None for every other statement."""
    scope = statement.expression
    if not is_contraction(scope) or len(scopes(scope)) > 1 or len(terms_of(scope.body)) > 1:
        return None
    factors = product_factors(scope.body)
    weights = [
        factor
        for factor in factors
        if isinstance(factor, Access) and isinstance(factor.source, Tensor) and factor.source.name in constants
    ]
    return weights[0] if len(factors) == 2 and len(weights) == 1 else None


def _weight_axis(scope: Scope, weights: Access) -> int | None:
    """The traversal axis that only the weights of a contraction have."""
    other = next(factor for factor in product_factors(scope.body) if factor is not weights)
    for axis, iterator in enumerate(scope.traversal):
        if _lies_along(weights, iterator) and iterator not in free_iterators(other) and iterator.extent > 1:
            return axis
    return None


def _lies_along(access: Access, iterator: Iterator) -> bool:
    """Whether the iterator addresses one axis of the source by itself, from end to end."""
    axes = [axis for axis, index in enumerate(access.indices) if iterator in index.iterators()]
    return (
        len(axes) == 1
        and access.indices[axes[0]] is Index.of(iterator)
        and int(access.source.shape[axes[0]]) == iterator.extent
        and access.outside.value == 0
    )


def parts_of(member: Compute, axis: int | None, constants: Collection[str]) -> list[int]:
    """The positions of the accesses to constants that lie along the axis, or of all where there is none."""
    iterator = member.expression.traversal[axis] if axis is not None else None
    return [
        position
        for position, access in enumerate(accesses(member.expression.body))
        if isinstance(access.source, Tensor)
        and access.source.name in constants
        and (iterator is None or any(iterator in index.iterators() for index in access.indices))
    ]


def _form(member: Compute, axis: int | None, before: Tensor | None, constants: Collection[str]) -> str:
    """The canonical key of a statement without the names and widths of its weights, and of what it reads from its branch."""
    scope = member.expression
    iterator = scope.traversal[axis] if axis is not None else None
    narrow = {iterator: Index.of(0)} if iterator is not None else {}
    parts = parts_of(member, axis, constants)
    position = -1

    def leaf(node: Scalar) -> Scalar:
        nonlocal position
        if not isinstance(node, Access):
            return substitute(node, narrow)
        position += 1
        source = node.source
        if isinstance(source, Tensor) and (position in parts or source is before):
            shape = tuple(
                Extent(1) if iterator is not None and index is Index.of(iterator) else extent
                for index, extent in zip(node.indices, source.shape, strict=True)
            )
            source = Tensor(f"weight {position}", TensorType(source.dtype, shape, source.type.layout))
        return Access(source, [index.substitute(narrow) for index in node.indices], node.outside)

    body = map_scalar(scope.body, leaf)
    traversal = [Iterator(found.name, 1) if found is iterator else found for found in scope.traversal]
    return canonical_key(Scope(traversal, body, scope.reduction, scope.reducer))


def _continued(group: tuple[Branch, ...], program: Program, constants: Collection[str]) -> list[tuple[Branch, ...]]:
    """The branches with the pointwise statement that follows each, together where it is alike; single ones are left out."""
    readers = program.consumers()
    parts: dict[str, list[Branch]] = {}
    for branch in group:
        member = _following(branch, readers, program, constants)
        if member is not None:
            form = _form(member, branch.axis, branch.output, constants)
            parts.setdefault(form, []).append(Branch((*branch.members, member), branch.axis))
    return [tuple(part) for part in parts.values() if len(part) > 1]


def _following(
    branch: Branch, readers: dict[Tensor, list[Statement]], program: Program, constants: Collection[str]
) -> Compute | None:
    """The pointwise statement that alone reads the branch's value, besides constants only."""
    if branch.output in program.outputs or len(readers.get(branch.output, ())) != 1:
        return None
    reader = readers[branch.output][0]
    if not isinstance(reader, Compute) or reader.expression.reduction or len(scopes(reader.expression)) > 1:
        return None
    scope = reader.expression
    own = [access for access in accesses(scope.body) if access.source is branch.output]
    if len(own) != 1 or not is_identity(own[0], scope.traversal):
        return None
    iterator = scope.traversal[branch.axis] if branch.axis is not None else None
    for access in accesses(scope.body):
        if access is own[0]:
            continue
        if not isinstance(access.source, Tensor) or access.source.name not in constants:
            return None
        if iterator is None:
            continue
        if any(iterator in index.iterators() for index in access.indices) and not _lies_along(access, iterator):
            return None
    return reader
