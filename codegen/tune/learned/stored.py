"""What the tuning database keeps for learning: the features beside each measurement, read back as samples.

An entry has ``"features": {"format": 1, "values": […]}``, a number for each of ``features.NAMES``, null where it has none. So what
was measured elsewhere, for other programs and by other versions, can be learned from without its kernels. ``examples.cost_model``
stores the ``origin`` of a kernel, and the seconds of a measurement ``again``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from codegen.tune.learned.features import FORMAT, NAMES, Rows
from codegen.tune.learned.samples import Sample
from codegen.tune.rows import Row
from codegen.tune.space import DEFAULT
from codegen.tune.tuned import seconds_of

MOST = 20_000
"""Measurements that are learned from, the latest ones."""


def noted(row: Rows) -> dict[str, Any]:
    """What an entry keeps of a variant's features, to four digits."""
    values = [None if np.isnan(value) else float(f"{value:.4g}") for value in row]
    return {"features": {"format": FORMAT, "values": values}}


def samples_of(rows: Iterable[Row]) -> list[Sample]:
    """The kernels of a database, each on its target; only of what is known with its features, beside the default and with it."""
    found: dict[str, list[tuple[Rows, float, float, str, float]]] = {}
    complete: set[str] = set()
    for row in rows:
        values, seconds = _values(row.entry), seconds_of(row.entry)
        beside = seconds_of(row.entry, "default_seconds")
        if values is not None and seconds and beside:
            again = seconds_of(row.entry, "again") or np.nan
            known = found.setdefault(row.key.place, [])
            known.append((values, seconds / beside, again / beside, str(row.entry.get("origin", "")), beside))
            if row.variant == DEFAULT.key:
                known.insert(0, known.pop())
                complete.add(row.key.place)
    return [_sample(place, known) for place, known in found.items() if len(known) > 1 and place in complete]


def _sample(place: str, known: list[tuple[Rows, float, float, str, float]]) -> Sample:
    rows, seconds, again, origins, shares = zip(*known, strict=True)
    second = np.array(again)
    return Sample(
        place, np.stack(rows), np.array(seconds), None if np.isnan(second).any() else second, origins[0], shares[0]
    )


def _values(entry: Mapping[str, Any]) -> Rows | None:
    """The features of an entry; None where it has none, or others."""
    match entry.get("features"):
        case {"format": int(format), "values": list(values)} if format == FORMAT and len(values) == len(NAMES):
            try:
                return np.array([np.nan if value is None else value for value in values], np.float32)
            except (ValueError, TypeError):
                return None
        case _:
            return None
