"""The products of an expanded expression put together: constants with constants, and the rest in a cheap order of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opt_einsum import contract_path, get_symbol

from passes.combine.expansion import Rewriting, products
from passes.combine.regions import is_constant
from passes.derive.polynomials import terms_of
from tensoropt.ir.expression import Access, Constant, Scalar, Scope, free_iterators
from tensoropt.ir.structure import product_factors
from tensoropt.rewrite.rule import Path, Site

_ALL_ORDERS = 4
"""Up to so many factors every order of pairs is tried; opt_einsum suggests one for more."""

_MOST_ORDERS = 40


def regrouped(expanded: Rewriting) -> Iterator[Rewriting]:
    """Ways to put an expanded expression together, each from the products of two that it then consists of.

    The first has its constants gathered and every product as a whole; the others multiply pairs of factors, one order each.
    """
    gathered = expanded.copy()
    while any(_gathers_constants(gathered, path, term) for path, term in products(gathered.root)):
        pass  # what changes in one addend moves those that are looked at next, so they are looked up again
    places = [path for path, _ in products(gathered.root) if gathered.scope(path).reduction]
    if not any(len(product_factors(gathered.scope(path).body)) > 2 for path in places):
        _gather_terms(gathered)
        yield gathered
        return
    ways = [gathered]
    for path in places:
        ways = [other for way in ways for other in _paired(way, path)][:_MOST_ORDERS]
    for way in ways:
        _gather_terms(way)
        yield way


def _gathers_constants(rewriting: Rewriting, path: Path, term: int) -> bool:
    """Whether a constant factor whose iterators another one uses too was multiplied with that one: it adds no elements."""
    return any(rewriting.apply(rule, path, site) for rule, site in _constant_pairs(rewriting, path, term))


def _constant_pairs(rewriting: Rewriting, path: Path, term: int) -> Iterator[tuple[str, Site]]:
    factors = product_factors(terms_of(rewriting.scope(path).body)[term][1])
    known = [place for place, factor in enumerate(factors) if is_constant(factor, rewriting.constants)]
    known.sort(key=lambda place: len(free_iterators(factors[place])))
    for other in reversed(known):
        for one in known:
            literals = isinstance(factors[one], Constant) and isinstance(factors[other], Constant)
            if one == other or literals or not free_iterators(factors[one]) <= free_iterators(factors[other]):
                continue
            yield "scale_source", Site.of(term=term, source=other, factors=(one,))
            if len(factors) > 2:
                yield "group_factors", Site.of(term=term, factors=tuple(sorted((one, other))))


def _gather_terms(rewriting: Rewriting) -> None:
    """The addends of the root that constants alone decide become one."""
    terms = terms_of(rewriting.root.body)
    known = [place for place, (_, value) in enumerate(terms) if is_constant(value, rewriting.constants)]
    ready = len(known) == 1 and isinstance(terms[known[0]][1], Access | Constant)
    if known and len(known) < len(terms) and not ready and not rewriting.root.reduction:
        rewriting.apply("group_terms", (), Site.of(terms=tuple(known)))


def _paired(rewriting: Rewriting, path: Path) -> Iterator[Rewriting]:
    """The product at a path as products of two."""
    factors = product_factors(rewriting.scope(path).body)
    if len(factors) <= 2:
        yield rewriting
        return
    if len(factors) > _ALL_ORDERS:
        yield from _suggested(rewriting, path, factors)
        return
    for one in range(len(factors)):
        for other in range(one + 1, len(factors)):
            way = rewriting.copy()
            if way.apply("group_factors", path, Site.of(term=0, factors=(one, other))):
                yield from _paired(way, path)


def _suggested(rewriting: Rewriting, path: Path, factors: Sequence[Scalar]) -> Iterator[Rewriting]:
    """The orders that opt_einsum finds, for all factors and with the constants first."""
    known = tuple(place for place, factor in enumerate(factors) if is_constant(factor, rewriting.constants))
    for first in ((), known) if 1 < len(known) < len(factors) else ((),):
        way = rewriting.copy()
        if first and not way.apply("group_factors", path, Site.of(term=0, factors=first)):
            continue
        if _follow(way, path):
            yield way


def _follow(way: Rewriting, path: Path) -> bool:
    """Takes the pairs that opt_einsum suggests for the product at a path, whose list of factors ends with the newest."""
    scope = way.scope(path)
    order = list(range(len(product_factors(scope.body))))
    for pair in suggested_pairs(scope):
        chosen = sorted(order.index(label) for label in _labels(order, pair))
        if len(chosen) == len(order):
            break
        if not way.apply("group_factors", path, Site.of(term=0, factors=tuple(chosen))):
            return False
        newest = max(order) + 1
        order = [
            newest if place == chosen[0] else label for place, label in enumerate(order) if place not in chosen[1:]
        ]
    return True


def _labels(order: Sequence[int], pair: Sequence[int]) -> list[int]:
    """The labels of a pair, which is counted over the factors in the order in which they were made."""
    by_age = sorted(order)
    return [by_age[place] for place in pair]


def suggested_pairs(scope: Scope) -> list[tuple[int, ...]]:
    """The order of pairs that opt_einsum finds for a product, by the extents of the iterators that its factors use."""
    factors = product_factors(scope.body)
    letters = {iterator: get_symbol(place) for place, iterator in enumerate((*scope.traversal, *scope.reduction))}
    used = [sorted(free_iterators(factor), key=lambda iterator: iterator.name) for factor in factors]
    present = frozenset().union(*map(frozenset, used))
    inputs = ",".join("".join(letters[iterator] for iterator in found) for found in used)
    output = "".join(letters[iterator] for iterator in scope.traversal if iterator in present)
    shapes = [tuple(iterator.extent for iterator in found) for found in used]
    path, _ = contract_path(f"{inputs}->{output}", *shapes, shapes=True, optimize="auto")
    return [tuple(int(place) for place in pair) for pair in path]
