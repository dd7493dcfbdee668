"""Check and time every example model on this machine's GPU: `python -m examples.gpu.check [NAME ...] [--json FILE]`.

Each model is optimized for the GPU, which runs every kernel there and compares it with ONNX Runtime on the CPU; its folder is
loaded and compared again, and where torch is installed also with PyTorch in f64; then ours, torch and torch.compile take turns on
the same inputs, which lie on the GPU, as outputs do. f32 and f16 at batch 1, six of the models at batch 16 too, in under ten
minutes: models are compiled side by side (torch.compile's code is made there and kept in its cache), then timed one after another,
and what there was no time for is a row that says so.

There was no GPU where this was written. It has run with `--target opencl` only, on a processor, where torch runs on the processor
too; no figure of a GPU comes from it yet.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from codegen.cuda.driver import NoDevice, open_driver
from codegen.targets.gpu import GpuTarget
from codegen.targets.here import why_not_here
from codegen.targets.parsing import parse_target
from examples.benchmark import BATCHED
from examples.comparison import limited
from examples.gpu.machine import gpu
from examples.gpu.measuring import Case, measure, prepare
from examples.models import BUILDERS, MODELS
from examples.runs import Row, command_of, recorded
from examples.tables import Rows, line
from tensoropt.errors import UsageError

COMPILING = 0.55
"""The share of the time after which nothing more is compiled."""

TITLES = (
    *("model", "tensoropt ms", "torch ms", "ratio", "torch.compile ms", "ratio", "control"),
    *("difference", "error", "ONNX Runtime's", "optimized in s"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and time, print the table, and return 1 if a model failed, 2 where there is no GPU to run them on."""
    options = _parsed(arguments)
    try:
        described = require_here(options.target)
    except UsageError as error:
        print(f"examples.gpu.check: {error}", file=sys.stderr)
        return 2
    ends = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(prefix="tensoropt-gpu-check-") as scratch:
        cases = [
            Case(name, batch, dtype, options.target, Path(scratch) / f"{name}-{dtype}-{batch}")
            for name, batch, dtype in chosen(options.names, options.batches, options.types)
        ]
        prepared = side_by_side(cases, options.workers, options.limit, ends - (1 - COMPILING) * options.seconds)
        rows = recorded(
            {case.label: (case, prepared[case.label]) for case in cases},
            measure,
            _brief,
            options.json,
            None,
            command_of("examples.gpu.check", arguments),
            limit=lambda: min(options.limit, ends - time.monotonic()),
            machine=described,
        )
    print(table(rows), flush=True)
    return int(any("failed" in row for row in rows.values()))


def require_here(target: str) -> dict[str, str | int]:
    """What the rows are told to come from. UsageError, in one sentence, where the target's code does not run on this machine."""
    if target == "cuda":
        try:
            open_driver()
        except NoDevice as error:
            raise UsageError(
                f"this is for a machine with a GPU, and {error}; --target opencl tries it out without one"
            ) from error
    found = parse_target(target)
    if not isinstance(found, GpuTarget):
        raise UsageError(f"--target {target} is no GPU; `python -m examples.benchmark` is for CPUs")
    absent = why_not_here([found])[found.name]
    if absent:
        raise UsageError(f"--target {target} does not run here: {absent}")
    return {"target": found.name, **(gpu() if found.kind == "cuda" else {})}


def chosen(names: Sequence[str], batches: Sequence[int], types: Sequence[str]) -> list[tuple[str, int, str]]:
    """Model, batch and type of each row, the most wanted first. Where no names are given, larger batches are for six models."""
    found = []
    for batch in batches:
        models = list(names) or [name for name in MODELS if batch == 1 or name in BATCHED]
        found += [(name, batch, dtype) for dtype in types for name in models]
    return found


def side_by_side(cases: Sequence[Case], workers: int, limit: float, ends: float) -> dict[str, Row]:
    """All cases prepared, in order, so many at a time; what is not done by ``ends`` (of `time.monotonic`) is a failure."""

    def one(case: Case) -> Row:
        found = limited(min(limit, ends - time.monotonic()), prepare, case)
        said = f"not compiled: {found}" if isinstance(found, str) else f"compiled in {found['optimize_seconds']:.1f} s"
        print(f"{case.label}: {said}", file=sys.stderr, flush=True)
        return {"failed": said} if isinstance(found, str) else found

    with ThreadPoolExecutor(workers) as pool:
        return dict(zip((case.label for case in cases), pool.map(one, cases), strict=True))


def table(rows: Rows) -> str:
    """As Markdown. *Ratio* is ours through theirs, below 1 is faster; *control* ours through ours.

    *Difference* is the largest one to ONNX Runtime, as a share of the largest value; *error* and *ONNX Runtime's* are those of both
    to f64.
    """
    lines = [line(TITLES), line(["---", *["---:"] * (len(TITLES) - 1)])]
    for label, row in rows.items():
        if "failed" in row:
            lines.append(line([label, f"failed: {row['failed']}", *[""] * (len(TITLES) - 2)]))
            continue
        times: Mapping[str, float] = row["milliseconds"]
        ours = times["tensoropt"]
        cells = [label, f"{ours:.3f}"]
        for peer in ("torch", "torch.compile"):
            cells += [f"{times[peer]:.3f}", f"{ours / times[peer]:.2f}"] if peer in times else ["", ""]
        cells += [f"{ours / times['control']:.2f}", f"{row['difference']:.1e}"]
        cells += [f"{row[key]:.1e}" if key in row else "" for key in ("error", "onnxruntime_error")]
        lines.append(line([*cells, f"{row['optimize_seconds']:.0f}"]))
    notes = [
        f"- {label}: {peer} takes no part: {reason}"
        for label, row in rows.items()
        for peer, reason in row.get("refused", {}).items()
    ]
    copied = [label for label, row in rows.items() if row.get("copies")]
    if copied:
        notes.append(f"- Ours is timed with copies from the host and back: {'; '.join(copied)}.")
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _brief(row: Row) -> str:
    return ", ".join(f"{name} {milliseconds:.3f} ms" for name, milliseconds in row["milliseconds"].items())


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.gpu.check", description="Check and time the examples on this machine's GPU."
    )
    parser.add_argument(
        "names", nargs="*", choices=[*BUILDERS, []], metavar="NAME", help="models; the seventeen where none is given"
    )
    parser.add_argument("--target", default="cuda", help="cuda (the default), or opencl to try this script out")
    types = partial(listed, known=("f32", "f16"))
    parser.add_argument("--types", type=types, default=["f32", "f16"], metavar="LIST", help="default f32,f16")
    parser.add_argument("--batches", type=numbers, default=[1, 16], metavar="LIST", help="default 1,16")
    parser.add_argument(
        "--limit", type=float, default=90.0, metavar="SECONDS", help="of compiling and of timing a model (default 90)"
    )
    parser.add_argument("--seconds", type=float, default=570.0, metavar="SECONDS", help="of everything (default 570)")
    half = max(1, (os.cpu_count() or 1) // 2)
    parser.add_argument("--workers", type=int, default=half, metavar="N", help="models that are compiled at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows, with every block, to FILE")
    return parser.parse_args(arguments)


def listed(text: str, known: Sequence[str]) -> list[str]:
    """An option of names with commas between them. ArgumentTypeError for one that is not known."""
    found = text.split(",")
    if not set(found) <= set(known):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {', '.join(known)}")
    return found


def numbers(text: str) -> list[int]:
    """An option of positive numbers with commas between them. ArgumentTypeError for anything else."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive numbers")
    return found


if __name__ == "__main__":
    sys.exit(main())
