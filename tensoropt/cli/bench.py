"""``tensoropt bench``: ours against other engines, in turns, on the same inputs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tensoropt.cli.options import Json, Seed, Shape, Tf32, Threads, parse_shapes
from tensoropt.cli.output import print_json
from tensoropt.cli.progress import progress_display

if TYPE_CHECKING:
    from rich.table import Table


def bench(
    path: Annotated[str, typer.Argument(metavar="DIR|MODEL.onnx", help="An artefact folder or a model.")],
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="NAMES", help="onnxruntime,openvino,torch,tvm; those installed by default."),
    ] = None,
    target: Annotated[str, typer.Option("--target", help="What to compile for; see `tensoropt targets`.")] = "cpu",
    tf32: Tf32 = False,
    tune: Annotated[str | None, typer.Option("--tune", help="off, fast (the default) or full; for a model.")] = None,
    shape: Shape = None,
    threads: Threads = None,
    seed: Seed = 0,
    blocks: Annotated[int, typer.Option("--blocks", min=5, help="Timed blocks of each engine.")] = 7,
    as_json: Json = False,
) -> None:
    """Time a model against other engines in alternating blocks, check that they agree, and count the memory of each."""
    from tensoropt import api

    with progress_display() as progress:
        result = api.bench(
            path,
            against=None if against is None else [name.strip() for name in against.split(",") if name.strip()],
            target=target,
            tf32=tf32,
            threads=threads,
            tune=tune,
            shapes=parse_shapes(shape),
            seed=seed,
            blocks=blocks,
            progress=progress,
            warn=_say,
        )
    if as_json:
        print_json(result)
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    """The outcome for people, on standard error."""
    from rich.console import Console

    machine = result["machine"]
    console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)
    console.print(
        f"{result['model']}: {result['threads']} threads of {machine['processor']} ({result['cores']:.1f} whole cores); "
        f"peers run {result['peers_run']}",
        markup=False,
        soft_wrap=True,
    )
    console.print(_table(result))
    control = result["control"]
    console.print(
        f"control: ours against ours {control['ratio']:.2f} (1.00 ± 0.03 on a quiet machine); "
        + ("nothing to compare with" if result["reference"] is None else f"checked against {result['reference']}"),
        soft_wrap=True,
    )
    if result["optimize_seconds"] is not None:
        console.print(
            f"optimized in {result['optimize_seconds']:.1f} s, {result['tune_seconds']:.1f} s of it tuning ({result['tune']})"
        )


def _table(result: dict[str, Any]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("engine")
    for title in ("median ms", "quartiles", "ours / it", "peak MiB", "difference"):
        table.add_column(title, justify="right")
    for name, row in result["engines"].items():
        first, third = row["quartiles_ms"]
        peak = "?" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        table.add_row(
            f"{name} {row['version']}",
            f"{row['median_ms']:.3f}",
            f"{first:.3f} to {third:.3f}",
            f"{row['ratio']:.2f}",
            peak,
            f"{row['max_rel_error']:.1e}",
        )
    return table


def _say(text: str) -> None:
    print(text, file=sys.stderr)
