"""What a search is given and what it gives: limits, checked candidates, and counts of what was tried."""

from __future__ import annotations

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
class SearchReport:
    """Counts of a search: states visited, goals, refusals by rule and reason, drafts whose check failed."""

    visited: int = 0
    goals: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
