"""Time tensoropt against ONNX Runtime on the example models: `python -m examples.benchmark [NAME ...] [--json FILE]`.

Every model is built, optimized with `tune="off"` (nothing of it is timed but the result), saved, loaded as a user would
load it, and called in alternating blocks with ONNX Runtime on the same input and the same number of threads. The
control is the same compiled model against itself, so it says how far the machine is to be believed: 1.00 ± 0.03 on a
quiet one. InfoGAN and DCGAN are also timed against themselves compiled without rewriting.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from examples.comparison import Comparison, against_onnxruntime, against_unoptimized
from examples.models import BUILDERS, MODELS

Result = TypeVar("Result")

REWRITTEN = ("infogan", "dcgan")
"""Models whose gain by rewriting is measured."""


def isolated(compare: Callable[[str, int, int], Result], name: str, threads: int, blocks: int) -> Result | str:
    """Run a comparison in a process of its own, and return what it gives or what went wrong.

    A process each, so that no model is timed beside the threads or in the fragmented memory of the one before.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(compare, name, threads, blocks).result()
        except BrokenProcessPool:
            return "the process died"
        except Exception as error:
            return f"{type(error).__name__}: {error}".splitlines()[0]


def table(rows: dict[str, Comparison | str], theirs: str) -> str:
    """The comparisons as a Markdown table."""
    lines = [
        f"| model | tensoropt ms | {theirs} ms | ratio | control | cores | difference | compiled in s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in rows.items():
        if isinstance(row, str):
            lines.append(f"| {name} | failed: {row} | | | | | | |")
            continue
        note = f" ({row.reference})" if row.reference in BUILDERS else ""
        lines.append(
            f"| {name} | {row.ours.median:.3f} | {row.theirs.median:.3f}{note} | {row.ratio:.2f} | {row.control:.2f} "
            f"| {row.cores:.1f} | {row.error:.1e} | {row.compile_seconds:.0f} |"
        )
    return "\n".join(lines)


def summary(rows: dict[str, Comparison | str]) -> str:
    """Median and maximum of the ratios over the models of `MODELS`; other formulations do not count."""
    ratios = {name: row.ratio for name, row in rows.items() if name in MODELS and isinstance(row, Comparison)}
    failed = [name for name, row in rows.items() if isinstance(row, str)]
    lines = []
    if ratios:
        worst = max(ratios, key=lambda name: ratios[name])
        lines.append(
            f"Over {len(ratios)} models: median ratio {statistics.median(ratios.values()):.2f}, "
            f"largest {ratios[worst]:.2f} ({worst})."
        )
    if failed:
        lines.append(f"Failed: {', '.join(failed)}.")
    return "\n".join(lines)


def machine() -> dict[str, str | int]:
    """The processor, its cores as this process may use them, and the versions that matter."""
    model = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "tvm": version("apache-tvm"),
        "onnxruntime": version("onnxruntime"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Time the models, print the tables, and return 1 if a model failed."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmark", description="Time tensoropt on the examples.")
    parser.add_argument(
        "names", nargs="*", choices=[*BUILDERS, []], metavar="NAME", help="models; all where none is given"
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of each engine (default 2)")
    parser.add_argument("--blocks", type=int, default=7, metavar="N", help="timed blocks of each series (default 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every block's time to FILE")
    options = parser.parse_args(arguments)
    names: list[str] = options.names or list(BUILDERS)

    described = machine()
    command = " ".join(["python -m examples.benchmark", *(sys.argv[1:] if arguments is None else arguments)])
    print("; ".join(f"{key} {value}" for key, value in described.items()))
    print(f"\n    {command}\n", flush=True)

    peers: dict[str, Comparison | str] = {}
    for name in names:
        peers[name] = isolated(against_onnxruntime, name, options.threads, options.blocks)
        print(f"{name}: {_brief(peers[name])}", file=sys.stderr, flush=True)
    print(table(peers, "ONNX Runtime"))
    print(f"\n{summary(peers)}\n", flush=True)

    rewritten = {
        name: isolated(against_unoptimized, name, options.threads, options.blocks)
        for name in REWRITTEN
        if name in names
    }
    if rewritten:
        print(f"{table(rewritten, 'without rewriting')}\n", flush=True)

    if options.json:
        document = {
            "machine": described,
            "command": command,
            "against_onnxruntime": {name: _as_json(row) for name, row in peers.items()},
            "against_unoptimized": {name: _as_json(row) for name, row in rewritten.items()},
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return int(any(isinstance(row, str) for row in (*peers.values(), *rewritten.values())))


def _brief(row: Comparison | str) -> str:
    return row if isinstance(row, str) else f"ratio {row.ratio:.2f}, control {row.control:.2f}, cores {row.cores:.1f}"


def _as_json(row: Comparison | str) -> dict[str, object]:
    if isinstance(row, str):
        return {"failed": row}
    return asdict(row) | {"ratio": row.ratio, "control": row.control}


if __name__ == "__main__":
    sys.exit(main())
