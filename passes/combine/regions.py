"""Regions of linear algebra: statements that are sums of products, read by one another only.

Substituted into one another they are one expression, a polynomial in what the region reads, which ``expansion`` takes apart and
``grouping`` puts together in the cheapest way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from passes.derive.certificate import substituted
from passes.derive.polynomials import terms_of
from tensoropt.ir.expression import Access, Apply, Reducer, Scalar, Scope, Tensor, accesses, leaves, scopes, tensors
from tensoropt.ir.program import Compute, Program, Statement
from tensoropt.ir.structure import is_contraction, is_mover, product_factors

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


def linear_regions(program: Program, depth: int) -> list[Region]:
    """The regions of a program from its end to its start, no statement in two of them.

    ``depth`` is how many contractions may follow one another in a region.
    """
    growth = _Growth(program, depth)
    return [region for statement in reversed(program.statements) if (region := growth.region(statement)) is not None]


class _Growth:
    def __init__(self, program: Program, depth: int) -> None:
        self._program, self._depth = program, depth
        self._producers, self._readers = program.producers(), program.consumers()
        self._constants = frozenset(program.constants)
        self._taken: set[Tensor] = set()

    def region(self, root: Statement) -> Region | None:
        if not isinstance(root, Compute) or root.output in self._taken or not self._is_member(root):
            return None
        found: dict[Tensor, Compute] = {root.output: root}
        waiting = [(root, self._weight(root))]
        while waiting:
            reader, contractions = waiting.pop()
            for producer in self._absorbable(reader):
                total = contractions + self._weight(producer)
                if total <= self._depth and len(found) < _MOST:
                    found[producer.output] = producer
                    waiting.append((producer, total))
        self._taken.update(found)
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
        return int(is_contraction(statement.expression) or bool(statement.expression.reduction))

    def _absorbable(self, reader: Compute) -> list[Compute]:
        """The producers that only this statement reads, once, as a factor, and whose sums need not be repeated there."""
        found = []
        read = [access.source for access in accesses(reader.expression.body)]
        for _, value in terms_of(reader.expression.body):
            factors = factors_of(value)
            for factor in factors:
                source = factor.source if isinstance(factor, Access) else None
                producer = self._producers.get(source) if isinstance(source, Tensor) else None
                if not isinstance(producer, Compute) or not isinstance(source, Tensor) or source in self._taken:
                    continue
                alone = len(self._readers[source]) == 1 and read.count(source) == 1
                if alone and source not in self._program.outputs and self._is_member(producer):
                    others = [other for other in factors if other is not factor]
                    if self._repeats_nothing(reader, producer, others):
                        found.append(producer)
        return found

    def _repeats_nothing(self, reader: Compute, producer: Compute, others: list[Scalar]) -> bool:
        terms = terms_of(producer.expression.body)
        if len(terms) == 1:
            return True
        if not others and not reader.expression.reduction:
            return True
        moving = sum(not is_data_free(value, self._constants) for _, value in terms)
        return moving <= 1 and all(is_data_free(other, self._constants) for other in others)


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
    return all(_is_known(leaf.source, constants) if isinstance(leaf, Access) else True for leaf in leaves(node))


def _is_known(source: Tensor | Scope, constants: Collection[str]) -> bool:
    if isinstance(source, Tensor):
        return source.name in constants
    return all(tensor.name in constants for tensor in tensors(source))
