"""States of the search: an outer scope that gathers and adds, and the core that it reads.

``out[x] = Σ_y core[φ(x, y)]``, ``core[z] = Σ_s f(z, s)·g(z, s)``. Every move rewrites the core and merges what arises between
the two, so there are never more than two levels; then ranges are tightened and iterators of one element dropped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from passes.derive.candidate import SearchReport
from passes.derive.operators.product import used
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Access, Scope, accesses
from tensoropt.ir.index import Iterator
from tensoropt.rewrite.rule import Path, Refusal, Site, apply_at

Application = tuple[str, Path, Site]

MERGE_RULE = "merge"
MERGE = Site.of(access=0)


@dataclass(frozen=True, slots=True)
class State:
    """An expression of one or two levels, and how it was derived."""

    root: Scope
    chain: tuple[Application, ...] = ()
    moves: int = 0

    @property
    def path(self) -> Path:
        """Where the core is."""
        body = self.root.body
        return (0,) if isinstance(body, Access) and isinstance(body.source, Scope) else ()

    @property
    def core(self) -> Scope:
        """The inner scope, or the only one."""
        body = self.root.body
        return body.source if isinstance(body, Access) and isinstance(body.source, Scope) else self.root

    def key(self) -> str:
        """The canonical key with the core's traversal in an order of its own, so that states that differ in it alone are one."""
        if not self.path:
            return canonical_key(self.root)
        access = self.root.body
        assert isinstance(access, Access)
        core = self.core
        ranks = {iterator: _place(iterator, core) for iterator in core.traversal}
        order = sorted(range(len(core.traversal)), key=lambda position: (*ranks[core.traversal[position]], position))
        inner = Scope([core.traversal[position] for position in order], core.body, core.reduction, core.reducer)
        read = Access(inner, [access.indices[position] for position in order], access.outside)
        return canonical_key(Scope(self.root.traversal, read, self.root.reduction, self.root.reducer))


def _place(iterator: Iterator, core: Scope) -> tuple[list[tuple[str, int, int]], int]:
    found = []
    for access in accesses(core.body):
        source = access.source
        name = "" if isinstance(source, Scope) else source.name
        for axis, index in enumerate(access.indices):
            if iterator in index.iterators():
                found.append((name, axis, index.coefficient(iterator)))
    return sorted(found), iterator.extent


def applied(report: SearchReport, rule: str, root: Scope, path: Path, site: Site) -> Scope | Refusal:
    """The root with the rule applied at the site, counted in the report; refused where the report excludes the rule."""
    if rule in report.excluded:
        return Refusal("the rule is excluded")
    counts = report.of_rule(rule)
    started = time.perf_counter()
    result = apply_at(RULES_BY_NAME[rule], root, path, site)
    counts.seconds += time.perf_counter() - started
    counts.tried += 1
    if isinstance(result, Refusal):
        counts.refused[result.reason] += 1
    else:
        counts.applied += 1
    return result


def moved(state: State, rule: str, site: Site, report: SearchReport) -> State | Refusal:
    """The state after a rule on its core, back in two levels."""
    path = state.path
    result = applied(report, rule, state.root, path, site)
    if isinstance(result, Refusal):
        return result
    chain = (*state.chain, (rule, path, site))
    if path:
        middle = result.body.source if isinstance(result.body, Access) else None
        if isinstance(middle, Scope) and isinstance(middle.body, Access) and isinstance(middle.body.source, Scope):
            result = applied(report, MERGE_RULE, result, (), MERGE)
            if isinstance(result, Refusal):
                return result
            chain = (*chain, (MERGE_RULE, (), MERGE))
    return State(result, chain, state.moves)


def normalised(state: State, report: SearchReport) -> State:
    """Ranges tightened to their supports and iterators of one element dropped, as far as that can be merged."""
    for rule in ("tighten", "drop_units"):
        if rule == "drop_units" and all(
            iterator.extent != 1 for iterator in (*state.core.traversal, *state.core.reduction)
        ):
            continue
        if rule == "tighten" and all(access.stays_inside for access in accesses(state.core.body)):
            continue
        following = moved(state, rule, Site(), report)
        state = state if isinstance(following, Refusal) else following
    return state


def compacted(state: State, report: SearchReport) -> State:
    """The outer sums over windows made as short as they can be."""
    rule = RULES_BY_NAME["compact_window"]
    for _ in range(len(state.root.reduction) + 1):
        for site in rule.sites(state.root):
            result = applied(report, rule.name, state.root, (), site)
            if not isinstance(result, Refusal):
                state = State(result, (*state.chain, (rule.name, (), site)), state.moves)
                break
        else:
            break
    return state


def varies(core: Scope) -> bool:
    """Whether every iterator of the core stands in one of its accesses."""
    present = frozenset().union(*(used(access) for access in accesses(core.body)))
    return all(iterator in present for iterator in (*core.traversal, *core.reduction) if iterator.extent != 1)
