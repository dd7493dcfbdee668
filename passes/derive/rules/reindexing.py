"""Re-indexing by a skew: one iterator is replaced by a linear form of itself and others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.naming import find_iterator, fresh_iterator
from passes.derive.support import background, box, conditions_of, escaping, interval
from tensoropt.ir.expression import Access, Scope, accesses, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Refusal, Site


@dataclass(frozen=True, slots=True)
class _Skewing:
    """``t = sign·v + Σ b·u − low`` and back: ``v = sign·(t + low − Σ b·u)``."""

    replaced: Iterator
    new: Iterator
    forward: Index
    backward: Index
    reached: tuple[int, int]


def _skewing(scope: Scope, site: Site, own: tuple[Iterator, ...], others: tuple[Iterator, ...]) -> _Skewing | Refusal:
    replaced = find_iterator(own, site.text("iterator"))
    if replaced is None:
        return Refusal(f"no iterator {site.text('iterator')} here")
    sign = site.integer("sign")
    rest = Index.of(0)
    for name, coefficient in site.terms("terms"):
        other = find_iterator(others, name)
        if other is None or other is replaced:
            return Refusal(f"{name} is no other iterator of the same kind")
        rest = rest + Index.of(other) * coefficient
    if sign not in (1, -1) or not rest.terms:
        return Refusal("a skew needs the coefficient 1 or -1 and another iterator")
    ranges = box((*scope.traversal, *scope.reduction))
    form = Index.of(replaced) * sign + rest
    low, high = interval(form, ranges)
    if high < low:
        return Refusal("an empty range")
    new = fresh_iterator(replaced.name, high - low + 1, (*scope.traversal, *scope.reduction))
    backward = (Index.of(new) + low - rest) * sign
    return _Skewing(replaced, new, form - low, backward, interval(backward, {**ranges, new: (0, new.extent - 1)}))


@dataclass(frozen=True, slots=True)
class SkewTraversal:
    """``L<v, u> f(v, u)  =  L<v, u> { L<t, u> f(±(t + c − b·u), u) }[±v + b·u − c, u]``.

    The inner box holds the image, the outer scope reads only the image.
    """

    name: str = "skew_traversal"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """The sums of traversal iterators that stand in the indices of accesses."""
        return _form_sites(scope, scope.traversal, scope.traversal)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        skewing = _skewing(scope, site, scope.traversal, scope.traversal)
        if isinstance(skewing, Refusal):
            return skewing
        traversal = tuple(skewing.new if found is skewing.replaced else found for found in scope.traversal)
        body = substitute(scope.body, {skewing.replaced: skewing.backward})
        inner = Scope(traversal, body, scope.reduction, scope.reducer)
        indices = [skewing.forward if found is skewing.replaced else Index.of(found) for found in scope.traversal]
        return Scope(scope.traversal, Access(inner, indices, background(inner)))


@dataclass(frozen=True, slots=True)
class SkewReduction:
    """``Σ<v> f(v, u)  =  Σ<t> f(±(t + c − b·u), u)``.

    U any other iterators, where f is the reducer's identity for v beyond its range.
    """

    name: str = "skew_reduction"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """The linear forms that stand in the indices of accesses."""
        return _form_sites(scope, scope.reduction, (*scope.traversal, *scope.reduction))

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        iterators = (*scope.traversal, *scope.reduction)
        skewing = _skewing(scope, site, scope.reduction, iterators)
        if isinstance(skewing, Refusal):
            return skewing
        boxes = box(iterators)
        extended = {**boxes, skewing.replaced: skewing.reached}
        if escaping(conditions_of(scope.body, background(scope)), boxes, extended) is not None:
            return Refusal(f"{skewing.replaced.name} would leave its range, where the body need not vanish")
        reduction = tuple(skewing.new if found is skewing.replaced else found for found in scope.reduction)
        body = substitute(scope.body, {skewing.replaced: skewing.backward})
        return Scope(scope.traversal, body, reduction, scope.reducer)


def _form_sites(scope: Scope, own: tuple[Iterator, ...], others: tuple[Iterator, ...]) -> Iterable[Site]:
    seen: dict[Site, None] = {}
    for access in accesses(scope.body):
        for index in access.indices:
            linear = [(atom, step) for atom, step in index.terms if isinstance(atom, Iterator) and atom in others]
            for atom, step in linear:
                rest = tuple((other.name, factor) for other, factor in linear if other is not atom)
                if atom in own and abs(step) == 1 and rest:
                    seen[Site.of(iterator=atom.name, sign=step, terms=rest)] = None
    return seen
