"""What several verbs parse alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from tensoropt.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Tf32 = Annotated[
    bool, typer.Option("--tf32", help="Let tensor cores multiply f32, with operands rounded to tf32 (11 digits).")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads; all processors by default.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Seed of random inputs; the search is the same for every seed.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Say more on standard error.")]
Db = Annotated[
    str | None,
    typer.Option("--db", metavar="FILE", help="The tuning database; the one in the cache folder by default."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit", metavar="SECONDS", help="Search and measure for about so long, then use the best so far."
    ),
]
Libraries = Annotated[
    str | None,
    typer.Option(
        "--libraries",
        metavar="auto|none",
        help="On a CUDA GPU: whether kernels may call cuBLASLt and cuDNN where these are measured to be faster.",
    ),
]
Shape = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=DIMS", help="Bind an input's dimensions: --shape x=1,3,224,224."),
]


def parse_shapes(texts: Sequence[str] | None) -> dict[str, list[int]]:
    """``name=1,3,224,224`` (an empty list of dimensions for a scalar) as a mapping; UsageError for anything else."""
    shapes: dict[str, list[int]] = {}
    for text in texts or ():
        name, equals, dimensions = text.rpartition("=")
        try:
            shapes[name] = [int(dimension) for dimension in dimensions.split(",") if dimension.strip()]
        except ValueError:
            equals = ""
        if not name or not equals or any(dimension < 0 for dimension in shapes.get(name, [])):
            raise UsageError(f"--shape {text!r} is not of the form NAME=1,3,224,224")
    return shapes
