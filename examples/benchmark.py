"""Time tensoropt against other engines on the example models: `python -m examples.benchmark [NAME ...] [--json FILE]`.

Every model is built, optimized, saved, loaded as a user would load it, and called in alternating blocks with the peers on the same
inputs and the same number of threads, as `tensoropt bench` does. All seventeen models at batch 1, and six at batch 16. The control
is the same compiled model against itself, so it says how far the machine is to be believed: 1.00 ± 0.03 on a quiet one.

A process a model; with `--json` the file is written after each of them, and `--resume FILE` goes on where an interrupted run
stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from examples.comparison import compare
from examples.models import BUILDERS, MODELS
from examples.runs import command_of, measure_rows, parser_of, settings_of
from examples.tables import latencies, memories, skipped, summary

BATCHED = ("infogan", "dcgan", "fsrcnn", "resnet18", "light_squeezenet", "light_shufflenet")
"""Models that are timed at a larger batch too: a block of each stays below some seconds, and memory below a few GiB."""

BATCH = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Time the models, print the tables, and return 1 if a model failed."""
    parser = parser_of("examples.benchmark", "Time tensoropt on the examples.")
    parser.add_argument(
        "names", nargs="*", choices=[*BUILDERS, []], metavar="NAME", help="models; the seventeen where none is given"
    )
    parser.add_argument("--batch", type=int, metavar="N", help=f"only this batch (default 1, and {BATCH} for six)")
    options = parser.parse_args(arguments)
    planned = _planned(options.names, options.batch)
    rows = measure_rows(planned, compare, _brief, options, command_of("examples.benchmark", arguments))
    peers = settings_of(options).against
    printed = (latencies(rows, peers), memories(rows, peers), skipped(rows), summary(rows, peers))
    print(*filter(None, printed), sep="\n\n", flush=True)
    return int(any("failed" in row for row in rows.values()))


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
    ratios = ", ".join(f"{name} {one['ratio']:.2f}" for name, one in row["engines"].items() if name != "tensoropt")
    return f"ratio to {ratios}; control {row['control']['ratio']:.2f}, cores {row['cores']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
