"""Rules that make and remove levels of scopes: summation staging and traversal merge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.support import background, box, conditions_of, escaping, interval
from tensoropt.ir.expression import Access, Scalar, Scope, accesses, fresh_iterators, map_scalar, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Refusal, Site


@dataclass(frozen=True, slots=True)
class Stage:
    """``L<x> Σ<S, R> f(x, S, R)  =  L<x> Σ<S> { L<S, x> Σ<R> f(x, S, R) }[S, x]``, for any reducer."""

    name: str = "stage"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each single reduction iterator, where others stay."""
        if len(scope.reduction) > 1:
            for iterator in scope.reduction:
                yield Site.of(iterators=(iterator.name,))

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. Refused where nothing or everything would be moved out."""
        names = set(site.names("iterators"))
        staged = tuple(iterator for iterator in scope.reduction if iterator.name in names)
        rest = tuple(iterator for iterator in scope.reduction if iterator.name not in names)
        if len(staged) != len(names) or not staged:
            return Refusal(f"{sorted(names)} are not all reductions here")
        if not rest:
            return Refusal("no reduction would stay inside")
        inner = Scope((*staged, *scope.traversal), scope.body, rest, scope.reducer)
        return Scope(scope.traversal, Access(inner, inner.traversal), staged, scope.reducer)


@dataclass(frozen=True, slots=True)
class Merge:
    """``L<x> Σ<y> { L<z> Σ<s> f(z, s) }[φ(x, y)]  =  L<x> Σ<y, s> f(φ(x, y), s)``.

    Reading outside L<z> must find what f gives there: φ either stays inside the box of z, or the support of f does: then both
    sides are the outside value. Where s is not empty the outer body is the bare access and the reducers are the same. An axis of
    one element, which no index of f has, keeps its guard where f is a read with such an axis too: that one is read at φ.
    """

    name: str = "merge"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each access to a nested scope."""
        for position, access in enumerate(accesses(scope.body)):
            if isinstance(access.source, Scope):
                yield Site.of(access=position)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        position = site.place("access")
        reads = accesses(scope.body)
        if position >= len(reads) or not isinstance(reads[position].source, Scope):
            return Refusal("no nested scope is read there")
        access = _guarded(scope, reads[position])
        inner = access.source
        assert isinstance(inner, Scope)
        if inner.reduction and scope.body is not reads[position]:
            return Refusal("the inner scope reduces and the outer body is more than its access")
        if inner.reduction and scope.reduction and scope.reducer is not inner.reducer:
            return Refusal("the scopes fold with different reducers")
        reason = reads_other_than_outside(scope, access)
        if reason is not None:
            return Refusal(reason)
        renamed = fresh_iterators(inner.reduction, (*scope.traversal, *scope.reduction))
        mapping = dict(zip(inner.traversal, access.indices, strict=True))
        mapping |= {old: Index.of(new) for old, new in renamed.items()}
        inlined = substitute(inner.body, mapping)
        reduction = (*scope.reduction, *renamed.values())
        reducer = scope.reducer if scope.reduction else inner.reducer
        return Scope(scope.traversal, _with_access(scope.body, position, inlined), reduction, reducer)


def _guarded(scope: Scope, access: Access) -> Access:
    """The access, with what it reads guarding by its own axes of one element where the access may leave those of its source.

    ``L<z> g[.., 0, ..]`` read at an index that may leave the one element of an axis is ``L<z'> g[.., z', ..]`` read there, where
    z' runs over what the index reaches: g gives the same beyond its axis as the access does beyond its source.
    """
    inner = access.source
    if not isinstance(inner, Scope) or inner.reduction or not isinstance(inner.body, Access):
        return access
    read = inner.body
    if read.outside is not access.outside:
        return access
    free = [
        axis
        for axis, (index, extent) in enumerate(zip(read.indices, read.source.shape, strict=True))
        if extent == 1 and index.is_constant and index.constant == 0
    ]
    ranges = box((*scope.traversal, *scope.reduction))
    traversal, indices = list(inner.traversal), list(read.indices)
    for place, (iterator, index) in enumerate(zip(inner.traversal, access.indices, strict=True)):
        low, high = interval(index, ranges)
        if iterator.extent == 1 and low == 0 < high and free:
            wider = Iterator(iterator.name, high + 1)
            traversal[place] = wider
            indices[free.pop(0)] = Index.of(wider)
    if traversal == list(inner.traversal):
        return access
    widened = Scope(traversal, Access(read.source, indices, read.outside))
    return Access(widened, access.indices, access.outside)


def reads_other_than_outside(scope: Scope, access: Access) -> str | None:
    """Why reading outside the box of the nested scope may differ from evaluating its body there; None if it cannot."""
    inner = access.source
    assert isinstance(inner, Scope)
    boxes = box(inner.traversal)
    ranges = box((*scope.traversal, *scope.reduction))
    extended = {}
    for iterator, index in zip(inner.traversal, access.indices, strict=True):
        low, high = interval(index, ranges)
        extended[iterator] = min(low, 0), max(high, iterator.extent - 1)
    if extended == boxes:
        return None
    if inner.reduction and background(inner).value != access.outside.value:
        return "the outside value is not what the reduction over nothing gives"
    conditions = conditions_of(inner.body, access.outside)
    inside = box(inner.reduction)
    found = escaping(conditions, {**boxes, **inside}, {**extended, **inside})
    return (
        None
        if found is None
        else f"reads outside {found.name}'s box, where the inner body need not be the outside value"
    )


def _with_access(body: Scalar, position: int, replacement: Scalar) -> Scalar:
    count = -1

    def leaf(node: Scalar) -> Scalar:
        nonlocal count
        if isinstance(node, Access):
            count += 1
            if count == position:
                return replacement
        return node

    return map_scalar(body, leaf)
