"""``tensoropt plan``: recomputation, order and offsets under a memory budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tensoropt.cli.options import Json, Seed, Shape, Threads, TimeLimit, parse_shapes
from tensoropt.cli.output import print_json
from tensoropt.cli.progress import progress_display
from tensoropt.errors import NoPlanError, UsageError


def plan(
    path: Annotated[str, typer.Argument(metavar="MODEL.onnx|GRAPH.json", help="A model, or a graph as JSON.")],
    memory_budget: Annotated[
        str,
        typer.Option("--memory-budget", metavar="B", help="Bytes such as 512MiB, or a share of the peak such as 80%."),
    ],
    memory_model: Annotated[
        str, typer.Option("--memory-model", help="packed: the arena meets the budget; live: the sum of live bytes.")
    ] = "packed",
    order: Annotated[
        str, typer.Option("--order", help="free, or input: first computations in the order of the file.")
    ] = "free",
    paging: Annotated[
        str | None,
        typer.Option(
            "--paging",
            metavar="RATE",
            help="Values may also be copied to the host and back: at 25GB/s or 'target', for a graph bytes a unit of duration.",
        ),
    ] = None,
    time_limit: TimeLimit = None,
    seed: Seed = 0,
    threads: Threads = None,
    shape: Shape = None,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Draw memory over the sequence as an SVG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Plan order, recomputation and buffer offsets so that a memory budget is met, with a bound on what any plan takes."""
    from tensoropt import api
    from tensoropt.api.planning import problem_of_source
    from tensoropt.api.requirements import require_planning
    from tensoropt.plan_chart import chart

    if plot is not None and not Path(plot).absolute().parent.is_dir():
        raise UsageError(f"--plot {plot}: there is no such folder")
    require_planning(memory_budget, memory_model, order, threads, seed, time_limit)
    with progress_display() as progress:
        problem = problem_of_source(path, parse_shapes(shape), threads, progress, paging)
        found = api.plan(
            problem,
            memory_budget,
            memory_model=memory_model,  # type: ignore[arg-type]  # the API says what it may be
            order=order,  # type: ignore[arg-type]
            time_limit=time_limit,
            seed=seed,
            threads=threads,
            progress=progress,
        )
    if plot is not None and found["sequence"] is not None:
        try:
            Path(plot).write_text(chart(problem, found), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--plot {plot}: {error.strerror}") from error
    if as_json:
        print_json(found)
    else:
        _show(found)
    if found["sequence"] is None:
        raise NoPlanError(
            f"{path}: no plan within {_size(found['budget_bytes'])} ({found['status']}: {found['reason']}); "
            f"{_size(found['smallest_known_bytes'])} is the smallest budget that is known to fit"
        )


def _show(found: dict[str, Any]) -> None:
    """The plan for people: figures on standard error, the sequence on standard output."""
    say = [
        f"{found['name']}: {found['steps']} steps, budget {_size(found['budget_bytes'])} ({found['memory_model']}), "
        f"peak {_size(found['peak_bytes_baseline'])} without recomputation"
    ]
    if found["sequence"] is not None:
        fetches = f" and {found['fetched']} fetches from the host" if found["fetched"] else ""
        say.append(
            f"  {found['status']}: {found['duration_increase_percent']:.3f} % longer with {found['recomputed']} recomputations"
            f"{fetches}; "
            f"no plan in {found['lower_bound_holds_for'] or 'any order'} is below {found['lower_bound_percent'] or 0:.3f} %"
        )
        say.append(
            f"  arena {_size(found['arena_bytes'])}, live peak {_size(found['peak_bytes'])}, "
            f"fragmentation {found['fragmentation_percent']:.2f} %"
        )
    say.append(f"  planned in {found['solve_seconds']:.1f} s")
    print("\n".join(say), file=sys.stderr)
    if found["sequence"] is not None:
        seen: set[str] = set()
        for step, offset in zip(found["sequence"], found["offsets"], strict=True):
            print(f"{step}{' again' if step in seen else ''} at {offset}")
            seen.add(step)


def _size(count: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= 10 * factor or (unit == "KiB" and count >= factor):
            return f"{count / factor:.2f} {unit}"
    return f"{count} bytes"
