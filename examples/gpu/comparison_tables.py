"""The results of `examples.gpu.comparison` as Markdown tables, and the means that they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from examples.gpu.prepared import AS_WRITTEN, FREE, OWN, WITHOUT_LIBRARIES
from examples.tables import OURS, Rows, geometric_mean, line, skipped, speed_ups


def latencies(rows: Rows) -> str:
    """Milliseconds of ours, derived and as written, and of every peer; *ratio* is ours through the best peer's."""
    peers = peers_of(rows)
    free = [name for name in FREE if any(name in row.get("engines", {}) for row in rows.values())]
    titles = ["case", f"{OURS} ms", f"{AS_WRITTEN} ms", *(f"{name} ms" for name in (*free, *peers))]
    titles += ["best peer", "ratio", "control", "difference"]
    lines = _head(titles)
    gains = speed_ups(rows, peers)
    for label, row in rows.items():
        if "failed" in row:
            lines.append(_failed(label, row, titles))
            continue
        engines = row["engines"]
        cells = [label, *(_median(engines, name) for name in (OURS, AS_WRITTEN, *free, *peers))]
        theirs = [peer for peer in peers if peer in engines]
        cells += [min(theirs, key=lambda peer: engines[peer]["median_ms"])] if theirs else [""]
        cells += [f"{1 / gains[label]:.2f}" if label in gains else "", f"{row['control']['ratio']:.2f}"]
        lines.append(line([*cells, f"{engines[OURS]['difference']:.1e}"]))
    return "\n".join(lines)


def shares(rows: Rows) -> str:
    """Of operators and kernels: rates of ours, and how much of what was measured beside it ours and the best peer reach."""
    counted = {label: row for label, row in rows.items() if "least_ms" in row}
    if not counted:
        return ""
    peers = peers_of(counted)
    titles = ["kernel", f"{OURS} rate", "measured peak", "share", "best peer", "its share", "bound by"]
    lines = _head(titles)
    for label, row in counted.items():
        engines, least = row["engines"], row["least_ms"]
        cells = [label, _rate(row, engines[OURS]["median_ms"]), _rate(row, least)]
        cells.append(f"{least / engines[OURS]['median_ms']:.0%}")
        best = min((peer for peer in peers if peer in engines), key=lambda peer: engines[peer]["median_ms"], default="")
        cells += [best, f"{least / engines[best]['median_ms']:.0%}" if best else "", row["bound"]]
        lines.append(line(cells))
    return "\n".join(lines)


def summary(rows: Rows) -> str:
    """Geometric means of the speed-up over the best peer of each case, each peer, and ours as written, by group."""
    good = {label: row for label, row in rows.items() if "failed" not in row}
    peers = peers_of(good)
    groups: dict[str, dict[str, Any]] = {}
    for label, row in good.items():
        batch = f", batch {row['batch']}" if row["group"] == "models" else ""
        groups.setdefault(f"{row['group']}, {row['dtype']}{batch}", {})[label] = row
        groups.setdefault(row["group"], {})[label] = row
    lines = []
    for group, members in groups.items():
        told = []
        for title, chosen in [
            ("the best peer", peers),
            *((peer, [peer]) for peer in peers),
            ("as written", [AS_WRITTEN]),
            (WITHOUT_LIBRARIES, [WITHOUT_LIBRARIES]),
        ]:
            gains = speed_ups(members, chosen)
            if gains:
                told.append(f"{geometric_mean(list(gains.values())):.2f} over {title} ({len(gains)})")
        gains = speed_ups(members, peers)
        if gains:
            least = min(gains, key=lambda label: gains[label])
            told.append(f"smallest over the best peer {gains[least]:.2f} ({least})")
        lines.append(f"- {group}, geometric mean of speed-ups: {'; '.join(told)}.")
    copied = [label for label, row in good.items() if row["copies"]]
    if copied:
        lines.append(f"- Ours was timed with copies from the host and back: {'; '.join(copied)}.")
    failed = [label for label, row in rows.items() if "failed" in row]
    if failed:
        lines.append(f"- Failed: {'; '.join(failed)}.")
    return "\n".join(filter(None, [*lines, skipped(good)]))


def peers_of(rows: Rows) -> list[str]:
    """The peers that took part in a row, in the order in which they were met."""
    met = [engine for row in rows.values() for engine in row.get("engines", {})]
    return [engine for engine in dict.fromkeys(met) if engine not in OWN]


def _head(titles: Sequence[str]) -> list[str]:
    return [line(titles), line(["---", *["---:"] * (len(titles) - 1)])]


def _failed(label: str, row: Mapping[str, Any], titles: Sequence[str]) -> str:
    return line([label, f"failed: {row['failed']}", *[""] * (len(titles) - 2)])


def _median(engines: Mapping[str, Any], name: str) -> str:
    return f"{engines[name]['median_ms']:.4f}" if name in engines else ""


def _rate(row: Mapping[str, Any], milliseconds: float) -> str:
    if row["bound"] == "arithmetic":
        return f"{row['operations'] / milliseconds / 1e9:.1f} TFLOP/s"
    return f"{row['bytes'] / milliseconds / 1e6:.0f} GB/s"
