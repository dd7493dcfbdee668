"""Folds that are no products: a unit factor, windows that overlap, and strided reads through residue views."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.naming import find_iterator, fresh_iterator
from tensoropt.ir.expression import Access, Apply, Constant, Reducer, Scalar, Scope, accesses, map_scalar, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Refusal, Site


@dataclass(frozen=True, slots=True)
class UnitFactor:
    """``Σ<r> f(x, r)  =  Σ<r> f(x, r) · { L<r> 1 }[r]``: a pooling as a depthwise convolution. Sums only."""

    name: str = "unit_factor"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """One site: all reductions."""
        if scope.reduction:
            yield Site()

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        if not scope.reduction:
            return Refusal("nothing is folded")
        if scope.reducer is not Reducer.SUM:
            return Refusal("only a sum is a sum of products")
        ones = Scope(scope.reduction, Constant(1, scope.dtype))
        body = Apply("mul", scope.body, Access(ones, scope.reduction))
        return Scope(scope.traversal, body, scope.reduction, scope.reducer)


@dataclass(frozen=True, slots=True)
class SplitOverlapping:
    """``max<r> f(r)  =  max<q, m> f(d·q + m)``, q in {0, 1}, m in [0, k), k = ⌈R/2⌉, d = R − k; the same for min.

    The two halves overlap where R is odd, which a maximum does not mind. With ``stage`` and ``collapse_traversal``: the maximum
    over R taps from maxima over ⌈R/2⌉ taps (doubling).
    """

    name: str = "split_overlapping"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each reduction iterator that has two halves."""
        if scope.reducer in (Reducer.MAX, Reducer.MIN):
            for iterator in scope.reduction:
                if iterator.extent > 2:
                    yield Site.of(iterator=iterator.name, factor=2, offset=0)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        iterator = find_iterator(scope.reduction, site.text("iterator"))
        if iterator is None:
            return Refusal(f"no reduction iterator {site.text('iterator')} here")
        if scope.reducer not in (Reducer.MAX, Reducer.MIN):
            return Refusal("what stands in both halves would count twice")
        if (site.integer("factor"), site.integer("offset")) != (2, 0) or iterator.extent < 3:
            return Refusal(f"{iterator.name} with {iterator.extent} elements has no two halves")
        length = -(-iterator.extent // 2)
        taken = (*scope.traversal, *scope.reduction)
        high = fresh_iterator(iterator.name, 2, taken)
        low = fresh_iterator(iterator.name, length, (*taken, high))
        place = scope.reduction.index(iterator)
        reduction = (*scope.reduction[:place], high, low, *scope.reduction[place + 1 :])
        index = Index.of(high) * (iterator.extent - length) + low
        return Scope(scope.traversal, substitute(scope.body, {iterator: index}), reduction, scope.reducer)


@dataclass(frozen=True, slots=True)
class ViewResidues:
    """``A[…, e, …]  =  { L<m, q> A[…, S·q + m + low, …] }[…, (e − low)%S, (e − low)//S, …]``, low the least value of e.

    A strided read becomes reads of S views that lie densely (a fold of strided views). The views hold what A gives outside too,
    so nothing is read beyond them.
    """

    name: str = "view_residues"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each index with a coefficient above one on a traversal iterator."""
        for position, access in enumerate(accesses(scope.body)):
            for axis, index in enumerate(access.indices):
                steps = {
                    abs(step) for atom, step in index.terms if isinstance(atom, Iterator) and atom in scope.traversal
                }
                for step in sorted(steps - {1}):
                    yield Site.of(access=position, axis=axis, factor=step)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        position, axis, factor = site.place("access"), site.place("axis"), site.integer("factor")
        reads = accesses(scope.body)
        if position >= len(reads) or axis >= len(reads[position].indices):
            return Refusal("no such index here")
        access = reads[position]
        index = access.indices[axis]
        if factor < 2 or index.high - index.low < factor:
            return Refusal(f"the index does not reach over {factor} residues")
        axes = [Iterator(f"a{place}", int(extent)) for place, extent in enumerate(access.source.shape)]
        residue, quotient = Iterator("m", factor), Iterator("q", (index.high - index.low) // factor + 1)
        inside = [Index.of(found) for found in axes]
        inside[axis] = Index.of(quotient) * factor + residue + index.low
        others = [other for place, other in enumerate(access.indices) if place != axis]
        views = Scope(
            [*axes[:axis], residue, quotient, *axes[axis + 1 :]], Access(access.source, inside, access.outside)
        )
        shifted = index - index.low
        place = [*others[:axis], shifted % factor, shifted // factor, *others[axis:]]
        body = _with_read(scope.body, position, Access(views, place, access.outside))
        return Scope(scope.traversal, body, scope.reduction, scope.reducer)


def _with_read(body: Scalar, position: int, replacement: Access) -> Scalar:
    count = -1

    def leaf(node: Scalar) -> Scalar:
        nonlocal count
        if not isinstance(node, Access):
            return node
        count += 1
        return replacement if count == position else node

    return map_scalar(body, leaf)
