"""``tensoropt inspect``: the IR of a model or an artefact, what changed, and why."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from tensoropt.cli.options import Json, Shape, parse_shapes
from tensoropt.cli.output import print_json


def inspect(
    path: Annotated[str, typer.Argument(metavar="DIR|MODEL.onnx|PROGRAM.txt", help="What to look into.")],
    stage: Annotated[str | None, typer.Option("--stage", metavar="NAME", help="The program after this stage.")] = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option("--diff", metavar="STAGE STAGE", help="What changed from one stage to another."),
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="Only what comes from this node or value.")
    ] = None,
    why: Annotated[
        str | None, typer.Option("--why", metavar="NAME", help="Why a node was rewritten, or was not.")
    ] = None,
    shape: Shape = None,
    as_json: Json = False,
) -> None:
    """Show a program as text: before and after, the difference of two stages, or the reasons for a rewrite."""
    from tensoropt import api

    found = api.inspect(path, stage=stage, diff=diff, node=node, why=why, shapes=parse_shapes(shape))
    if as_json:
        print_json(found.as_json())
        return
    for line in found.lines():
        print(_coloured(line) if diff and sys.stdout.isatty() else line)


def _coloured(line: str) -> str:
    colours: dict[str, Any] = {"+": "\033[32m", "-": "\033[31m", "@": "\033[36m"}
    return f"{colours[line[0]]}{line}\033[0m" if line[:1] in colours else line
