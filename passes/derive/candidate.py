"""What a search is given and what it gives: limits, checked candidates, and counts of what was tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from passes.derive.certify.certificate import Certificate
from passes.derive.operators.matching import LibraryMatch
from tensoropt.ir.expression import tensors
from tensoropt.ir.printer import format_type
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import Derivation


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
        """A short name for reports: the library operators, or the rules where there is none."""
        return label_of(self.matched, [step.rule for step in self.derivation.steps])

    def as_json(self) -> dict[str, Any]:
        """What ``optimize --json`` and ``trace.json`` say of a candidate."""
        return {
            "pattern": self.label,
            **proof_as_json(self.derivation, self.certificate),
            "estimated_seconds": self.estimated_seconds,
        }


def label_of(matched: Iterable[LibraryMatch], rules: Iterable[str]) -> str:
    """What a derivation leads to: library operators, or else kernels that are generated for what its rules made."""
    return " + ".join(map(str, matched)) or f"generated kernels({', '.join(dict.fromkeys(rules))})"


def proof_as_json(derivation: Derivation, certificate: Certificate | None) -> dict[str, Any]:
    """A chain, as text and as data that can be replayed, and what checked it; None where the check refused it."""
    return {
        "chain": [str(step) for step in derivation.steps],
        "derivation": derivation.as_json(),
        "reads": {tensor.name: format_type(tensor.type) for tensor in tensors(derivation.start)},
        "domain": certificate.domain.value if certificate is not None else None,
        "certificate": certificate.as_json() if certificate is not None else None,
    }


@dataclass(slots=True)
class RuleCounts:
    """How often a rule was tried at a site, how often it applied, why it refused, and the seconds that it took."""

    tried: int = 0
    applied: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "tried": self.tried,
            "applied": self.applied,
            "refused": dict(self.refused.most_common()),
            "seconds": self.seconds,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RuleCounts:
        """The counts that ``as_json`` wrote."""
        return RuleCounts(data["tried"], data["applied"], Counter(data["refused"]), data["seconds"])


@dataclass(frozen=True, slots=True)
class PassedOver:
    """What the search found and did not make a candidate of: the operators, the steps, the estimate and why."""

    pattern: str
    chain: tuple[str, ...]
    estimated_seconds: float
    why: str

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "pattern": self.pattern,
            "chain": list(self.chain),
            "estimated_seconds": self.estimated_seconds,
            "why": self.why,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> PassedOver:
        """What ``as_json`` wrote."""
        return PassedOver(data["pattern"], tuple(data["chain"]), data["estimated_seconds"], data["why"])


@dataclass(slots=True)
class SearchReport:
    """What a search did: states visited, goals, counts by rule, drafts whose check failed or that were passed over, and how
    near it came.

    ``truncated`` says what ended the search before its space was exhausted ("states", "time"), else None. ``nearest`` tells of
    the state that came nearest to an operator without being one, and what it lacks. ``failure`` says what ended a search that
    gave no result: its process died, or memory did not suffice.
    """

    visited: int = 0
    goals: int = 0
    rules: dict[str, RuleCounts] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    truncated: str | None = None
    nearest: str = ""
    first_goal_seconds: float | None = None
    seconds: float = 0.0
    failure: str | None = None
    excluded: frozenset[str] = frozenset()
    """Rules that the search was not to use; they are not counted."""

    def of_rule(self, name: str) -> RuleCounts:
        """The counts of a rule, made where there are none."""
        return self.rules.setdefault(name, RuleCounts())

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "visited": self.visited,
            "goals": self.goals,
            "rules": {name: counts.as_json() for name, counts in sorted(self.rules.items())},
            "rejected": list(self.rejected),
            "passed_over": [draft.as_json() for draft in self.passed_over],
            "truncated": self.truncated,
            "nearest": self.nearest,
            "first_goal_seconds": self.first_goal_seconds,
            "seconds": self.seconds,
            "failure": self.failure,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SearchReport:
        """The report that ``as_json`` wrote."""
        return SearchReport(
            visited=data["visited"],
            goals=data["goals"],
            rules={name: RuleCounts.from_json(counts) for name, counts in data["rules"].items()},
            rejected=list(data["rejected"]),
            passed_over=[PassedOver.from_json(draft) for draft in data["passed_over"]],
            truncated=data["truncated"],
            nearest=data["nearest"],
            first_goal_seconds=data["first_goal_seconds"],
            seconds=data["seconds"],
            failure=data["failure"],
        )
