"""``tensoropt run``: run an artefact, or a model that is compiled for it on the spot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tensoropt.cli.options import Json, Seed, Shape, Threads, Verbose, parse_shapes
from tensoropt.cli.output import print_json


def run(
    path: Annotated[str, typer.Argument(metavar="DIR|MODEL.onnx", help="An artefact folder or a model.")],
    target: Annotated[
        str, typer.Option("--target", help="What to compile a model for; a folder was compiled for its own.")
    ] = "cpu",
    inputs: Annotated[
        str | None, typer.Option("--inputs", metavar="X.npz", help="Inputs by name; random ones by default.")
    ] = None,
    outputs: Annotated[
        str | None, typer.Option("--outputs", metavar="Y.npz", help="Where to write the outputs.")
    ] = None,
    seed: Seed = 0,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Runs that are timed.")] = 1,
    threads: Threads = None,
    shape: Shape = None,
    check: Annotated[bool, typer.Option("--check", help="Compare with ONNX Runtime.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Run on given or random inputs, and say how long it took."""
    from tensoropt import api

    result = api.run(
        path,
        target=target,
        inputs=inputs,
        outputs=outputs,
        seed=seed,
        repeat=repeat,
        threads=threads,
        check=check,
        shapes=parse_shapes(shape),
    )
    if as_json:
        print_json(result)
    else:
        _show(result, Path(outputs) if outputs else None)


def _show(result: dict[str, Any], written: Path | None) -> None:
    for name, summary in result["outputs"].items():
        shape = "x".join(str(extent) for extent in summary["shape"]) or "scalar"
        print(
            f"{name}: {summary['dtype']} {shape}, mean {summary['mean']:.6g}, standard deviation {summary['std']:.6g}"
        )
    print(f"median of {result['repeat']} runs: {result['latency_ms']:.3f} ms", file=sys.stderr)
    if result["check"] is not None:
        print(f"agrees with ONNX Runtime: relative error {result['check']['max_rel_error']:.2g}", file=sys.stderr)
    if written is not None:
        print(f"outputs written to {written}", file=sys.stderr)
