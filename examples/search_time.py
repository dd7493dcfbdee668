"""How long the searches of a model take with one and with several processes: `python -m examples.search_time NAME ...`.

The rewriting passes run with estimated costs, so nothing is compiled; each run starts from an empty cache.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from time import perf_counter

from examples.models import BUILDERS
from passes.derive.cost import EstimatedCosts
from passes.pipeline import COMBINE, NORMALISE, REWRITE
from tensoropt.frontend import load_program
from tensoropt.pass_manager import Context, run_passes


def row(name: str, processes: int) -> str:
    """The seconds of the combining passes and of selection, as a row of a Markdown table."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TENSOROPT_CACHE_DIR"] = folder
        context = Context(EstimatedCosts(), tune="off", workers=processes)
        program = run_passes(load_program(BUILDERS[name](1)).program, NORMALISE, context)
        started = perf_counter()
        program = run_passes(program, COMBINE, context)
        between = perf_counter()
        run_passes(program, REWRITE, context)
        searched = perf_counter()
    found = context.search
    megabytes = found["workers_peak_bytes"] / 2**20
    return (
        f"| {name} | {processes} | {found['statements']} | {found['distinct']} | {between - started:.1f} "
        f"| {searched - between:.1f} | {megabytes:.0f} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m examples.search_time", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(BUILDERS), metavar="NAME", help="models to search")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="compare 1 with N (default 2)")
    options = parser.parse_args(arguments)
    print("| model | processes | statements | distinct | combining s | searching s | MiB of the searching processes |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in options.names:
        for processes in (1, options.processes):
            print(row(name, processes), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
