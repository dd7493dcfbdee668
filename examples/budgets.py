"""Models within memory budgets: `python -m examples.budgets [--batch 1] [--shares 100,80,60] [--json FILE] [NAME ...]`.

A row is a model and a share of the peak of its arena in the order of the model, `optimize`d with `--tune off`; where no plan is
found within it, the smallest budget known to fit. A model with the output `loss` is compiled as a training step. Outputs are
compared bit for bit with those of the same slabs and kernels in the order of the model with nothing computed again, the time in
turns with the artefact without a budget in a process that has loaded both, and the resident memory of a process that has loaded it
and not yet run with the same after its runs, from outside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tensoropt
from codegen.targets.cpu import host_target
from examples.comparison import isolated
from examples.models import BUILDERS, TRAINED
from examples.runs import Row, command_of, rows_of, save
from examples.tables import Rows, line
from tensoropt.api.compiling import compiled
from tensoropt.check import random_feeds
from tensoropt.errors import NoPlanError
from tensoropt.machine import describe

NAMES = ("resnet18", "light_densenet121", "light_squeezenet", "csrnet")

RUNS = 3
"""Of the process whose memory is looked at: what a run leaves behind shows after more than one."""

_CHILD = f"""
import sys
import numpy as np
import tensoropt
model = tensoropt.load(sys.argv[1])
print("loaded", flush=True)
sys.stdin.readline()
# each read from its file to its place: an archive is read through buffers, which stay
feeds = {{name: np.load(f"{{sys.argv[2]}}/{{number}}.npy") for number, name in enumerate(sys.argv[3:])}}
for _ in range({RUNS}):
    outputs = model.run(feeds)
print("ran", flush=True)
sys.stdin.readline()
"""

_TIMES = """
import json, sys
import numpy as np
import tensoropt
from tensoropt.timing import alternate
models = {name: tensoropt.load(f"{sys.argv[1]}/{name}") for name in ("whole", "planned")}
feeds = {name: np.load(f"{sys.argv[1]}/{number}.npy") for number, name in enumerate(sys.argv[2:])}
runs = {name: (lambda model=model: model.run(feeds)) for name, model in models.items()}
print(json.dumps({name: timed.median for name, timed in alternate(runs, 7, budget=20.0).items()}))
"""


def measured(name: str, batch: int, share: int) -> Row:
    """What `optimize` makes of a model within a share of its peak in per cent, or within the smallest budget known to fit."""
    with tempfile.TemporaryDirectory(prefix="tensoropt-budgets-") as scratch:
        folder = Path(scratch)
        model = folder / f"{name}.onnx"
        model.write_bytes(BUILDERS[name](batch).SerializeToString())
        # a step of training is checked when it is compiled for one image, in less time; here its bits are compared with its own
        training = "loss" if name in TRAINED else None
        optimize = partial(tensoropt.optimize, model, tune="off", training=training, check=training is None)
        whole = optimize()
        row: Row = {"arena_bytes_whole": whole.peak_bytes["arena"]}
        try:
            planned = optimize(memory_budget=f"{share}%")
        except NoPlanError as error:
            row["refused"] = str(error)
            planned = optimize(memory_budget=error.smallest_bytes)
        planned.save(folder / "planned")
        whole.save(folder / "whole")
        feeds = {**random_feeds(planned.imported.program.inputs, 0), **planned.imported.values}
        # the same slabs and kernels in the order of the model, nothing computed again
        assert planned.unplanned is not None
        once, variants = planned.unplanned
        outputs, expected = planned.run(feeds), compiled(once, host_target(None), variants).model().run(feeds)
        keep(feeds, folder)
        milliseconds = times(folder, feeds)
        callers = sum(array.nbytes for array in (*feeds.values(), *outputs.values()))
        return row | {
            "arena_bytes": planned.peak_bytes["arena"],
            **{key: planned.memory[key] for key in ("budget_bytes", "peak_bytes_baseline", "status", "recomputed")},
            **{key: len(planned.memory[key]) for key in ("in_slabs", "leaner_kernels", "as_written")},
            "planning_seconds": planned.seconds["plan"],
            "predicted_percent": planned.memory["duration_increase_percent"],
            "measured_percent": 100 * (milliseconds["planned"] / milliseconds["whole"] - 1),
            "predicted_milliseconds": planned.memory["duration"] / 1e6,
            "milliseconds": milliseconds["planned"],
            "same_bits": all(np.array_equal(outputs[key], expected[key], equal_nan=True) for key in expected),
            "callers_bytes": callers,
            "growth_bytes": growth(folder / "planned", feeds, folder),
        }


def keep(feeds: Mapping[str, np.ndarray[Any, Any]], folder: Path) -> None:
    """Writes inputs to a folder, each to a file of its own, by its number."""
    for number, array in enumerate(feeds.values()):
        np.save(folder / f"{number}.npy", array)


def times(folder: Path, names: Iterable[str]) -> dict[str, float]:
    """Milliseconds of ``folder/whole`` and ``folder/planned`` in turns, on the inputs that are kept there, in their order.

    In a process that has only loaded them: where a model was compiled, checked and measured, runs of many kernels have been seen
    to take up to 1.8 times as long, now and then.
    """
    found = subprocess.run(
        [sys.executable, "-c", _TIMES, str(folder), *names], capture_output=True, text=True, check=True
    )
    return dict(json.loads(found.stdout))


def growth(artefact: Path, names: Iterable[str], inputs: Path) -> int:
    """By how many bytes the resident memory of a process, files apart, grows when it runs an artefact that it has loaded.

    It reads the inputs only then, which are kept in a folder, in the order of their names.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(artefact), str(inputs), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    found = []
    for said in ("loaded", "ran"):
        if child.stdout.readline().strip() != said:
            raise RuntimeError(f"the process that should have {said} the artefact ended")
        # without pages of files: weights are mapped, and come into memory when they are first read
        found.append(memory_of(child.pid, "RssAnon"))
        child.stdin.write("\n")
        child.stdin.flush()
    child.wait()
    return found[1] - found[0]


def memory_of(process: int, field: str) -> int:
    """A figure in bytes of a process's status."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(entry.split()[1]) << 10 for entry in status if entry.startswith(field))


def table(rows: Rows) -> str:
    """As Markdown. Growth is of the resident memory, beside what arena, inputs and outputs come to.

    The total that is predicted is the run without a budget, as measured beside it, longer by what the plan says.
    """
    titles = ["model and budget", "budget MiB", "share %", "arena MiB", "without a budget MiB", "status", "recomputed"]
    titles += ["longer % predicted", "measured", "total measured / predicted", "ms / sum of kernels", "same bits"]
    titles += ["growth / planned"]
    lines = [line(titles), line(["---", *["---:"] * (len(titles) - 1)])]
    for label, row in rows.items():
        if "failed" in row:
            lines.append(line([label, row["failed"], *[""] * (len(titles) - 2)]))
            continue
        cells = [f"{label} refused, smallest" if "refused" in row else label, f"{row['budget_bytes'] / 2**20:.2f}"]
        cells += [f"{100 * row['budget_bytes'] / row['arena_bytes_whole']:.1f}"]
        cells += [f"{row[key] / 2**20:.2f}" for key in ("arena_bytes", "arena_bytes_whole")]
        cells += [row["status"], str(row["recomputed"])]
        cells += [f"{row['predicted_percent']:.2f}", f"{row['measured_percent']:.2f}"]
        cells += [f"{(100 + row['measured_percent']) / (100 + row['predicted_percent']):.3f}"]
        cells += [f"{row['milliseconds'] / row['predicted_milliseconds']:.3f}"]
        cells += ["yes" if row["same_bits"] else "NO"]
        lines.append(line([*cells, f"{row['growth_bytes'] / (row['arena_bytes'] + row['callers_bytes']):.3f}"]))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return 1 if a row failed or differs."""
    parser = argparse.ArgumentParser(prog="python -m examples.budgets", description=__doc__.split(":")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default {' '.join(NAMES)}")
    parser.add_argument("--batch", type=int, default=1, metavar="N")
    parser.add_argument(
        "--shares", default="100,80,60", metavar="LIST", help="per cent of the peak (default 100,80,60)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE, and go on from there")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BUILDERS]
    if unknown:
        parser.error(f"there is no model {unknown[0]}; there are {', '.join(BUILDERS)}")
    rows: dict[str, Row] = rows_of(options.json)
    command = command_of("examples.budgets", arguments)
    document: Mapping[str, Any] = {"machine": describe(), "command": command, "rows": rows}
    print("; ".join(f"{key} {entry}" for key, entry in describe().items()))
    print(f"\n    {command}\n", flush=True)
    for name in options.names or NAMES:
        for share in map(int, options.shares.split(",")):
            label = f"{name}, {share} %"
            if label not in rows:
                found = isolated(measured, name, options.batch, share)
                rows[label] = {"failed": found} if isinstance(found, str) else found
                save(options.json, document)
            print(f"{label}: {rows[label]}", file=sys.stderr, flush=True)
    print(table(rows), flush=True)
    return int(any("failed" in row or not row.get("same_bits", True) for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
