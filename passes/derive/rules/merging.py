"""Ranges of a traversal put side by side and taken apart: merging and splitting of expressions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.naming import find_iterator, fresh_iterator
from passes.derive.polynomials import product_of, sum_of, terms_of
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Access, Scalar, Scope, Tensor, accesses, map_scalar, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import product_factors
from tensoropt.ir.types import Extent, TensorType
from tensoropt.rewrite.rule import Argument, Refusal, Site


@dataclass(frozen=True, slots=True)
class _Widened:
    """An access whose tensor becomes one part of a concatenation: the tensors before it and after it, with their widths."""

    access: int
    before: tuple[tuple[str, int], ...]
    after: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Concatenate:
    """``L<x, n> red<r> f(W[n])  =  L<x, n> { L<x, m> red<r> f({ L<m> V[m] + W[m − a] + U[m − b] }[m]) }[x, n + a]``.

    V and U are any other tensors beside W (a = |V|, b = |V| + |W|, each 0 outside), for one access or several at once. Expressions
    of one form that differ in W only thereby become ranges of one and the same nested expression, for any f and any widths.
    """

    name: str = "concatenate"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """None: which tensors stand beside is known to the program only."""
        return ()

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. ``before`` and ``after`` are widths; ``parts`` name for each access the tensors that make them up."""
        iterator = find_iterator(scope.traversal, site.text("iterator"))
        if iterator is None:
            return Refusal(f"no traversal iterator {site.text('iterator')} here")
        before, after = site.integer("before"), site.integer("after")
        parts = _parts(site.argument("parts"))
        if before < 0 or after < 0 or before + after == 0:
            return Refusal("nothing stands beside")
        reads = accesses(scope.body)
        new = fresh_iterator(iterator.name, before + iterator.extent + after, (*scope.traversal, *scope.reduction))
        widened: dict[int, Scalar] = {}
        for part in parts:
            if part.access >= len(reads):
                return Refusal("no such access here")
            read = _widened_read(reads[part.access], part, iterator, new, before, after)
            if isinstance(read, Refusal):
                return read
            widened[part.access] = read
        body = _with_reads(scope.body, widened, {iterator: Index.of(new) - before})
        traversal = [new if found is iterator else found for found in scope.traversal]
        inner = Scope(traversal, body, scope.reduction, scope.reducer)
        indices = [Index.of(found) + (before if found is iterator else 0) for found in scope.traversal]
        return Scope(scope.traversal, Access(inner, indices))


def _parts(argument: Argument) -> list[_Widened]:
    """Triples of an access and the (name, width) of the tensors before and after its own."""
    parts: list[_Widened] = []
    assert isinstance(argument, tuple)
    for part in argument:
        assert isinstance(part, tuple)
        place, before, after = part
        site = Site.of(access=place, before=before, after=after)
        parts.append(_Widened(site.place("access"), site.terms("before"), site.terms("after")))
    return parts


def _widened_read(
    read: Access, part: _Widened, iterator: Iterator, new: Iterator, before: int, after: int
) -> Scalar | Refusal:
    source = read.source
    if not isinstance(source, Tensor):
        return Refusal("only tensors are put side by side")
    axes = [axis for axis, index in enumerate(read.indices) if iterator in index.iterators()]
    if len(axes) != 1 or read.indices[axes[0]] is not Index.of(iterator):
        return Refusal(f"{iterator.name} alone does not address one axis of {source.name}")
    axis = axes[0]
    if int(source.shape[axis]) != iterator.extent or read.outside.value != 0:
        return Refusal(f"{source.name} is longer or shorter than {iterator.name}, or not 0 outside")
    if sum(width for _, width in part.before) != before or sum(width for _, width in part.after) != after:
        return Refusal("the widths beside differ from one access to another")
    extents = [int(extent) for extent in source.shape]
    extents[axis] = new.extent
    own = [Iterator(f"a{place}", extent) for place, extent in enumerate(extents)]
    total: list[tuple[int, Scalar]] = []
    start = 0
    for name, width in (*part.before, ("", iterator.extent), *part.after):
        shape = [Extent(extent) for extent in extents]
        shape[axis] = Extent(width)
        beside = Tensor(name, TensorType(source.dtype, tuple(shape), source.type.layout)) if name else source
        indices = [Index.of(found) - (start if place == axis else 0) for place, found in enumerate(own)]
        total.append((1, Access(beside, indices)))
        start += width
    indices = [Index.of(new) if place == axis else index for place, index in enumerate(read.indices)]
    return Access(Scope(own, sum_of(total)), indices, read.outside)


def _with_reads(body: Scalar, reads: dict[int, Scalar], mapping: dict[Iterator, Index]) -> Scalar:
    """The body with some accesses replaced and the iterators of the others substituted."""
    count = -1

    def leaf(node: Scalar) -> Scalar:
        nonlocal count
        if isinstance(node, Access):
            count += 1
            if count in reads:
                return reads[count]
        return substitute(node, mapping)

    return map_scalar(body, leaf)


@dataclass(frozen=True, slots=True)
class CutRange:
    """``L<x> f(x)  =  L<x> { L<u> f(u) }[x] + { L<v> f(v + a) }[x − a]``, u in [0, a) and v in [0, |x| − a), both 0 outside."""

    name: str = "cut_range"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each traversal iterator at its middle."""
        for iterator in scope.traversal:
            if iterator.extent > 1:
                yield Site.of(iterator=iterator.name, at=iterator.extent // 2)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        iterator = find_iterator(scope.traversal, site.text("iterator"))
        if iterator is None:
            return Refusal(f"no traversal iterator {site.text('iterator')} here")
        at = site.integer("at")
        if not 0 < at < iterator.extent:
            return Refusal(f"{iterator.name} has no two ranges at {at}")
        if not scope.dtype.is_float and not scope.dtype.is_integer:
            return Refusal("truth values are not added")
        return Scope(scope.traversal, sum_of([(1, part) for part in _ranges(scope, iterator, at)]))


def _ranges(scope: Scope, iterator: Iterator, at: int) -> list[Scalar]:
    parts: list[Scalar] = []
    for start, extent in ((0, at), (at, iterator.extent - at)):
        new = fresh_iterator(iterator.name, extent, (*scope.traversal, *scope.reduction))
        traversal = [new if found is iterator else found for found in scope.traversal]
        body = substitute(scope.body, {iterator: Index.of(new) + start})
        inner = Scope(traversal, body, scope.reduction, scope.reducer)
        parts.append(
            Access(inner, [Index.of(found) - (start if found is iterator else 0) for found in scope.traversal])
        )
    return parts


@dataclass(frozen=True, slots=True)
class JoinRanges:
    """``L<x> { L<u> f(u) }[x] + { L<v> f(v + a) }[x − a]  =  L<x> f(x)``, the inverse of ``cut_range``.

    The two nested scopes must be ranges of the same f that lie side by side and cover x.
    """

    name: str = "join_ranges"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each axis along which two nested scopes are added, the second one shifted by the length of the first."""
        terms = [value for _, value in terms_of(scope.body)]
        if len(terms) == 2 and all(isinstance(value, Access) for value in terms):
            for iterator in scope.traversal:
                yield Site.of(iterator=iterator.name)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula: what would be split to this is looked for and split again."""
        iterator = find_iterator(scope.traversal, site.text("iterator"))
        terms = terms_of(scope.body)
        if iterator is None or scope.reduction or len(terms) != 2 or any(sign < 0 for sign, _ in terms):
            return Refusal("no sum of two ranges here")
        first = product_of(product_factors(terms[0][1]))
        if not isinstance(first, Access) or not isinstance(first.source, Scope):
            return Refusal("the first addend is no nested scope")
        inner, axis = first.source, scope.traversal.index(iterator)
        if len(inner.traversal) != len(scope.traversal):
            return Refusal("the nested scope has other axes")
        at = inner.traversal[axis].extent
        clashing = {found.name for found in inner.reduction} & {found.name for found in scope.traversal}
        if clashing or not 0 < at < iterator.extent:
            return Refusal("the ranges do not lie side by side")
        mapping = dict(zip(inner.traversal, map(Index.of, scope.traversal), strict=True))
        joined = Scope(scope.traversal, substitute(inner.body, mapping), inner.reduction, inner.reducer)
        wanted = Scope(scope.traversal, sum_of([(1, part) for part in _ranges(joined, iterator, at)]))
        if canonical_key(wanted) != canonical_key(scope):
            return Refusal("the second addend is not the same function further along")
        return joined
