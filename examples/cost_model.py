"""The cost model that tuning starts from: collected, trained and judged.

    python -m examples.cost_model collect --target cpu|opencl --db FILE [--kernels FILE] [--seconds S]
    python -m examples.cost_model evaluate --db FILE [--db FILE …] [--seeds 0,1,2]
    python -m examples.cost_model train --db FILE [--db FILE …] [--write FILE]

`collect` measures variants of the kernels of `examples.cost_kernels`, each twice, and stores them with their features in a tuning
database; it goes on where it ended. `evaluate` prints, for each target, how well kernels are ordered that the model has not seen:
five folds of kernels, and five of whole models, so that kernels like those of the same model are not seen either. `train` writes
the model that is shipped. Only `collect` runs anything: run it on a quiet machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from codegen.tune.database import Database
from codegen.tune.learned.evaluation import by_kernel, by_origin, compared, table, table_of_models, whole_models
from codegen.tune.learned.features import NAMES
from codegen.tune.learned.model import FILE, learned
from codegen.tune.learned.samples import Sample
from codegen.tune.learned.stored import samples_of
from examples.cost_measuring import collect

_EVERYTHING = 1 << 30
"""Measurements."""
_GPU = NAMES.index("gpu")


def samples(files: Sequence[Path]) -> list[Sample]:
    """All kernels of some databases."""
    found: list[Sample] = []
    for file in files:
        with Database(file) as database:
            found += samples_of(database.latest(_EVERYTHING))
    steady = [sample for sample in found if sample.is_steady]
    print(f"{len(found)} kernels; {len(found) - len(steady)} are left out, whose two measurements do not agree")
    return steady


def evaluate(found: Sequence[Sample], seeds: Sequence[int]) -> str:
    """Tables for each target and way to hold kernels out."""
    parts = []
    targets = sorted({_target(sample) for sample in found})
    for group, what in ((by_kernel, "kernels"), (by_origin, "models")):
        figures = compared(found, seeds, group)
        for name in targets:
            some = {way: [one for one in ones if _target(one[0]) == name] for way, ones in figures.items()}
            count, rows = len(some["random"]), sum(len(sample.seconds) for sample, _ in some["random"])
            parts.append(f"{name}: {count} kernels, {rows} variants; {what} held out, seeds {seeds}:\n\n{table(some)}")
    for name in targets:
        known = whole_models([sample for sample in found if _target(sample) == name], seeds)
        parts.append(
            f"{name}: whole models, each held out with all of its kernels, seeds {seeds}:\n\n{table_of_models(known)}"
        )
    return "\n\n".join(parts)


def _target(sample: Sample) -> str:
    return {0.0: "CPU", 0.5: "CPU behind OpenCL", 1.0: "GPU"}[float(sample.rows[0, _GPU])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and print what it found."""
    parser = argparse.ArgumentParser("examples.cost_model", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    collecting, judging, training = (commands.add_parser(name) for name in ("collect", "evaluate", "train"))
    collecting.add_argument("--target", default="cpu", choices=["cpu", "opencl", "cuda"])
    collecting.add_argument("--kernels", type=Path, default=Path("cost_kernels.pickle"))
    collecting.add_argument("--seconds", type=float, default=150.0)
    collecting.add_argument("--db", type=Path, required=True)
    for command in (judging, training):
        command.add_argument("--db", type=Path, required=True, action="append")
    judging.add_argument("--seeds", default="0,1,2", help="default 0,1,2")
    training.add_argument("--write", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    if options.command == "collect":
        print(collect(options.target, options.db, options.kernels, options.seconds))
        return 0
    found = samples(options.db)
    if options.command == "evaluate":
        print(evaluate(found, [int(seed) for seed in options.seeds.split(",")]))
    else:
        learned(found).save(options.write)
        print(f"{options.write}: {options.write.stat().st_size} bytes, of {len(found)} kernels")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
