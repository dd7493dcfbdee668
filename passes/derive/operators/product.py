"""The product under a sum: two operands, and further factors that go along with one of them or are left outside the sum."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tensoropt.ir.expression import (
    Access,
    Apply,
    Cast,
    Reducer,
    Scalar,
    Scope,
    Tensor,
    accesses,
    free_iterators,
    substitute,
)
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import product_factors
from tensoropt.ir.types import DataType
from tensoropt.rewrite.rule import Refusal

LEFT, RIGHT, OUTER = "left", "right", "outer"
"""Where a further factor goes."""


def factors_of(scope: Scope) -> tuple[Scalar, ...] | None:
    """The factors that a sum multiplies, at least two of them reads (or reads cast to the type of the sum); else None."""
    factors = tuple(product_factors(scope.body))
    if scope.reducer is not Reducer.SUM or sum(read_of(factor) is not None for factor in factors) < 2:
        return None
    return factors


def factor_accesses(scope: Scope) -> tuple[Access, Access] | None:
    """The two accesses that a sum of products multiplies; None for any other body."""
    factors = factors_of(scope)
    if factors is None or len(factors) != 2:
        return None
    left, right = map(read_of, factors)
    return (left, right) if left is not None and right is not None else None


def read_of(factor: Scalar) -> Access | None:
    """The access of a factor that is one, or one that is cast."""
    found = factor.argument if isinstance(factor, Cast) else factor
    return found if isinstance(found, Access) else None


def used(access: Access) -> frozenset[Iterator]:
    """The iterators in the indices of an access."""
    return frozenset().union(*(index.iterators() for index in access.indices))


def is_constant(factor: Scalar, constants: Collection[str]) -> bool:
    """Whether a factor reads constants only."""
    return all(isinstance(access.source, Tensor) and access.source.name in constants for access in accesses(factor))


def as_type(node: Scalar, dtype: DataType) -> Scalar:
    """The scalar, cast where it has another type."""
    return node if node.dtype is dtype else Cast(node, dtype)


def multiplied(node: Scalar, others: tuple[Scalar, ...]) -> Scalar:
    """The product with further factors of the same type."""
    for other in others:
        node = Apply("mul", node, other)
    return node


@dataclass(frozen=True, slots=True)
class Operand:
    """A read, and the factors that are multiplied to what it reads before anything else."""

    access: Access
    carried: tuple[Scalar, ...]

    @property
    def iterators(self) -> frozenset[Iterator]:
        """Those of the read and of the factors."""
        return used(self.access).union(*map(free_iterators, self.carried))

    def substituted(self, mapping: dict[Iterator, Index]) -> Operand:
        """The operand with iterators replaced."""
        access = substitute(self.access, mapping)
        assert isinstance(access, Access)
        return Operand(access, tuple(substitute(factor, mapping) for factor in self.carried))


@dataclass(frozen=True, slots=True)
class Pairing:
    """``Σ f · g · e…`` as ``(Σ (f · e…) · (g · e…)) · e…``; ``dtype`` is the type of the sum."""

    left: Operand
    right: Operand
    outer: tuple[Scalar, ...]
    dtype: DataType


def pairing(scope: Scope, first: int, second: int, carried: tuple[str, ...]) -> Pairing | Refusal:
    """The factors at two positions as operands, each of the others where ``carried`` says in turn.

    Refused where a factor that is to stand outside varies with what is summed over.
    """
    factors = factors_of(scope)
    if factors is None or first == second or max(first, second) >= len(factors):
        return Refusal("not a sum of products of two reads")
    left, right = read_of(factors[first]), read_of(factors[second])
    rest = [factor for place, factor in enumerate(factors) if place not in (first, second)]
    if left is None or right is None or len(rest) != len(carried):
        return Refusal("the factors are not those of the site")
    placed: dict[str, tuple[Scalar, ...]] = {LEFT: (), RIGHT: (), OUTER: ()}
    for place, factor in zip(carried, rest, strict=True):
        if place == OUTER and free_iterators(factor) & set(scope.reduction):
            return Refusal("a factor that varies with what is summed over cannot stand outside the sum")
        placed[place] += (factor,)
    return Pairing(Operand(left, placed[LEFT]), Operand(right, placed[RIGHT]), placed[OUTER], scope.dtype)
