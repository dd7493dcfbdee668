"""What tuning found out: the variants of a kernel with their times, and which of them is the best."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codegen.tune.kernels import ProgramKernel
from codegen.tune.space import DEFAULT, Variant

MARGIN = 0.02
"""The share by which a variant must beat the default: timings beside one another differ by as much without a reason."""


@dataclass(slots=True)
class TunedKernel:
    """A kernel, and what is known of its variants: an entry for each, by the variant's key."""

    kernel: ProgramKernel
    variants: list[Variant]
    entries: dict[str, dict[str, Any]]

    @property
    def missing(self) -> list[Variant]:
        """The variants that nothing is known of."""
        return [variant for variant in self.variants if variant.key not in self.entries]

    @property
    def best(self) -> str:
        """The key of the fastest variant; the default's where none beats it by the margin."""
        return min(self.entries, key=self._rank, default=DEFAULT.key) if self.default_seconds else self._any()

    @property
    def default_seconds(self) -> float | None:
        """The default's time; None where it was not measured, or failed."""
        return seconds_of(self.entries.get(DEFAULT.key))

    @property
    def best_seconds(self) -> float | None:
        """The best variant's time, on the scale of the default's."""
        return self.seconds(self.best)

    def seconds(self, key: str) -> float | None:
        """A variant's time, on the scale of the default's where that is known; None where it was not measured, or failed."""
        known = seconds_of(self.entries.get(key))
        return self.default_seconds * self._ratio(key) if known and self.default_seconds else known

    def _ratio(self, key: str) -> float:
        """How long a variant takes as a share of the default, which was timed beside it."""
        if key == DEFAULT.key:
            return 1.0
        seconds, beside = seconds_of(self.entries[key]), seconds_of(self.entries[key], "default_seconds")
        return seconds / beside if seconds and beside else float("inf")

    def _rank(self, key: str) -> float:
        return self._ratio(key) + (0.0 if key == DEFAULT.key else MARGIN)

    def _any(self) -> str:
        """The fastest variant where the default does not work."""
        seconds = {key: found for key, entry in self.entries.items() if (found := seconds_of(entry))}
        return min(seconds, key=seconds.__getitem__, default=DEFAULT.key)

    def as_json(self, total: float) -> dict[str, Any]:
        """What is told of the kernel; ``total`` is the seconds of all kernels, for its share."""
        default, best = self.default_seconds, self.best_seconds
        uses = self.kernel.uses
        failures = {key: str(entry["failed"]) for key, entry in self.entries.items() if "failed" in entry}
        return {
            "kernel": uses[0].output.name,
            "origin": list(uses[0].origin),
            "outputs": [statement.output.name for statement in uses],
            "share": (default or self.kernel.estimate) * len(uses) / total if total else 0.0,
            "default_ms": None if default is None else default * 1e3,
            "tuned_ms": None if best is None else best * 1e3,
            "variant": json.loads(self.best),
            "schedule": str(self.entries.get(self.best, {}).get("schedule", "")),
            "measured": sum(seconds_of(entry) is not None for entry in self.entries.values()),
            "failed": failures,
        }


@dataclass(slots=True)
class Tuning:
    """What tuning found. ``stopped`` says what ended it early: "time", "interrupt", "devices" (none was left), or nothing."""

    kernels: list[TunedKernel] = field(default_factory=list)
    variants: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Schedule parameters by the name of a statement's output, for ``compile_program``."""
    stopped: str = ""
    seconds: float = 0.0
    given_up: list[str] = field(default_factory=list)
    """Kernels that are not measured, since each device was lost that tried."""
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` tells of it; times in milliseconds, of all kernels together."""
        total = sum((tuned.default_seconds or tuned.kernel.estimate) * len(tuned.kernel.uses) for tuned in self.kernels)
        known = [(tuned, tuned.default_seconds, tuned.best_seconds) for tuned in self.kernels]
        known = [entry for entry in known if entry[1] is not None and entry[2] is not None]
        return {
            "kernels": [tuned.as_json(total) for tuned in self.kernels],
            "before_ms": sum((default or 0.0) * len(tuned.kernel.uses) for tuned, default, _ in known) * 1e3,
            "after_ms": sum((best or 0.0) * len(tuned.kernel.uses) for tuned, _, best in known) * 1e3,
            "stopped": self.stopped,
            "seconds": self.seconds,
        }


def seconds_of(entry: Mapping[str, Any] | None, name: str = "seconds") -> float | None:
    """A time of an entry; None where it has none, or none that can be."""
    value = entry.get(name) if entry else None
    return value if isinstance(value, float) and 0 < value < float("inf") else None
