"""How near a search came: what the state nearest to an operator lacks, in one sentence."""

from __future__ import annotations

from passes.derive.candidate import SearchReport
from passes.derive.operators.product import factors_of, used
from passes.derive.proposals import mixed_components, proposals
from passes.derive.state import State, moved
from tensoropt.ir.expression import Access, Scope, accesses
from tensoropt.ir.index import Iterator
from tensoropt.ir.printer import format_scope
from tensoropt.rewrite.rule import Refusal


def what_is_missing(state: State, excluded: frozenset[str] = frozenset()) -> str:
    """Why the core of a state is no library operator, and why the moves that would lead on are refused."""
    core = state.core
    factors = factors_of(core)
    if factors is None:
        return f"the body is no sum of products: {format_scope(core)}"
    mixed = mixed_components(core)
    if not mixed:
        return _without_mixture(core, accesses(core.body))
    access, _, terms = max(mixed, key=lambda found: len(found[2]))
    names = [atom.name if isinstance(atom, Iterator) else f"a division by {atom.divisor}" for atom, _ in terms]
    coefficients = " and ".join(str(step) for _, step in terms)
    sentence = f"{' and '.join(names)} stand in one index of {_name(access)} with coefficients {coefficients}"
    refused: dict[str, str] = {}
    for move in proposals(core):
        current = state
        for rule, site in move:
            following = moved(current, rule, site, SearchReport(excluded=excluded))
            if isinstance(following, Refusal):
                refused.setdefault(rule, following.reason)
                break
            current = following
    if not refused:
        return sentence + ", and the moves that take them apart led to no operator"
    return sentence + "; " + ", ".join(f"{rule} is refused: {reason}" for rule, reason in refused.items())


def _without_mixture(core: Scope, reads: list[Access]) -> str:
    names = " and ".join(map(_name, reads))
    for iterator in core.reduction:
        holders = [access for access in reads if iterator in used(access)]
        if len(holders) == 1:
            return f"{iterator.name} is summed over, but of {names} only {_name(holders[0])} has it"
    return f"{names} stand as in an operator already, and no other form was found"


def _name(access: Access) -> str:
    return "a nested expression" if isinstance(access.source, Scope) else access.source.name
