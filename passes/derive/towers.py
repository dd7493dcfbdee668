"""Towers of folds that read one another, and the moves that make one level more.

Nested folding (rows, then columns, where windows overlap), long windows from shorter ones, strided reads through dense views,
ranges cut to what counts. Sites are read off the windows: a tap iterator that stands in one index beside traversal iterators.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import isqrt

from passes.derive.candidate import SearchReport
from passes.derive.components import components
from passes.derive.naming import fresh_iterator
from passes.derive.state import MERGE, MERGE_RULE, Application, applied
from tensoropt.ir.expression import Access, Reducer, Scope, Tensor, accesses, replace_sources
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Compute
from tensoropt.rewrite.rule import Path, Refusal, Site

_LONG = 5
"""Windows of at least so many taps are also folded from shorter ones."""

_WIDEST = 8
"""Strides up to this one are read through views; what is further apart is not read together anyway."""

Window = tuple[Iterator, int, tuple[tuple[Iterator, int], ...]]
"""A tap iterator, its coefficient, and the traversal iterators beside it in one index, with theirs."""

Move = tuple[Application, ...]
"""Applications one after the other, tried as a whole."""


@dataclass(frozen=True, slots=True)
class Tower:
    """Folds that read one another, the root first, and how they were derived."""

    root: Scope
    chain: tuple[Application, ...] = ()
    moves: int = 0

    def levels(self) -> list[tuple[Path, Scope]]:
        """The folds with their paths, the root first."""
        found: list[tuple[Path, Scope]] = [((), self.root)]
        while isinstance(found[-1][1].body, Access) and isinstance(found[-1][1].body.source, Scope):
            path, scope = found[-1]
            assert isinstance(scope.body, Access)
            assert isinstance(scope.body.source, Scope)
            found.append(((*path, 0), scope.body.source))
        return found

    def statements(self, output: Tensor) -> tuple[Compute, ...]:
        """Each level as a statement of its own, the innermost first."""
        made: list[Compute] = []
        mapping: dict[Tensor | Scope, Tensor | Scope] = {}
        *inner, _ = reversed(self.levels())
        for number, (_, scope) in enumerate(inner):
            part = Tensor(f"{output.name}/part{number}", scope.type)
            made.append(Compute(part, replace_sources(scope, mapping)))
            mapping[scope] = part
        return (*made, Compute(output, replace_sources(self.root, mapping)))


def moves(tower: Tower) -> Iterable[Move]:
    """What the form of each level suggests."""
    for path, scope in tower.levels():
        if any(not access.stays_inside for access in accesses(scope.body)):
            tighten: Application = ("tighten", path, Site())
            yield (tighten, (MERGE_RULE, path[:-1], MERGE)) if path else (tighten,)
        for tap, step, beside in windows(scope):
            if len(scope.reduction) > 1:
                yield _nested(path, tap, step, beside)
            elif tap.extent >= _LONG:
                yield from _shortened(scope, path, tap, step, beside)
        if scope.reduction and not isinstance(accesses(scope.body)[0].source, Scope):
            yield from _viewed(scope, path)


def windows(scope: Scope) -> list[Window]:
    """Taps that stand beside traversal iterators in one index of the body and nowhere else: windows that may overlap."""
    found: dict[Window, None] = {}
    for access in accesses(scope.body):
        for index in access.indices:
            for terms in components(index):
                taps = [(atom, step) for atom, step in terms if isinstance(atom, Iterator) and atom in scope.reduction]
                beside = [
                    (atom, step) for atom, step in terms if isinstance(atom, Iterator) and atom in scope.traversal
                ]
                if len(taps) == 1 and beside and len(terms) == 1 + len(beside):
                    found[(*taps[0], tuple(beside))] = None
    return list(found)


def stride_of(scope: Scope, index: Index) -> int | None:
    """The step of the traversal through an index that hops over elements, within a vector; None for any other."""
    steps = [abs(step) for atom, step in index.terms if isinstance(atom, Iterator) and atom in scope.traversal]
    return min(steps) if steps and 1 < min(steps) <= _WIDEST else None


def _nested(path: Path, tap: Iterator, step: int, beside: tuple[tuple[Iterator, int], ...]) -> Move:
    """One tap folded outside, the others inside, at every place that the taps reach once."""
    terms = tuple((iterator.name, factor) for iterator, factor in (*beside, (tap, step)))
    return (
        ("stage", path, Site.of(iterators=(tap.name,))),
        ("collapse_traversal", (*path, 0), Site.of(terms=terms)),
        (MERGE_RULE, path, MERGE),
    )


def _shortened(
    scope: Scope, path: Path, tap: Iterator, step: int, beside: tuple[tuple[Iterator, int], ...]
) -> Iterable[Move]:
    """A long window folded from shorter ones: two halves that may overlap, or parts that divide it about evenly."""
    high = fresh_iterator(tap.name, 2, (*scope.traversal, *scope.reduction)).name  # as the rules name it
    parts: list[tuple[str, int, int]] = []
    if scope.reducer in (Reducer.MAX, Reducer.MIN):
        parts.append(("split_overlapping", 2, tap.extent - -(-tap.extent // 2)))
    divisors = [factor for factor in range(2, isqrt(tap.extent) + 1) if tap.extent % factor == 0]
    for factor in divisors[-1:]:
        parts.append(("split_reduction", tap.extent // factor, tap.extent // factor))
    for rule, factor, distance in parts:
        terms = (*((iterator.name, found) for iterator, found in beside), (high, step * distance))
        yield (
            (rule, path, Site.of(iterator=tap.name, factor=factor, offset=0)),
            ("stage", path, Site.of(iterators=(high,))),
            ("collapse_traversal", (*path, 0), Site.of(terms=terms)),
            (MERGE_RULE, path, MERGE),
        )


def _viewed(scope: Scope, path: Path) -> Iterable[Move]:
    """The finest strided index read through views of its residues."""
    for position, access in enumerate(accesses(scope.body)):
        for axis, index in enumerate(access.indices):
            stride = stride_of(scope, index)
            if stride is not None:
                yield (("view_residues", path, Site.of(access=position, axis=axis, factor=stride)),)


def after(tower: Tower, move: Move, excluded: Collection[str], report: SearchReport) -> Tower | None:
    """The tower after a move; None where a rule refuses or is excluded."""
    root, chain = tower.root, tower.chain
    for rule, path, site in move:
        if rule in excluded:
            return None
        result = applied(report, rule, root, path, site)
        if isinstance(result, Refusal):
            return None
        if rule == "tighten" and result.reducer is None:
            return None  # nothing would be left to fold where the result is kept
        root, chain = result, (*chain, (rule, path, site))
    return Tower(root, chain, tower.moves + 1)
