"""Products over sums, sums of sums, and parts of a sum in a scope of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.polynomials import place_of, product_of, sum_of, terms_of
from passes.derive.support import box, interval
from tensoropt.ir.expression import Access, Reducer, Scalar, Scope, accesses, free_iterators
from tensoropt.ir.structure import product_factors
from tensoropt.rewrite.rule import Refusal, Site


@dataclass(frozen=True, slots=True)
class Distribute:
    """``(f ± g) · h  =  f·h ± g·h``, in a body or in an addend of it."""

    name: str = "distribute"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each factor that is a sum."""
        for term, (_, value) in enumerate(terms_of(scope.body)):
            factors = product_factors(value)
            for place, factor in enumerate(factors):
                if len(factors) > 1 and len(terms_of(factor)) > 1:
                    yield Site.of(term=term, factor=place)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. It holds for scalars, so whatever reduces the body."""
        terms, number, place = terms_of(scope.body), site.place("term"), site.place("factor")
        if number >= len(terms):
            return Refusal("no such addend here")
        sign, value = terms[number]
        factors = product_factors(value)
        if place >= len(factors) or len(factors) < 2:
            return Refusal("no such factor of a product here")
        addends = terms_of(factors[place])
        if len(addends) < 2:
            return Refusal("the factor is no sum")
        products = [
            (sign * inner, product_of([*factors[:place], addend, *factors[place + 1 :]])) for inner, addend in addends
        ]
        return Scope(
            scope.traversal, sum_of([*terms[:number], *products, *terms[number + 1 :]]), scope.reduction, scope.reducer
        )


@dataclass(frozen=True, slots=True)
class DistributeSum:
    """``L<x> Σ<R> (f ± g)  =  L<x> { L<u> Σ<R> f }[u] ± { L<v> Σ<R> g }[v]``, u and v the traversals that f and g use."""

    name: str = "distribute_sum"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """One site: all addends."""
        yield Site()

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        terms = terms_of(scope.body)
        if not scope.reduction or scope.reducer is not Reducer.SUM:
            return Refusal("nothing is summed here")
        if len(terms) < 2 and terms[0][0] > 0:
            return Refusal("the body is no sum")

        def summed(value: Scalar) -> Scalar:
            used = free_iterators(value)
            traversal = [iterator for iterator in scope.traversal if iterator in used or iterator.extent == 1]
            return Access(Scope(traversal, value, scope.reduction, Reducer.SUM), traversal)

        return Scope(scope.traversal, sum_of([(sign, summed(value)) for sign, value in terms]))


@dataclass(frozen=True, slots=True)
class SeparateTerms:
    """``{ L<z> f ± g }[φ]  =  { L<z> f }[φ] ± { L<z> g }[φ]``, where reading outside gives 0, for any φ.

    An axis that an addend does not use is dropped where φ stays inside it. Elsewhere the constant part of a shifted image stays an
    image that is 0 outside: so a shift before a padded convolution is exact at the border.
    """

    name: str = "separate_terms"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each nested scope whose body is a sum."""
        for position, access in enumerate(accesses(scope.body)):
            if isinstance(access.source, Scope) and len(terms_of(access.source.body)) > 1:
                yield Site.of(access=position)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        position = site.place("access")
        place = place_of(scope.body, position)
        if place is None:
            return Refusal("the access is no factor of an addend")
        terms = terms_of(scope.body)
        sign, value = terms[place[0]]
        factors = product_factors(value)
        access = factors[place[1]]
        assert isinstance(access, Access)
        inner = access.source
        if not isinstance(inner, Scope):
            return Refusal("no nested scope is read there")
        if inner.reduction:
            return Refusal("the nested scope reduces")
        addends = terms_of(inner.body)
        if len(addends) < 2:
            return Refusal("the nested body is no sum")
        if access.outside.value != 0:
            return Refusal("reading outside gives something else than 0")
        ranges = box((*scope.traversal, *scope.reduction))
        leaving = {
            iterator
            for iterator, index in zip(inner.traversal, access.indices, strict=True)
            if not _within(interval(index, ranges), iterator.extent)
        }

        def part(addend: Scalar) -> Scalar:
            kept = leaving | free_iterators(addend)
            axes = [pair for pair in zip(inner.traversal, access.indices, strict=True) if pair[0] in kept]
            return Access(Scope([axis for axis, _ in axes], addend), [index for _, index in axes], access.outside)

        factors[place[1]] = sum_of([(own, part(addend)) for own, addend in addends])
        terms[place[0]] = sign, product_of(factors)
        return Scope(scope.traversal, sum_of(terms), scope.reduction, scope.reducer)


def _within(bounds: tuple[int, int], extent: int) -> bool:
    return bounds[0] >= 0 and bounds[1] < extent


@dataclass(frozen=True, slots=True)
class GroupTerms:
    """``L<x> red<R> (f ± g ± h)  =  L<x> red<R> (f ± { L<u> g ± h }[u])``, where u are the iterators that the grouped addends use.

    Traversals of one element stay, so that the nested scope has the form of the outer one.
    """

    name: str = "group_terms"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each addend of several."""
        count = len(terms_of(scope.body))
        for place in range(count if count > 1 else 0):
            yield Site.of(terms=(place,))

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. It only names a part of the body, so whatever reduces it."""
        terms, chosen = terms_of(scope.body), site.integers("terms")
        if not chosen or len(set(chosen)) != len(chosen) or max(chosen) >= len(terms) or len(chosen) == len(terms):
            return Refusal("some addends are grouped and others are not")
        first = min(chosen)
        lead = terms[first][0]  # the sign of the first stays outside
        grouped = [(lead * sign, value) for place, (sign, value) in enumerate(terms) if place in chosen]
        used = frozenset().union(*(free_iterators(value) for _, value in grouped))
        traversal = [found for found in scope.traversal if found in used or found.extent == 1]
        traversal += [found for found in scope.reduction if found in used]
        named = Access(Scope(traversal, sum_of(grouped)), traversal)
        kept = [
            (lead, named) if place == first else term
            for place, term in enumerate(terms)
            if place == first or place not in chosen
        ]
        return Scope(scope.traversal, sum_of(kept), scope.reduction, scope.reducer)
