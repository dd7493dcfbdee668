"""Candidates found once for all statements that are equal up to the names of tensors."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from passes.derive.candidate import Candidate, SearchLimits, SearchReport
from passes.derive.matching import LibraryMatch
from passes.derive.rules import RULES_BY_NAME
from passes.derive.search import derive
from tensoropt.ir.canonical import canonical_kernel_key, canonical_key
from tensoropt.ir.expression import Scope, Tensor, replace_sources, scopes
from tensoropt.ir.program import Compute


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
