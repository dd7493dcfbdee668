"""Rows as `examples.comparison.compare` makes them, with figures that are easily checked."""

from __future__ import annotations

from typing import Any


def row(model: str, ours: float, batch: int = 1, **peers: float) -> dict[str, Any]:
    """A row with these milliseconds of ours and of the peers."""
    engines = {
        name: {
            "median_ms": time,
            "ratio": ours / time,
            "peak_mib": 10 * time,
            "formulation": model,
            "max_rel_error": 1e-6 * time,
        }
        for name, time in {"tensoropt": ours, **peers}.items()
    }
    return {
        "model": model,
        "batch": batch,
        "engines": engines,
        "control": {"ratio": 1.01},
        "cores": 1.9,
        "optimize_seconds": 12.0,
        "skipped": {},
    }
