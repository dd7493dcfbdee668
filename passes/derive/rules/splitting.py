"""Digit splits of iterators by any factor, dividing or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.naming import find_iterator, fresh_iterator
from passes.derive.support import background, box, conditions_of, escaping
from tensoropt.ir.expression import Access, Scope, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Refusal, Site


def digit_iterators(iterator: Iterator, factor: int, offset: int, scope: Scope) -> tuple[Iterator, Iterator, Index]:
    """Iterators q and m and the index k·q + m − o that takes the place of the split one in a scope."""
    taken = (*scope.traversal, *scope.reduction)
    high = fresh_iterator(iterator.name, -(-(iterator.extent + offset) // factor), taken)
    low = fresh_iterator(iterator.name, factor, (*taken, high))
    return high, low, Index.of(high) * factor + low - offset


def _sensible(scope: Scope, site: Site, iterators: tuple[Iterator, ...]) -> Iterator | Refusal:
    iterator = find_iterator(iterators, site.text("iterator"))
    if iterator is None:
        return Refusal(f"no iterator {site.text('iterator')} here")
    factor, offset = site.integer("factor"), site.integer("offset")
    if not 1 < factor < iterator.extent + offset or not 0 <= offset < factor:
        return Refusal(f"{iterator.name} with {iterator.extent} elements is not split by {factor} at offset {offset}")
    return iterator


@dataclass(frozen=True, slots=True)
class SplitTraversal:
    """``L<x> f(x)  =  L<x> { L<q, m> f(k·q + m − o) }[(x + o)//k, (x + o)%k]``.

    0 ≤ o < k, any k: the outer scope reads only what it needs.
    """

    name: str = "split_traversal"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each traversal iterator by 2 and by 3, dividing or not; a search proposes factors from coefficients."""
        return _plain_sites(scope.traversal)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        iterator = _sensible(scope, site, scope.traversal)
        if isinstance(iterator, Refusal):
            return iterator
        factor, offset = site.integer("factor"), site.integer("offset")
        high, low, digits = digit_iterators(iterator, factor, offset, scope)
        place = scope.traversal.index(iterator)
        traversal = (*scope.traversal[:place], high, low, *scope.traversal[place + 1 :])
        inner = Scope(traversal, substitute(scope.body, {iterator: digits}), scope.reduction, scope.reducer)
        shifted = Index.of(iterator) + offset
        indices: list[Index] = [Index.of(other) for other in scope.traversal]
        indices[place : place + 1] = [shifted // factor, shifted % factor]
        return Scope(scope.traversal, Access(inner, indices, background(inner)))


@dataclass(frozen=True, slots=True)
class SplitReduction:
    """``Σ<r> f(r)  =  Σ<q, m> f(k·q + m − o)``.

    0 ≤ o < k, where f is the reducer's identity at what q and m reach beyond r's range.
    """

    name: str = "split_reduction"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each reduction iterator by 2 and by 3, dividing or not; a search proposes factors from coefficients."""
        return _plain_sites(scope.reduction)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        iterator = _sensible(scope, site, scope.reduction)
        if isinstance(iterator, Refusal):
            return iterator
        factor, offset = site.integer("factor"), site.integer("offset")
        high, low, digits = digit_iterators(iterator, factor, offset, scope)
        if offset or iterator.extent % factor:
            boxes = box((*scope.traversal, *scope.reduction))
            reached = {**boxes, iterator: (-offset, high.extent * factor - 1 - offset)}
            if escaping(conditions_of(scope.body, background(scope)), boxes, reached) is not None:
                return Refusal(f"the split reaches beyond {iterator.name}'s range, where the body need not vanish")
        place = scope.reduction.index(iterator)
        reduction = (*scope.reduction[:place], high, low, *scope.reduction[place + 1 :])
        return Scope(scope.traversal, substitute(scope.body, {iterator: digits}), reduction, scope.reducer)


def _plain_sites(iterators: tuple[Iterator, ...]) -> Iterable[Site]:
    for iterator in iterators:
        for factor in (2, 3):
            for offset in (0, 1):
                if factor < iterator.extent + offset:
                    yield Site.of(iterator=iterator.name, factor=factor, offset=offset)
