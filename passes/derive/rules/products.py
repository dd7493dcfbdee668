"""Products of any number of factors: grouping some of them to a nested scope, and the inverse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from passes.derive.polynomials import iterators_in_order, place_of, product_of, sum_of, terms_of
from passes.derive.rules.staging import reads_other_than_outside
from tensoropt.ir.expression import (
    Access,
    Apply,
    Reducer,
    Scope,
    accesses,
    free_iterators,
    fresh_iterators,
    substitute,
)
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import product_factors
from tensoropt.rewrite.rule import Refusal, Site


@dataclass(frozen=True, slots=True)
class GroupFactors:
    """``L<x> Σ<R, r> Π<i in S> f_i · Π<j not in S> f_j  =  L<x> Σ<R> { L<u> Σ<r> Π<i in S> f_i }[u] · Π<j not in S> f_j``.

    r are the summations that only factors in S use (and, where there are any, those that no factor uses), u the other
    iterators that these use. This is the pair rule for products of any number of factors; it also takes factors out of a sum.
    Where u has no summation of the outer scope, it has the axes of the outer scope, those of one element included.
    """

    name: str = "group_factors"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Every pair of factors, and every factor that alone is summed over an iterator."""
        terms = terms_of(scope.body)
        for term, (_, value) in enumerate(terms if len(terms) == 1 or not scope.reduction else []):
            factors = product_factors(value)
            for pair in combinations(range(len(factors)), 2):
                if len(factors) > 2:
                    yield Site.of(term=term, factors=pair)
            if len(factors) > 1:
                for place in range(len(factors)):
                    yield Site.of(term=term, factors=(place,))

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. In a sum of products one addend is rewritten, so there nothing may be reduced."""
        terms, number = terms_of(scope.body), site.place("term")
        chosen = site.integers("factors")
        if number >= len(terms) or len(set(chosen)) != len(chosen):
            return Refusal("no such factors here")
        sign, value = terms[number]
        factors = product_factors(value)
        if not chosen or max(chosen) >= len(factors) or len(chosen) == len(factors):
            return Refusal("some factors are grouped and others are not")
        if scope.reduction and (len(terms) > 1 or sign < 0):
            return Refusal("a sum of products under a reduction is split first")
        if scope.reduction and scope.reducer is not Reducer.SUM:
            return Refusal("products distribute over sums only")
        grouped = [factors[place] for place in sorted(chosen)]
        rest = [factor for place, factor in enumerate(factors) if place not in chosen]
        elsewhere = frozenset().union(*map(free_iterators, rest))
        used = frozenset().union(*map(free_iterators, grouped))
        private = tuple(iterator for iterator in scope.reduction if iterator in used - elsewhere)
        if len(grouped) == 1 and not private:
            return Refusal("nothing is summed in that factor alone")
        if private:
            private += tuple(iterator for iterator in scope.reduction if iterator not in used | elsewhere)
        inner_axes = used - frozenset(private)
        if inner_axes <= frozenset(scope.traversal):
            traversal = [found for found in scope.traversal if found in inner_axes or found.extent == 1]
        else:
            widest = sorted(grouped, key=lambda factor: -len(free_iterators(factor)))
            traversal = [iterator for iterator in iterators_in_order(widest) if iterator in inner_axes]
        inner = Scope(traversal, product_of(grouped), private)
        factors[min(chosen)] = Access(inner, traversal)
        kept = [factor for place, factor in enumerate(factors) if place == min(chosen) or place not in chosen]
        terms[number] = sign, product_of(kept)
        reduction = tuple(iterator for iterator in scope.reduction if iterator not in private)
        return Scope(scope.traversal, sum_of(terms), reduction, scope.reducer)


@dataclass(frozen=True, slots=True)
class ScaleSource:
    """``A[φ] · Π g_i(u)  =  { L<z> A[z] · Π g_i(z) }[φ]``, where A is 0 outside and each of u alone addresses an axis of A.

    The product has the axes of A, however A is read: a scale goes into the kernel of a transposed convolution too.
    """

    name: str = "scale_source"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each access with each other factor of its product."""
        for term, (_, value) in enumerate(terms_of(scope.body)):
            factors = product_factors(value)
            for place, factor in enumerate(factors):
                if isinstance(factor, Access):
                    for other in range(len(factors)):
                        if other != place:
                            yield Site.of(term=term, source=place, factors=(other,))

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. It holds for scalars, so whatever reduces the body."""
        terms, number, place = terms_of(scope.body), site.place("term"), site.place("source")
        chosen = sorted(site.integers("factors"))
        if number >= len(terms):
            return Refusal("no such addend here")
        sign, value = terms[number]
        factors = product_factors(value)
        if not chosen or place in chosen or max(place, *chosen) >= len(factors) or len(set(chosen)) != len(chosen):
            return Refusal("no such factors here")
        access = factors[place]
        if not isinstance(access, Access) or access.outside.value != 0:
            return Refusal("the source is no access that is 0 outside")
        own = [Iterator(f"a{axis}", int(extent)) for axis, extent in enumerate(access.source.shape)]
        mapping: dict[Iterator, Index] = {}
        for index, iterator in zip(access.indices, own, strict=True):
            atom = index.terms[0][0] if len(index.terms) == 1 else None
            if isinstance(atom, Iterator) and index is Index.of(atom) and atom.extent == iterator.extent:
                mapping.setdefault(atom, Index.of(iterator))
        scales = [factors[other] for other in chosen]
        if any(free_iterators(scale) - mapping.keys() for scale in scales):
            return Refusal("a factor uses an iterator that alone addresses no whole axis of the source")
        body = product_of([Access(access.source, own), *(substitute(scale, mapping) for scale in scales)])
        factors[place] = Access(Scope(own, body), access.indices, access.outside)
        terms[number] = sign, product_of([factor for other, factor in enumerate(factors) if other not in chosen])
        return Scope(scope.traversal, sum_of(terms), scope.reduction, scope.reducer)


@dataclass(frozen=True, slots=True)
class FlattenProduct:
    """``L<x> Σ<R> c(x, R) · { L<z> Σ<r> f(z, r) }[φ(x, R)]  =  L<x> Σ<R, r> c(x, R) · f(φ(x, R), r)``.

    Reading outside L<z> must find 0, what f gives there: φ stays inside the box of z, or the support of f does.
    """

    name: str = "flatten_product"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each nested scope that sums and is a factor of the body."""
        for position, access in enumerate(accesses(scope.body)):
            if isinstance(access.source, Scope) and access.source.reduction and place_of(scope.body, position):
                yield Site.of(access=position)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        position = site.place("access")
        place = place_of(scope.body, position)
        terms = terms_of(scope.body)
        if place is None or len(terms) > 1 or terms[0][0] < 0:
            return Refusal("the access is not a factor of the whole body")
        factors = product_factors(scope.body)
        access = factors[place[1]]
        assert isinstance(access, Access)
        inner = access.source
        if not isinstance(inner, Scope):
            return Refusal("no nested scope is read there")
        if any(found.reducer not in (None, Reducer.SUM) for found in (scope, inner)):
            return Refusal("products distribute over sums only")
        reason = reads_other_than_outside(scope, access)
        if reason is not None:
            return Refusal(reason)
        renamed = fresh_iterators(inner.reduction, (*scope.traversal, *scope.reduction))
        mapping = dict(zip(inner.traversal, access.indices, strict=True))
        mapping |= {old: Index.of(new) for old, new in renamed.items()}
        factors[place[1]] = substitute(inner.body, mapping)
        return Scope(scope.traversal, product_of(factors), (*scope.reduction, *renamed.values()))


@dataclass(frozen=True, slots=True)
class DivideByReciprocal:
    """``f / g  =  f · (1 / g)`` for floats, so that a division is a factor like any other."""

    name: str = "divide_by_reciprocal"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each factor of an addend that is a division."""
        for term, (_, value) in enumerate(terms_of(scope.body)):
            for place, factor in enumerate(product_factors(value)):
                if isinstance(factor, Apply) and factor.operation == "div":
                    yield Site.of(term=term, factor=place)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. Integers are refused: their division truncates."""
        terms, number, place = terms_of(scope.body), site.place("term"), site.place("factor")
        if number >= len(terms) or place >= len(product_factors(terms[number][1])):
            return Refusal("no such factor here")
        sign, value = terms[number]
        factors = product_factors(value)
        division = factors[place]
        if not isinstance(division, Apply) or division.operation != "div":
            return Refusal("the factor is no division")
        if not division.dtype.is_float:
            return Refusal("the division of integers truncates")
        above, below = division.arguments
        factors[place] = Apply("mul", above, Apply("reciprocal", below))
        terms[number] = sign, product_of(factors)
        return Scope(scope.traversal, sum_of(terms), scope.reduction, scope.reducer)
