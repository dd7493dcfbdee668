"""Rules about where a body vanishes: tightening, relaxing, dropping unit iterators, window compaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.naming import find_iterator, fresh_iterator
from passes.derive.support import background, box, conditions_of, escaping, tightened
from tensoropt.ir.expression import Access, Scalar, Scope, accesses, map_scalar, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Refusal, Site


@dataclass(frozen=True, slots=True)
class Tighten:
    """``L<x> Σ<r> f(x, r)  =  L<x> { L<x'> Σ<r'> f(x' + a, r' + b) }[x − a]``.

    Where f vanishes outside [a, a + |x'|) and [b, b + |r'|).
    """

    name: str = "tighten"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """One site: all iterators at once."""
        yield Site()

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. Without traversals to cut there is no outer scope."""
        boxes = box((*scope.traversal, *scope.reduction))
        ranges = tightened(conditions_of(scope.body, background(scope)), boxes)
        cut = {iterator: bounds for iterator, bounds in ranges.items() if bounds != boxes[iterator]}
        if not cut:
            return Refusal("no range is larger than its support")
        if any(low > high for low, high in ranges.values()):
            return Refusal("the body vanishes everywhere")
        renamed: dict[Iterator, Iterator] = {}
        for iterator, (low, high) in cut.items():
            taken = (*scope.traversal, *scope.reduction, *renamed.values())
            renamed[iterator] = fresh_iterator(iterator.name, high - low + 1, taken)
        mapping = {old: Index.of(new) + cut[old][0] for old, new in renamed.items()}
        traversal = tuple(renamed.get(iterator, iterator) for iterator in scope.traversal)
        reduction = tuple(renamed.get(iterator, iterator) for iterator in scope.reduction)
        body = substitute(scope.body, mapping)
        if traversal == scope.traversal:
            return Scope(traversal, body, reduction, scope.reducer)
        inner = Scope(traversal, body, reduction, scope.reducer)
        indices = [Index.of(iterator) - ranges[iterator][0] for iterator in scope.traversal]
        return Scope(scope.traversal, Access(inner, indices, background(scope)))


@dataclass(frozen=True, slots=True)
class RelaxTraversal:
    """``L<x> f(x)  =  L<x> { L<x'> f(x' − a) }[x + a]`` with a more points before and b after, which nothing reads."""

    name: str = "relax_traversal"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each traversal iterator by one point at either end."""
        for iterator in scope.traversal:
            yield Site.of(iterator=iterator.name, before=1, after=0)
            yield Site.of(iterator=iterator.name, before=0, after=1)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        iterator = find_iterator(scope.traversal, site.text("iterator"))
        if iterator is None:
            return Refusal(f"no traversal iterator {site.text('iterator')} here")
        before, after = site.integer("before"), site.integer("after")
        if before < 0 or after < 0:
            return Refusal("relaxing adds points")
        new = fresh_iterator(iterator.name, iterator.extent + before + after, (*scope.traversal, *scope.reduction))
        traversal = tuple(new if found is iterator else found for found in scope.traversal)
        inner = Scope(
            traversal, substitute(scope.body, {iterator: Index.of(new) - before}), scope.reduction, scope.reducer
        )
        indices = [Index.of(found) + (before if found is iterator else 0) for found in scope.traversal]
        return Scope(scope.traversal, Access(inner, indices, background(inner)))


@dataclass(frozen=True, slots=True)
class RelaxReduction:
    """``Σ<r> f(r)  =  Σ<r'> f(r' − a)`` with a more points before and b after, where f vanishes."""

    name: str = "relax_reduction"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each reduction iterator by one point at either end."""
        for iterator in scope.reduction:
            yield Site.of(iterator=iterator.name, before=1, after=0)
            yield Site.of(iterator=iterator.name, before=0, after=1)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        iterator = find_iterator(scope.reduction, site.text("iterator"))
        if iterator is None:
            return Refusal(f"no reduction iterator {site.text('iterator')} here")
        before, after = site.integer("before"), site.integer("after")
        if before < 0 or after < 0:
            return Refusal("relaxing adds points")
        boxes = box((*scope.traversal, *scope.reduction))
        extended = {**boxes, iterator: (-before, iterator.extent - 1 + after)}
        if escaping(conditions_of(scope.body, background(scope)), boxes, extended) is not None:
            return Refusal(f"the body need not vanish beyond {iterator.name}'s range")
        new = fresh_iterator(iterator.name, iterator.extent + before + after, (*scope.traversal, *scope.reduction))
        reduction = tuple(new if found is iterator else found for found in scope.reduction)
        body = substitute(scope.body, {iterator: Index.of(new) - before})
        return Scope(scope.traversal, body, reduction, scope.reducer)


@dataclass(frozen=True, slots=True)
class DropUnits:
    """``L<x, i> Σ<r, j> f(x, r)  =  L<x, i> { L<x> Σ<r> f(x, r) }[x]``, where i and j have one element each."""

    name: str = "drop_units"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """One site: all of them."""
        yield Site()

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. Without unit traversals there is no outer scope."""
        traversal = tuple(iterator for iterator in scope.traversal if iterator.extent != 1)
        reduction = tuple(iterator for iterator in scope.reduction if iterator.extent != 1)
        if traversal == scope.traversal and reduction == scope.reduction:
            return Refusal("no iterator has a single element")
        inner = Scope(traversal, scope.body, reduction, scope.reducer)
        if traversal == scope.traversal:
            return inner
        return Scope(scope.traversal, Access(inner, traversal, background(inner)))


@dataclass(frozen=True, slots=True)
class CompactWindow:
    """``Σ<h> f(h, e + S·h)  =  Σ<t> f(t − e//S, e%S + S·t)``, t in [0, ⌈R/S⌉).

    f vanishes for h beyond its range and for the second index beyond [0, R). For −S·h it is ``f(e//S − t, e%S + S·t)``. A
    window of R out of a long range becomes ⌈R/S⌉ terms.
    """

    name: str = "compact_window"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each reduction iterator in a guarded index with others, where the window is shorter than its range."""
        for position, access in enumerate(accesses(scope.body)):
            for axis, (index, extent) in enumerate(zip(access.indices, access.source.shape, strict=True)):
                for atom, step in index.terms:
                    if (
                        isinstance(atom, Iterator)
                        and atom in scope.reduction
                        and len(index.terms) > 1
                        and -(-extent // abs(step)) < atom.extent
                    ):
                        yield Site.of(iterator=atom.name, access=position, axis=axis)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        iterator = find_iterator(scope.reduction, site.text("iterator"))
        reads = accesses(scope.body)
        position, axis = site.place("access"), site.place("axis")
        if iterator is None or position >= len(reads) or axis >= len(reads[position].indices):
            return Refusal("no such window here")
        access = reads[position]
        index, extent = access.indices[axis], int(access.source.shape[axis])
        step = index.coefficient(iterator)
        rest = index - Index.of(iterator) * step
        if step == 0 or iterator in rest.iterators():
            return Refusal(f"the index is not linear in {iterator.name}")
        conditions = conditions_of(scope.body, background(scope))
        if not any(found.index is index and found.low >= 0 and found.high < extent for found in conditions):
            return Refusal("the body need not vanish outside the window")
        stride = abs(step)
        new = fresh_iterator(iterator.name, -(-extent // stride), (*scope.traversal, *scope.reduction))
        place = Index.of(new) - rest // stride if step > 0 else rest // stride - new
        boxes = box((*scope.traversal, *scope.reduction))
        ends = place.low, place.high
        if (
            escaping(conditions, boxes, {**boxes, iterator: (min(ends[0], 0), max(ends[1], iterator.extent - 1))})
            is not None
        ):
            return Refusal(f"the body need not vanish beyond {iterator.name}'s range")
        window = rest % stride + Index.of(new) * stride
        body = _with_index(substitute(scope.body, {iterator: place}), position, axis, window)
        reduction = tuple(new if found is iterator else found for found in scope.reduction)
        return Scope(scope.traversal, body, reduction, scope.reducer)


def _with_index(body: Scalar, position: int, axis: int, index: Index) -> Scalar:
    """The body with one index of one access replaced."""
    count = -1

    def leaf(node: Scalar) -> Scalar:
        nonlocal count
        if not isinstance(node, Access):
            return node
        count += 1
        if count != position:
            return node
        return Access(node.source, (*node.indices[:axis], index, *node.indices[axis + 1 :]), node.outside)

    return map_scalar(body, leaf)
