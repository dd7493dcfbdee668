"""Time single kernels against other engines: `python -m examples.kernels [WORD ...] [--json FILE]`.

Each kernel is a small ONNX model that is compared as `tensoropt bench` does. What it would take at least is measured beside it in
the same process (`examples.peaks`): its multiply-adds at the peak of registers, or its bytes read and written at the speed at
which the machine moves that many. *Share* is the larger of the two through the time of ours; the rate is of that kind too.

A process a kernel; `WORD` chooses those whose label has it. `--json` and `--resume` are as in `examples.benchmark`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensoropt
from examples.comparison import Settings
from examples.kernel_cases import CASES, Case
from examples.peaks import moving_seconds, multiply_add_peak
from examples.runs import command_of, measure_rows, parser_of, settings_of
from examples.tables import OURS, Rows, geometric_mean, line, skipped, speed_ups


def measure(label: str, settings: Settings) -> dict[str, Any]:
    """What `tensoropt.bench` gives for a kernel, with the figures of the case and the machine's peaks."""
    case = CASES[label]
    before = _machine(case, settings.threads)
    with tempfile.TemporaryDirectory(prefix="tensoropt-kernels-") as folder:
        model = Path(folder) / "kernel.onnx"
        model.write_bytes(case.build().SerializeToString())
        others = []
        for name, build in (case.peers or {}).items():
            others.append(Path(folder) / f"{name}.onnx")
            others[-1].write_bytes(build().SerializeToString())
        found = tensoropt.bench(
            model,
            against=settings.against,
            threads=settings.threads,
            tune=settings.tune,
            blocks=settings.blocks,
            check=not others,  # where peers have a formulation of their own, the model's does not fit in memory
            peer_models=others,
        )
    after = _machine(case, settings.threads)
    peak, moving = max(before[0], after[0]), min(before[1], after[1])  # a busy moment must not pass for the machine
    computing = case.operations / peak
    return {
        **found,
        "model": label,
        "operations": case.operations,
        "bytes": case.reads + case.writes,
        "peak_gflops": peak / 1e9,
        "moving_gb_per_second": (case.reads + case.writes) / moving / 1e9,
        "bound": "arithmetic" if computing >= moving else "memory",
        "least_ms": 1e3 * max(computing, moving),
    }


def _machine(case: Case, threads: int) -> tuple[float, float]:
    """Operations a second at the peak, and the seconds in which the bytes of the case move."""
    return multiply_add_peak(threads), moving_seconds(case.reads, case.writes, threads)


def table(rows: Rows, peers: Sequence[str]) -> str:
    """The kernels as a Markdown table. Ratio is ours through the best peer's: below 1 is faster."""
    titles = ["kernel", "tensoropt ms", "rate", "share of peak", *(f"{peer} ms" for peer in peers)]
    titles += ["ratio to the best", "control", "cores", "difference"]
    lines = [line(titles), line(["---", *["---:"] * (len(titles) - 1)])]
    best = {label: 1 / gain for label, gain in speed_ups(rows, peers).items()}
    for label, row in rows.items():
        if "failed" in row:
            lines.append(line([label, f"failed: {row['failed']}", *[""] * (len(titles) - 2)]))
            continue
        ours = row["engines"][OURS]
        cells = [label, f"{ours['median_ms']:.3f}", _rate(row), f"{row['least_ms'] / ours['median_ms']:.0%}"]
        for peer in peers:
            theirs = row["engines"].get(peer)
            cells.append("skipped" if theirs is None else f"{theirs['median_ms']:.3f}")
        differences = [one["max_rel_error"] for one in row["engines"].values()]
        cells += [f"{best[label]:.2f}" if label in best else ""]
        cells += [f"{row['control']['ratio']:.2f}", f"{row['cores']:.1f}", f"{max(differences):.1e}"]
        lines.append(line(cells))
    return "\n".join(lines)


def summary(rows: Rows, peers: Sequence[str]) -> str:
    """The machine's peaks, the mean of the speed-ups, and what was skipped."""
    good = {label: row for label, row in rows.items() if "failed" not in row}
    lines = []
    if good:
        peaks = [row["peak_gflops"] for row in good.values()]
        moved = [row["moving_gb_per_second"] for row in good.values() if row["bound"] == "memory"]
        memory = f", bytes of kernels bound by memory at {min(moved):.0f} to {max(moved):.0f} GB/s" if moved else ""
        lines.append(
            f"- Peak of multiply-adds, beside each kernel: {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s{memory}."
        )
    gains = speed_ups(good, peers)
    if gains:
        mean = geometric_mean(list(gains.values()))
        lines.append(f"- Speed-up over the best peer of each kernel, geometric mean: {mean:.2f} over {len(gains)}.")
    return "\n".join(filter(None, [*lines, skipped(good)]))


def _rate(row: Mapping[str, Any]) -> str:
    milliseconds = row["engines"][OURS]["median_ms"]
    if row["bound"] == "arithmetic":
        return f"{row['operations'] / milliseconds / 1e6:.0f} GFLOP/s"
    return f"{row['bytes'] / milliseconds / 1e6:.0f} GB/s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Time the kernels, print the table, and return 1 if one failed."""
    parser = parser_of("examples.kernels", "Time single kernels.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="kernels whose label has one of these; all by default")
    options = parser.parse_args(arguments)
    labels = [label for label in CASES if not options.words or any(word in label for word in options.words)]
    if not labels:
        parser.error(f"no kernel has {' or '.join(options.words)} in its label; there are {'; '.join(CASES)}")
    planned = {label: (label,) for label in labels}
    rows = measure_rows(planned, measure, _brief, options, command_of("examples.kernels", arguments))
    peers = settings_of(options).against
    print(table(rows, peers), summary(rows, peers), sep="\n\n", flush=True)
    return int(any("failed" in row for row in rows.values()))


def _brief(row: Mapping[str, Any]) -> str:
    return (
        f"{row['engines'][OURS]['median_ms']:.3f} ms, control {row['control']['ratio']:.2f}, cores {row['cores']:.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
