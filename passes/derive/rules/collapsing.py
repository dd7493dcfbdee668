"""Traversals joined to the one linear form through which a body sees them: what overlaps is computed once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.naming import find_iterator, fresh_iterator
from passes.derive.support import background
from tensoropt.ir.expression import Access, IndexValue, Scalar, Scope, accesses, free_iterators, map_scalar
from tensoropt.ir.index import FloorDiv, Index, Iterator
from tensoropt.rewrite.rule import Refusal, Site


@dataclass(frozen=True, slots=True)
class CollapseTraversal:
    """``L<x, u> Σ<s> f(e(x, u), s)  =  L<x, u> { L<t> Σ<s> f(t + low, s) }[e(x, u) − low]``.

    e is a linear form with any coefficients, low its least value, and f sees x and u through e alone. After a ``stage`` this is
    nested folding: ``max<r, s> A[h + r, w + s] = max<r> { max<s> A[h', w + s] }[h + r, w]``.
    """

    name: str = "collapse_traversal"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """The sums of several traversal iterators that stand in the indices of accesses."""
        seen: dict[Site, None] = {}
        for access in accesses(scope.body):
            for index in access.indices:
                linear = [
                    (atom, step) for atom, step in index.terms if isinstance(atom, Iterator) and atom in scope.traversal
                ]
                if len(linear) > 1:
                    seen[Site.of(terms=tuple((atom.name, step) for atom, step in linear))] = None
        return seen

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula. The new iterator stands where the first one of the site stood."""
        form = Index.of(0)
        chosen: list[Iterator] = []
        for name, coefficient in site.terms("terms"):
            iterator = find_iterator(scope.traversal, name)
            if iterator is None or iterator in chosen:
                return Refusal(f"no traversal iterator {name} here")
            chosen.append(iterator)
            form = form + Index.of(iterator) * coefficient
        if len(form.terms) < 2:
            return Refusal("a form of fewer than two iterators collapses nothing")
        taken = (*scope.traversal, *scope.reduction)
        new = fresh_iterator(chosen[0].name, form.high - form.low + 1, taken)
        shown = _Shown(form, frozenset(chosen), Index.of(new) + form.low)
        body = shown.of_scalar(scope.body)
        if body is None:
            return Refusal("the body sees the iterators in another way than through the form")
        if new not in free_iterators(body):
            return Refusal("the body does not see the form")
        kept = [new if found is chosen[0] else found for found in scope.traversal]
        traversal = [found for found in kept if found not in chosen]
        inner = Scope(traversal, body, scope.reduction, scope.reducer)
        indices = [form - form.low if found is new else Index.of(found) for found in traversal]
        return Scope(scope.traversal, Access(inner, indices, background(inner)))


@dataclass(frozen=True, slots=True)
class DropIdle:
    """``L<x, i> Σ<s> f(x, s)  =  L<x, i> { L<x> Σ<s> f(x, s) }[x]``, where f does not see i."""

    name: str = "drop_idle"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """One site: all of them."""
        yield Site()

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        seen = free_iterators(scope.body)
        traversal = tuple(iterator for iterator in scope.traversal if iterator in seen)
        if traversal == scope.traversal:
            return Refusal("the body sees every traversal iterator")
        inner = Scope(traversal, scope.body, scope.reduction, scope.reducer)
        return Scope(scope.traversal, Access(inner, traversal, background(inner)))


@dataclass(frozen=True, slots=True)
class _Shown:
    """Indices rewritten so that the chosen iterators stand in them through the form alone."""

    form: Index
    chosen: frozenset[Iterator]
    replacement: Index

    def of_scalar(self, body: Scalar) -> Scalar | None:
        """The body with its indices rewritten; None where an index is not in the form."""
        failed = False

        def rewritten(index: Index) -> Index:
            nonlocal failed
            found = self.of_index(index)
            failed = failed or found is None
            return index if found is None else found

        def leaf(node: Scalar) -> Scalar:
            match node:
                case Access():
                    return Access(node.source, [rewritten(index) for index in node.indices], node.outside)
                case IndexValue():
                    return IndexValue(rewritten(node.index), node.dtype)
                case _:
                    return node

        result = map_scalar(body, leaf)
        return None if failed else result

    def of_index(self, index: Index) -> Index | None:
        """``rest + λ·form`` with the form replaced."""
        first, unit = self.form.terms[0]
        factor, remainder = divmod(index.coefficient(first), unit)
        if remainder:
            return None
        rest = index - self.form * factor
        result = self.replacement * factor + rest.constant
        for atom, coefficient in rest.terms:
            if isinstance(atom, Iterator):
                if atom in self.chosen:
                    return None
                part = Index.of(atom)
            else:
                inner = self.of_index(atom.index)
                if inner is None:
                    return None
                part = inner // atom.divisor if isinstance(atom, FloorDiv) else inner % atom.divisor
            result = result + part * coefficient
        return result
