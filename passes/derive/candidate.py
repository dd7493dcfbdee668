"""What a search is given and what it gives: limits, checked candidates, and counts of what was tried."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from passes.derive.certificate import Certificate
from passes.derive.matching import LibraryMatch
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


@dataclass(slots=True)
class SearchReport:
    """What a search did: states visited, goals, counts by rule, drafts whose check failed, and how near it came.

    ``truncated`` says what ended the search before its space was exhausted ("states", "time"), else None. ``nearest`` tells of
    the state that came nearest to an operator without being one, and what it lacks.
    """

    visited: int = 0
    goals: int = 0
    rules: dict[str, RuleCounts] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    truncated: str | None = None
    nearest: str = ""
    first_goal_seconds: float | None = None
    seconds: float = 0.0

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
            "truncated": self.truncated,
            "nearest": self.nearest,
            "first_goal_seconds": self.first_goal_seconds,
            "seconds": self.seconds,
        }
