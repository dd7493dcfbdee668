"""Time tensoropt against other engines on the example models: `python -m examples.benchmark [NAME ...] [--json FILE]`.

Every model is built, optimized, saved, loaded as a user would load it, and called in alternating blocks with the peers on the same
inputs and the same number of threads, as `tensoropt bench` does. All seventeen models at batch 1, and six at batch 16. The control
is the same compiled model against itself, so it says how far the machine is to be believed: 1.00 ± 0.03 on a quiet one.

A process a model; with `--json` the file is written after each of them, and `--resume FILE` goes on where an interrupted run
stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.comparison import Settings, compare, isolated
from examples.models import BUILDERS, MODELS
from examples.records import rows_of, save
from examples.tables import latencies, memories, skipped, summary
from tensoropt.machine import describe

BATCHED = ("infogan", "dcgan", "fsrcnn", "resnet18", "light_squeezenet", "light_shufflenet")
"""Models that are timed at a larger batch too: a block of each stays below some seconds, and memory below a few GiB."""

BATCH = 16
PEERS = ("onnxruntime", "openvino", "torch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Time the models, print the tables, and return 1 if a model failed."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmark", description="Time tensoropt on the examples.")
    parser.add_argument(
        "names", nargs="*", choices=[*BUILDERS, []], metavar="NAME", help="models; the seventeen where none is given"
    )
    parser.add_argument("--batch", type=int, metavar="N", help=f"only this batch (default 1, and {BATCH} for six)")
    parser.add_argument("--against", default=",".join(PEERS), metavar="NAMES", help=f"default {','.join(PEERS)}")
    parser.add_argument("--tune", choices=("off", "fast", "full"), default="fast", help="default fast")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of each engine (default 2)")
    parser.add_argument("--blocks", type=int, default=7, metavar="N", help="timed blocks of each series (default 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every block's time to FILE")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep what FILE holds, failures apart, and go on")
    options = parser.parse_args(arguments)
    file: Path | None = options.resume or options.json
    settings = Settings(tuple(options.against.split(",")), options.threads, options.blocks, options.tune)
    rows = rows_of(options.resume)
    document: dict[str, Any] = {
        "machine": describe(),
        "command": " ".join(["python -m examples.benchmark", *(sys.argv[1:] if arguments is None else arguments)]),
        "rows": rows,
    }
    print("; ".join(f"{key} {value}" for key, value in document["machine"].items()))
    print(f"\n    {document['command']}\n", flush=True)
    planned = _planned(options.names, options.batch)
    for place, (label, (name, batch)) in enumerate(planned.items(), start=1):
        if label not in rows:
            found = isolated(compare, name, batch, settings)
            rows[label] = {"failed": found} if isinstance(found, str) else found
            save(file, document)
        print(f"{place} of {len(planned)}, {label}: {_brief(rows[label])}", file=sys.stderr, flush=True)
    chosen = {label: rows[label] for label in planned}
    tables = (latencies, memories, lambda rows, peers: skipped(rows), summary)
    print(*filter(None, (table(chosen, settings.against) for table in tables)), sep="\n\n", flush=True)
    return int(any("failed" in row for row in chosen.values()))


def _planned(names: Sequence[str], batch: int | None) -> dict[str, tuple[str, int]]:
    """The rows in order: label to model and batch."""
    chosen = list(names) or list(MODELS)
    if batch is not None:
        return {_label(name, batch): (name, batch) for name in chosen}
    batched = [name for name in BATCHED if name in chosen]
    pairs = [*((name, 1) for name in chosen), *((name, BATCH) for name in batched)]
    return {_label(*pair): pair for pair in pairs}


def _label(name: str, batch: int) -> str:
    return name if batch == 1 else f"{name}, batch {batch}"


def _brief(row: Mapping[str, Any]) -> str:
    if "failed" in row:
        return f"failed: {row['failed']}"
    ratios = ", ".join(f"{name} {one['ratio']:.2f}" for name, one in row["engines"].items() if name != "tensoropt")
    return f"ratio to {ratios}; control {row['control']['ratio']:.2f}, cores {row['cores']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
