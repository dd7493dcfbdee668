"""The search: from one contraction to the statements that library operators and generated kernels compute it with.

Best first by the distance to library operators, over moves that coefficients suggest, with an exact visited set. It does not
stop at the first goal: every state that matches gives candidates, they are ranked by estimated cost, and those that are kept
are checked exactly. Deterministic: work is limited in states, not in seconds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf, prod
from typing import Any

from passes.derive.candidates import Draft, drafts_of
from passes.derive.certificate import Certificate, Checker
from passes.derive.cost import estimated_seconds, least_seconds
from passes.derive.matching import LibraryMatch
from passes.derive.patterns import factor_accesses
from passes.derive.proposals import distance, proposals
from passes.derive.rules import RULES_BY_NAME
from passes.derive.state import State, moved, normalised, varies
from tensoropt.ir.canonical import canonical_kernel_key, canonical_key
from tensoropt.ir.expression import Scope, Tensor, replace_sources, scopes
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import Derivation, derive_along
from tensoropt.rewrite.rule import Refusal

_PLAUSIBLE = 1.6
"""How much dearer than the best estimate another kind of candidate may be and still be worth measuring early."""


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """How much work the search does: states visited, moves on one chain, candidates kept (each is checked).

    ``dearer``: a candidate whose estimate is more than this multiple of the original's or the best one's is not kept.
    """

    states: int = 150
    depth: int = 8
    candidates: int = 3
    dearer: float = 4.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """Statements that compute the same output, how they were derived and what proves it.

    ``statements`` are in order; the last assigns the original output, the others tensors named after it.
    """

    statements: tuple[Compute, ...]
    derivation: Derivation
    matched: tuple[LibraryMatch, ...]
    estimated_seconds: float
    certificate: Certificate

    @property
    def label(self) -> str:
        """A short name for reports."""
        return " + ".join(str(match) for match in self.matched)

    def as_json(self) -> dict[str, Any]:
        """What ``optimize --json`` and ``trace.json`` say of a candidate."""
        return {
            "pattern": self.label,
            "chain": [str(step) for step in self.derivation.steps],
            "derivation": self.derivation.as_json(),
            "estimated_seconds": self.estimated_seconds,
            "certificate": self.certificate.as_json(),
        }


@dataclass(slots=True)
class SearchReport:
    """Counts of a search: states visited, goals, refusals by rule and reason, drafts whose check failed."""

    visited: int = 0
    goals: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)


def derive(
    compute: Compute,
    program_constants: Collection[str] = (),
    limits: SearchLimits | None = None,
    excluded_rules: Collection[str] = (),
    report: SearchReport | None = None,
) -> list[Candidate]:
    """Checked candidates for a statement that is a sum of products of two tensors, cheapest estimate first; else none."""
    limits = limits or SearchLimits()
    report = report or SearchReport()
    factors = factor_accesses(compute.expression)
    if factors is None or any(isinstance(access.source, Scope) for access in factors) or not varies(compute.expression):
        return []
    if 0 in (*compute.output.shape, *(iterator.extent for iterator in compute.expression.reduction)):
        return []
    drafts: dict[str, tuple[tuple[float, int], int, Draft]] = {}  # for each operator the cheapest, then shortest
    least = inf
    original = estimated_seconds((compute,), program_constants)
    for state in _visited(compute.expression, limits, excluded_rules, report):
        if least_seconds(state.core) > limits.dearer / 2 * least:
            continue  # an operator does all multiplications of its core, so nothing cheap comes of this one
        for draft in drafts_of(state, compute.output, program_constants, excluded_rules):
            seconds = estimated_seconds(draft.statements, program_constants)
            least = min(least, seconds)
            key = str(draft.matched[0])
            rank = seconds, len(draft.chain)
            if key not in drafts or rank < drafts[key][0]:
                drafts[key] = rank, len(drafts), draft
    report.goals = len(drafts)
    checker = Checker()
    kept: list[Candidate] = []
    for (seconds, _), _, draft in _varied(sorted(drafts.values(), key=lambda entry: entry[:2])):
        if len(kept) == limits.candidates:
            break
        if seconds > limits.dearer * min(original, least):
            continue
        derivation = derive_along(compute.expression, list(draft.chain), RULES_BY_NAME)
        verdict = checker.check(derivation, compute, draft.statements)
        if isinstance(verdict, Refusal):
            report.rejected.append(verdict.reason)
        else:
            statements = tuple(Compute(made.output, made.expression, compute.origin) for made in draft.statements)
            kept.append(Candidate(statements, derivation, draft.matched, seconds, verdict))
    return kept


def _varied(ranked: list[Any]) -> list[Any]:
    """The drafts so that the best of each kind (operator and length of its sums) comes before the second best of any.

    Only kinds that are estimated within a factor of the best one count: the estimate is rough, so what is measured should differ.
    """
    seen: dict[Any, int] = {}
    keyed = []
    for place, entry in enumerate(ranked):
        (seconds, _), _, draft = entry
        match = draft.matched[0]
        kind = match.operator, prod(iterator.extent for iterator in match.expression.reduction)
        seen[kind] = seen.get(kind, -1) + 1
        far = seconds > _PLAUSIBLE * ranked[0][0][0]
        keyed.append(((far, seen[kind], place), entry))
    return [entry for _, entry in sorted(keyed, key=lambda pair: pair[0])]


def _visited(start: Scope, limits: SearchLimits, excluded: Collection[str], report: SearchReport) -> list[State]:
    """States in the order of the search, the start first."""
    first = normalised(State(start))
    best_depth = {first.key(): 0}
    queue: list[tuple[int, int, State]] = [(distance(first.core), 0, first)]
    order: list[State] = []
    count = 0
    while queue and len(order) < limits.states:
        _, _, state = heappop(queue)
        order.append(state)
        if state.moves == limits.depth:
            continue
        for move in proposals(state.core):
            following = _after(state, move, excluded, report)
            if following is None:
                continue
            key = following.key()
            if best_depth.get(key, limits.depth + 1) <= following.moves:
                continue
            best_depth[key] = following.moves
            count += 1
            heappush(queue, (distance(following.core) * 2 + following.moves, count, following))
    report.visited = len(order)
    return order


def _after(state: State, move: Any, excluded: Collection[str], report: SearchReport) -> State | None:
    current = state
    for rule, site in move:
        if rule in excluded:
            return None
        result = moved(current, rule, site)
        if isinstance(result, Refusal):
            name = f"{rule}: {result.reason}"
            report.refused[name] = report.refused.get(name, 0) + 1
            return None
        current = result
    return normalised(State(current.root, current.chain, state.moves + 1))


class DeriveCache:
    """Derives once for statements that are equal up to the names of tensors; lives as long as the process or shorter."""

    def __init__(self) -> None:
        self._found: dict[Any, tuple[Compute, tuple[Tensor, ...], list[Candidate]]] = {}
        self._reports: dict[Any, SearchReport] = {}

    def derive(
        self,
        compute: Compute,
        program_constants: Collection[str] = (),
        limits: SearchLimits | None = None,
        excluded_rules: Collection[str] = (),
    ) -> list[Candidate]:
        """As ``derive``."""
        limits = limits or SearchLimits()
        entry, order = self._entry(compute, program_constants, limits, excluded_rules)
        if entry not in self._found:
            report = self._reports[entry] = SearchReport()
            self._found[entry] = compute, order, derive(compute, program_constants, limits, excluded_rules, report)
        original, old, candidates = self._found[entry]
        if original.output is compute.output and old == order:
            return candidates
        return [_renamed(candidate, original, compute, dict(zip(old, order, strict=True))) for candidate in candidates]

    def report(
        self,
        compute: Compute,
        program_constants: Collection[str] = (),
        limits: SearchLimits | None = None,
        excluded_rules: Collection[str] = (),
    ) -> SearchReport | None:
        """What the search for such a statement tried, refused and rejected; None where it has not been derived here."""
        entry, _ = self._entry(compute, program_constants, limits or SearchLimits(), excluded_rules)
        return self._reports.get(entry)

    @staticmethod
    def _entry(
        compute: Compute, program_constants: Collection[str], limits: SearchLimits, excluded_rules: Collection[str]
    ) -> tuple[Any, tuple[Tensor, ...]]:
        key, order = canonical_kernel_key(compute.expression)
        known = tuple(tensor.name in program_constants for tensor in order)
        return (key, known, limits, frozenset(excluded_rules)), order


def _renamed(candidate: Candidate, old: Compute, new: Compute, tensors: dict[Tensor, Tensor]) -> Candidate:
    mapping: dict[Tensor | Scope, Tensor | Scope] = {old.output: new.output}
    mapping.update(tensors.items())
    for statement in candidate.statements[:-1]:
        name = new.output.name + statement.output.name.removeprefix(old.output.name)
        mapping[statement.output] = Tensor(name, statement.output.type)
    statements = []
    for statement in candidate.statements:
        output = mapping[statement.output]
        assert isinstance(output, Tensor)
        statements.append(Compute(output, replace_sources(statement.expression, mapping), new.origin))
    start = replace_sources(candidate.derivation.start, mapping)
    return Candidate(
        tuple(statements),
        candidate.derivation.replayed_on(start, RULES_BY_NAME),
        tuple(_renamed_match(match, mapping) for match in candidate.matched),
        candidate.estimated_seconds,
        candidate.certificate,
    )


def _renamed_match(match: LibraryMatch, mapping: dict[Tensor | Scope, Tensor | Scope]) -> LibraryMatch:
    expression = replace_sources(match.expression, mapping)
    kept = {canonical_key(replace_sources(scope, mapping)) for scope in match.relayouts}
    relayouts = tuple(scope for scope in scopes(expression) if canonical_key(scope) in kept)
    return LibraryMatch(match.operator, match.parameters, expression, relayouts)
