"""The results of `examples.benchmark` as Markdown tables, and the means that they come to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from examples.models import MODELS

Rows = Mapping[str, Mapping[str, Any]]
"""Results of `examples.comparison.compare` by label, or what failed as `{"failed": reason}`."""

OURS = "tensoropt"

DERIVED = ("infogan", "dcgan", "fsrcnn", "srcnn", "csrnet", "longformer_gathered")
"""Models that derivation is for."""


def latencies(rows: Rows, peers: Sequence[str]) -> str:
    """Milliseconds of ours and of each peer, with ours through the peer's as ratio: below 1 is faster."""
    titles = ["model", f"{OURS} ms", *(title for peer in peers for title in (f"{peer} ms", "ratio"))]
    titles += ["control", "cores", "difference", "compiled in s"]
    lines = [line(titles), line(["---", *["---:"] * (len(titles) - 1)])]
    for label, row in rows.items():
        if "failed" in row:
            lines.append(line([label, f"failed: {row['failed']}", *[""] * (len(titles) - 2)]))
            continue
        cells = [label, f"{row['engines'][OURS]['median_ms']:.3f}"]
        for peer in peers:
            theirs = row["engines"].get(peer)
            cells += ["skipped", ""] if theirs is None else [_milliseconds(theirs, row), f"{theirs['ratio']:.2f}"]
        differences = [row["engines"][peer]["max_rel_error"] for peer in (OURS, *peers) if peer in row["engines"]]
        cells += [f"{row['control']['ratio']:.2f}", f"{row['cores']:.1f}", f"{max(differences):.1e}"]
        lines.append(line([*cells, f"{row['optimize_seconds']:.0f}"]))
    return "\n".join(lines)


def memories(rows: Rows, peers: Sequence[str]) -> str:
    """MiB that loading and running a model takes at most, of each engine in a process of its own."""
    engines = [OURS, *peers]
    lines = [line(["model", *(f"{engine} MiB" for engine in engines)]), line(["---", *["---:"] * len(engines)])]
    for label, row in rows.items():
        if "failed" not in row:
            peaks = [row["engines"].get(engine, {}).get("peak_mib") for engine in engines]
            lines.append(line([label, *("" if peak is None else f"{peak:.0f}" for peak in peaks)]))
    return "\n".join(lines)


def skipped(rows: Rows) -> str:
    """A line for every peer that did not take a model."""
    lines = [
        f"- {label}: {peer} is skipped: {reason}"
        for label, row in rows.items()
        for peer, reason in row.get("skipped", {}).items()
    ]
    return "\n".join(lines)


def summary(rows: Rows, peers: Sequence[str]) -> str:
    """Geometric means of the speed-up over each peer and over the best peer of each model; other formulations do not count."""
    counted = {label: row for label, row in rows.items() if "failed" not in row and row["model"] in MODELS}
    groups = {
        "batch 1": {label: row for label, row in counted.items() if row["batch"] == 1},
        "larger batches": {label: row for label, row in counted.items() if row["batch"] != 1},
        "the models for derivation": {
            label: row for label, row in counted.items() if row["batch"] == 1 and row["model"] in DERIVED
        },
    }
    lines = []
    for title, chosen in [*((peer, [peer]) for peer in peers), ("the best peer of each model", list(peers))]:
        found = speed_ups(counted, chosen)
        if not found:
            continue
        parts = []
        for group, members in groups.items():
            values = [found[label] for label in members if label in found]
            if values:
                parts.append(f"{geometric_mean(values):.2f} over {group} ({len(values)})")
        least = min(found, key=lambda label: found[label])
        lines.append(
            f"- Speed-up over {title}, geometric mean: {', '.join(parts)}; smallest {found[least]:.2f} ({least})."
        )
    failed = [label for label, row in rows.items() if "failed" in row]
    if failed:
        lines.append(f"- Failed: {', '.join(failed)}.")
    return "\n".join(lines)


def speed_ups(rows: Rows, peers: Iterable[str]) -> dict[str, float]:
    """How many times faster ours is than the fastest of the peers, by label, where one of them took the model."""
    found = {}
    for label, row in rows.items():
        theirs = [row["engines"][peer]["median_ms"] for peer in peers if peer in row.get("engines", {})]
        if theirs:
            found[label] = min(theirs) / row["engines"][OURS]["median_ms"]
    return found


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers, at least one."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _milliseconds(theirs: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    other = "" if theirs["formulation"] == row["model"] else f" ({theirs['formulation']})"
    return f"{theirs['median_ms']:.3f}{other}"


def line(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"
