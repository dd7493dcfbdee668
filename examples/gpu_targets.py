"""Compile the example models for GPUs: `python -m examples.gpu_targets [NAME ...] [--target LIST] [--json FILE]`.

For CUDA no GPU is needed: nvcc compiles, and registers, spills, stack and shared memory are what its assembler says; the program
that was derived for the GPU is checked on the CPU. With `--target opencl` the kernels run on the machine's OpenCL device (PoCL
where there is no other), each of them on ONNX Runtime's inputs and all together, and are checked there.

A process a model, each with an empty cache, so seconds are those of a first time. With `--json` the file is written after each
model, and `--resume FILE` goes on where an interrupted run stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import tensoropt
from examples.models import BUILDERS, MODELS
from examples.runs import Row, command_of, recorded
from examples.tables import Rows, line

TARGETS = "cuda:h200,cuda:a100"

LIGHT = ("light_squeezenet", "infogan", "dcgan", "fsrcnn")
"""Models that compile and run on PoCL within a minute on two cores, checks included."""


def measured(name: str, target: str, batch: int, tune: str) -> Row:
    """What `optimize` makes of a model for a target, and what its kernels need."""
    with tempfile.TemporaryDirectory(prefix="tensoropt-gpu-targets-") as scratch:
        os.environ["TENSOROPT_CACHE_DIR"] = str(Path(scratch) / "cache")
        model = Path(scratch) / f"{name}.onnx"
        model.write_bytes(BUILDERS[name](batch).SerializeToString())
        started = time.monotonic()
        report = tensoropt.optimize(model, target, tune=tune if target.startswith("cuda") else "off").report()
        seconds = time.monotonic() - started
    return {
        "model": name,
        "target": target,
        "seconds": seconds,
        "stages": {stage: report["seconds"][stage] for stage in ("import", "optimize", "compile", "check")},
        "rewrites": len(report["rewrites"]),
        "check": report["check"],
        "milliseconds": report["latency_ms"]["after"],
        "arena_bytes": report["peak_bytes"]["arena"],
        **needs(report["kernels"]),
    }


def needs(kernels: Sequence[Mapping[str, Any]]) -> Row:
    """The most that a launch of these kernels needs, each with the launch that does; launches, and how many spill."""
    launches = [
        {**launch, "output": kernel["output"], "schedule": schedule}
        for kernel in kernels
        for launch, schedule in zip(kernel["launches"], _schedules(kernel), strict=True)
    ]
    found: Row = {"kernels": len({kernel["kernel"] for kernel in kernels}), "launches": len(launches)}
    known = [launch for launch in launches if "registers" in launch]
    if known:
        found["spilling"] = sum(_spilled(launch) > 0 for launch in known)
        found["most_spilled"] = max(known, key=_spilled)
        for key in ("registers", "stack_bytes", "shared_bytes"):
            found[f"most_{key}"] = max(known, key=itemgetter(key))
        found["least_occupancy"] = min(known, key=itemgetter("occupancy"))
    return found


def _schedules(kernel: Mapping[str, Any]) -> list[str]:
    """The schedule of each launch."""
    names = list(kernel["schedules"])
    return names if len(names) == len(kernel["launches"]) else names[:1] * len(kernel["launches"])


def _spilled(launch: Mapping[str, Any]) -> int:
    return int(launch["spilled_store_bytes"] + launch["spilled_load_bytes"])


def table(rows: Rows) -> str:
    """As Markdown.

    *Seconds* are those of `optimize`, checks and export with them; *derive* and *compile* (with nvcc) are two of its stages.
    Of registers, spills, stack, shared memory and occupancy each is the worst launch's. *Checked* is the largest difference to
    ONNX Runtime end to end, as a share of the largest value; *of bound* that of a statement to what rounding explains.
    """
    titles = [
        "model",
        "target",
        "seconds",
        "derive",
        "compile",
        "rewrites",
        "kernels",
        "launches",
        "registers",
        "spills B",
    ]
    titles += ["stack B", "shared B", "occupancy", "checked", "statements", "of bound", "ms"]
    lines = [line(titles), line(["---", "---", *["---:"] * (len(titles) - 2)])]
    for label, row in rows.items():
        if "failed" in row:
            lines.append(line([label, f"failed: {row['failed']}", *[""] * (len(titles) - 2)]))
            continue
        cells = [row["model"], row["target"], f"{row['seconds']:.1f}"]
        cells += [f"{row['stages'][stage]:.1f}" for stage in ("optimize", "compile")]
        cells += [str(row[key]) for key in ("rewrites", "kernels", "launches")]
        if "spilling" in row:
            cells += [str(row["most_registers"]["registers"]), str(_spilled(row["most_spilled"]))]
            cells += [str(row[f"most_{key}"][key]) for key in ("stack_bytes", "shared_bytes")]
            cells.append(f"{row['least_occupancy']['occupancy']:.2f}")
        else:
            cells += [""] * 5
        check = row["check"]
        cells += [f"{check['max_rel_error']:.1e}", str(check["statements_checked"])]
        cells += [f"{check['max_share_of_bound']:.0%}"]
        lines.append(line([*cells, "" if row["milliseconds"] is None else f"{row['milliseconds']:.1f}"]))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, print the table, and return 1 if a model failed."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.gpu_targets", description="Compile the examples for GPUs."
    )
    parser.add_argument(
        "names", nargs="*", choices=[*BUILDERS, []], metavar="NAME", help="models; the seventeen where none is given"
    )
    parser.add_argument(
        "--target", default=TARGETS, metavar="LIST", help=f"as `tensoropt optimize` takes them (default {TARGETS})"
    )
    parser.add_argument("--light", action="store_true", help=f"only {', '.join(LIGHT)}")
    parser.add_argument("--batch", type=int, default=1, metavar="N")
    parser.add_argument("--tune", choices=("off", "fast", "full"), default="fast", help="for CUDA (default fast)")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="end a model that takes longer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep what FILE holds, failures apart, and go on")
    options = parser.parse_args(arguments)
    names = list(options.names) or list(LIGHT if options.light else MODELS)
    planned = {
        f"{name}, {target}": (name, target, options.batch, options.tune)
        for target in options.target.split(",")
        for name in names
    }
    file = options.resume or options.json
    command = command_of("examples.gpu_targets", arguments)
    rows = recorded(planned, measured, _brief, file, options.resume, command, limit=lambda: options.limit)
    print(table(rows), flush=True)
    return int(any("failed" in row for row in rows.values()))


def _brief(row: Row) -> str:
    registers = f", {row['most_registers']['registers']} registers" if "spilling" in row else ""
    return f"{row['seconds']:.1f} s, {row['launches']} launches{registers}"


if __name__ == "__main__":
    sys.exit(main())
