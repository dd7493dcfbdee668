"""Bodies as sums of products: ``± f·g·h ± …``, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

from tensoropt.ir.expression import Access, Apply, Scalar, accesses, free_iterators
from tensoropt.ir.index import Iterator
from tensoropt.ir.structure import product_factors

Term = tuple[int, Scalar]
"""An addend: its sign, 1 or -1, and what is added or taken away."""


def terms_of(body: Scalar) -> list[Term]:
    """The addends of a body from left to right, nested sums, differences and negations flattened."""
    match body:
        case Apply(operation="add", arguments=(left, right)):
            return [*terms_of(left), *terms_of(right)]
        case Apply(operation="sub", arguments=(left, right)):
            return [*terms_of(left), *negated(terms_of(right))]
        case Apply(operation="neg", arguments=(argument,)):
            return negated(terms_of(argument))
        case _:
            return [(1, body)]


def negated(terms: Iterable[Term]) -> list[Term]:
    """The terms with the opposite signs."""
    return [(-sign, value) for sign, value in terms]


def sum_of(terms: Sequence[Term]) -> Scalar:
    """The sum of at least one term, in order, but one that is added comes first."""
    lead = next((place for place, (sign, _) in enumerate(terms) if sign > 0), 0)
    (sign, first), *rest = (terms[lead], *terms[:lead], *terms[lead + 1 :])
    start = first if sign > 0 else Apply("neg", first)
    return reduce(lambda total, term: Apply("add" if term[0] > 0 else "sub", total, term[1]), rest, start)


def product_of(factors: Sequence[Scalar]) -> Scalar:
    """The product of at least one factor, in order."""
    return reduce(lambda left, right: Apply("mul", left, right), factors)


def place_of(body: Scalar, position: int) -> tuple[int, int] | None:
    """The addend and the factor that are the access at this position among those of the body; None where it stands within another
    operation or there is no such access."""
    before = 0
    for term, (_, value) in enumerate(terms_of(body)):
        for place, factor in enumerate(product_factors(value)):
            if before == position and isinstance(factor, Access):
                return term, place
            before += len(accesses(factor))
    return None


def iterators_in_order(nodes: Iterable[Scalar]) -> list[Iterator]:
    """The iterators that the scalars use, in the order of their first appearance in indices; then the others by name."""
    parts = list(nodes)
    found: dict[Iterator, None] = {}
    for node in parts:
        for access in accesses(node):
            for index in access.indices:
                present = [atom for atom, _ in index.terms if isinstance(atom, Iterator)]
                found.update(dict.fromkeys(sorted(present, key=lambda iterator: iterator.name)))
    free = frozenset().union(*(free_iterators(node) for node in parts)) if parts else frozenset()
    found.update(dict.fromkeys(sorted(free - set(found), key=lambda iterator: iterator.name)))
    return list(found)
