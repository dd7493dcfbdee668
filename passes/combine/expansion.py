"""A nested expression taken apart: sums of products of what it reads, with all sums of a product at one place."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from passes.combine.regions import factors_of, is_data_free
from passes.derive.polynomials import place_of, terms_of
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.expression import Access, Apply, Reducer, Scope, accesses
from tensoropt.ir.structure import product_factors
from tensoropt.rewrite.rule import Path, Refusal, Site, apply_at, nested_at

Move = tuple[str, Path, Site]

_MOST_MOVES = 80


@dataclass(slots=True)
class Rewriting:
    """An expression and the rule applications that led to it."""

    root: Scope
    constants: Collection[str]
    excluded: Collection[str] = ()
    moves: list[Move] = field(default_factory=list)

    def copy(self) -> Rewriting:
        """Another one that goes on from here."""
        return Rewriting(self.root, self.constants, self.excluded, list(self.moves))

    def scope(self, path: Path) -> Scope:
        """The scope at the end of a path that leads to one."""
        found = nested_at(self.root, path)
        assert found is not None
        return found

    def apply(self, rule: str, path: Path, site: Site) -> bool:
        """Applies a rule; False, with nothing changed, where it refuses or is excluded."""
        if rule in self.excluded or len(self.moves) >= _MOST_MOVES:
            return False
        result = apply_at(RULES_BY_NAME[rule], self.root, path, site)
        if isinstance(result, Refusal):
            return False
        self.root = result
        self.moves.append((rule, path, site))
        return True


def expand(rewriting: Rewriting, path: Path = ()) -> None:
    """Takes the scope at a path apart, nested ones first.

    What is left is a product, or a sum without a reduction whose addends are products of tensors or single reads of such scopes.
    """
    while True:
        for position in _nested(rewriting.scope(path)):
            expand(rewriting, (*path, position))
        if not _step(rewriting, path):
            return


def _nested(scope: Scope) -> list[int]:
    return [position for position, access in enumerate(accesses(scope.body)) if isinstance(access.source, Scope)]


def _step(rewriting: Rewriting, path: Path) -> bool:
    """One move at a scope; False where none is left."""
    return any(
        rewriting.apply(rule, path, site) if rule != "isolate" else _isolate(rewriting, path, site)
        for rule, site in _suggestions(rewriting, path)
    )


def _suggestions(rewriting: Rewriting, path: Path) -> Iterable[tuple[str, Site]]:
    scope = rewriting.scope(path)
    terms = terms_of(scope.body)
    for number, (_, value) in enumerate(terms):
        for place, factor in enumerate(product_factors(value)):
            if isinstance(factor, Apply) and factor.operation == "div":
                if is_data_free(factor.arguments[1], rewriting.constants):
                    yield "divide_by_reciprocal", Site.of(term=number, factor=place)
            elif len(terms_of(factor)) > 1:
                yield "distribute", Site.of(term=number, factor=place)
    if scope.reduction and len(terms) > 1:
        yield "distribute_sum", Site()
    for position in _nested(scope):
        where = place_of(scope.body, position)
        if where is not None:
            yield from _opened(scope, position, where[0])


def _opened(scope: Scope, position: int, term: int) -> Iterable[tuple[str, Site]]:
    """How the nested scope that is read at a position can come into the body that reads it."""
    site = Site.of(access=position)
    inner = accesses(scope.body)[position].source
    assert isinstance(inner, Scope)
    terms = terms_of(scope.body)
    alone = isinstance(terms[term][1], Access)
    if not inner.reduction:
        yield "merge", site
        yield "separate_terms", site
    elif inner.reducer is Reducer.SUM:
        if len(terms) == 1 and alone:
            yield "merge", site
        elif len(terms) == 1:
            yield "flatten_product", site
        elif not alone:
            yield "isolate", Site.of(terms=(term,))


def _isolate(rewriting: Rewriting, path: Path, site: Site) -> bool:
    """An addend in a scope of its own, where that lets a sum in it take in the other factors."""
    trial = rewriting.copy()
    known = {access.source for access in accesses(rewriting.scope(path).body)}
    if not trial.apply("group_terms", path, site):
        return False
    reads = accesses(trial.scope(path).body)
    inside = (*path, next(position for position, access in enumerate(reads) if access.source not in known))
    flattened = any(
        trial.apply("flatten_product", inside, Site.of(access=place)) for place in _nested(trial.scope(inside))
    )
    if flattened:
        rewriting.root, rewriting.moves = trial.root, trial.moves
    return flattened


def products(root: Scope) -> list[tuple[Path, int]]:
    """Where the products of an expanded expression are: the path of the scope, and the addend of its body."""
    found: list[tuple[Path, int]] = []
    for number, (_, value) in enumerate(terms_of(root.body)):
        if len(factors_of(value)) > 1:
            found.append(((), number))
            continue
        position = sum(len(accesses(other)) for _, other in terms_of(root.body)[:number])
        if isinstance(value, Access) and isinstance(value.source, Scope) and len(terms_of(value.source.body)) == 1:
            found.append(((position,), 0))
    return found
