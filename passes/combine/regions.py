"""Regions of linear algebra: statements that are sums of products, read by one another only.

Substituted into one another they are one expression, a polynomial in what the region reads, which ``expansion`` takes apart and
``grouping`` puts together in the cheapest way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from passes.derive.certify.certificate import substituted
from passes.derive.polynomials import terms_of
from tensoropt.ir.expression import (
    Access,
    Apply,
    Constant,
    Reducer,
    Scalar,
    Scope,
    Tensor,
    accesses,
    leaves,
    scopes,
    tensors,
)
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import is_mover, product_factors

_MOST = 12
"""Statements of a region at the most."""


@dataclass(frozen=True, slots=True)
class Region:
    """Statements in order; the last one's value is what is needed outside."""

    members: tuple[Compute, ...]

    @property
    def root(self) -> Compute:
        """The statement whose value is needed outside."""
        return self.members[-1]

    @property
    def whole(self) -> Compute:
        """The value of the root as one nested expression of what the region reads."""
        return Compute(self.root.output, substituted(self.members), self.origin)

    @property
    def origin(self) -> tuple[str, ...]:
        """The model's nodes, those of sums first: they are what is seen as the heavy work of the region."""
        ordered = sorted(self.members, key=lambda member: not member.expression.reduction)
        return tuple(dict.fromkeys(name for member in ordered for name in member.origin))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a statement stands in a region: contractions from it to the root, itself included, and what stands beside it there."""

    statement: Compute
    contractions: int
    multiplied: bool
    moving: bool


class Regions:
    """The regions of a program. ``depth`` is how many contractions may follow one another in one of them."""

    def __init__(self, program: Program, depth: int) -> None:
        self._program, self._depth = program, depth
        self._producers, self._readers = program.producers(), program.consumers()
        self._constants = frozenset(program.constants)
        self._taken: set[Tensor] = set()

    def take(self, region: Region) -> None:
        """From now on no other region has its statements."""
        self._taken.update(member.output for member in region.members)

    def grown(self, root: Statement) -> Region | None:
        """The largest region that ends with a statement; None where that is no sum of products or is in another region."""
        if not isinstance(root, Compute) or root.output in self._taken or not self._is_member(root):
            return None
        found: dict[Tensor, Compute] = {root.output: root}
        waiting = [_Place(root, self._weight(root), bool(root.expression.reduction), False)]
        while waiting:
            for place in self._absorbable(waiting.pop()):
                if place.contractions <= self._depth and len(found) < _MOST:
                    found[place.statement.output] = place.statement
                    waiting.append(place)
        ordered = [statement for statement in self._program.statements if statement.outputs[0] in found]
        return Region(tuple(statement for statement in ordered if isinstance(statement, Compute)))

    def _is_member(self, statement: Compute) -> bool:
        scope = statement.expression
        return (
            len(scopes(scope)) == 1
            and scope.dtype.is_float
            and scope.reducer in (None, Reducer.SUM)
            and not is_mover(scope)
            and all(self._is_plain(factor) for _, value in terms_of(scope.body) for factor in factors_of(value))
        )

    def _is_plain(self, factor: Scalar) -> bool:
        """Whether a factor can be moved: an access, or what constants alone decide."""
        return isinstance(factor, Access) or is_data_free(factor, self._constants)

    @staticmethod
    def _weight(statement: Compute) -> int:
        return int(bool(statement.expression.reduction))

    def _absorbable(self, place: _Place) -> list[_Place]:
        """The producers that only this statement reads, once, as a factor, and whose sums need not be repeated there."""
        found = []
        body = place.statement.expression.body
        read = [access.source for access in accesses(body)]
        for _, value in terms_of(body):
            factors = factors_of(value)
            for factor in factors:
                source = factor.source if isinstance(factor, Access) else None
                producer = self._producers.get(source) if isinstance(source, Tensor) else None
                if not isinstance(producer, Compute) or not isinstance(source, Tensor) or source in self._taken:
                    continue
                alone = len(self._readers[source]) == 1 and read.count(source) == 1
                if not alone or source in self._program.outputs or not self._is_member(producer):
                    continue
                others = [other for other in factors if other is not factor]
                inner = _Place(
                    producer,
                    place.contractions + self._weight(producer),
                    place.multiplied or bool(others) or bool(producer.expression.reduction),
                    place.moving or not all(is_data_free(other, self._constants) for other in others),
                )
                if self._repeats_nothing(producer, place.multiplied or bool(others), inner.moving):
                    found.append(inner)
        return found

    def _repeats_nothing(self, producer: Compute, multiplied: bool, moving: bool) -> bool:
        """Whether no work is done twice where the producer's sum is distributed over what it is multiplied with."""
        terms = terms_of(producer.expression.body)
        if len(terms) == 1 or not multiplied:
            return True
        return not moving and sum(not is_data_free(value, self._constants) for _, value in terms) <= 1


def factors_of(value: Scalar) -> list[Scalar]:
    """The factors of a product; a division counts as a product with a reciprocal."""
    found: list[Scalar] = []
    for factor in product_factors(value):
        match factor:
            case Apply(operation="div", arguments=(above, below)) if factor.dtype.is_float:
                found += [*factors_of(above), Apply("reciprocal", below)]
            case _:
                found.append(factor)
    return found


def is_data_free(node: Scalar, constants: Collection[str]) -> bool:
    """Whether constants alone decide the value: no access in it reads anything else, nested scopes included."""
    return all(_is_known(leaf.source, constants) for leaf in leaves(node) if isinstance(leaf, Access))


def is_constant(node: Scalar, constants: Collection[str]) -> bool:
    """Whether the value is a number or is computed from constants; what indices alone decide (a mask) is not stored for it."""
    return isinstance(node, Constant) or (is_data_free(node, constants) and bool(accesses(node)))


def _is_known(source: Tensor | Scope, constants: Collection[str]) -> bool:
    if isinstance(source, Tensor):
        return source.name in constants
    return all(tensor.name in constants for tensor in tensors(source))
