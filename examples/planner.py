"""Plan graphs under memory budgets: `python -m examples.planner [--data FOLDER] [--time-limit 60] [--json FILE] [WORD ...]`.

A row is a graph, a percentage of the peak of its input order as the budget, a memory model and an order; `WORD` chooses those
whose label has it. Graphs are generated ones (`examples.planning_graphs`) and, with `--data`, all of FOLDER/remat. With
`--paging RATE` values may also be fetched from the host, at so many bytes for each unit of a graph's durations.

`--quality` plans in the input's order with live bytes, by the published formulation and by ours, and prints the best increase
over time. `--offsets` packs FOLDER/offsets/NAME.CAPACITY.csv (`id,lower,upper,size`, lifetimes half-open) within that capacity.
A process a row; with `--json` the file is written after each, and `--resume FILE` goes on where an interrupted run stopped.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensoropt
from examples.comparison import isolated
from examples.planning_graphs import GRAPHS
from examples.runs import Row, command_of, rows_of, save
from examples.tables import Rows, line
from tensoropt.allocation import Allocation, Buffer
from tensoropt.budget import parse_budget
from tensoropt.machine import describe
from tensoropt.plan_types import MemoryModel, Order, Problem

WORKERS = 2

GENERATED = ("random_layered_500", "random_layered_1000", "gpt_64")

SHARES = {"resnet50_train": (90, 80, 60, 50), "unet_train": (90, 80, 60), "vgg16_train": (90,), "gpt_64": (50,)}
"""Budgets by graph, in per cent of the peak of the input's order; 90 and 80 for others."""

CLASSES: tuple[tuple[MemoryModel, Order], ...] = (
    ("live", "input"), ("packed", "input"), ("live", "free"), ("packed", "free")
)  # fmt: skip

MOMENTS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Seconds at which the quality of plans is told."""

NODES = 1 << 40
"""Of the packer: as many as it gets through in the time."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What measures a row, the rows by label with the arguments that come before the time limit, and what prints them."""

    measure: Callable[..., Row]
    rows: Mapping[str, tuple[Any, ...]]
    brief: Callable[[Mapping[str, Any]], str]
    table: Callable[[Rows], str]


def graph_of(source: str) -> Problem:
    """A generated graph by name, or that of a file by path."""
    from tensoropt.problem_files import read_problem

    return GRAPHS[source]() if source in GRAPHS else read_problem(source)


def planned(source: str, share: int, model: MemoryModel, order: Order, paging: str | None, seconds: float) -> Row:
    """What `tensoropt.plan` says of a graph, without the plan itself; ``share`` is in per cent."""
    found = tensoropt.plan(
        graph_of(source), f"{share}%", memory_model=model, order=order, paging=paging, time_limit=seconds,
        threads=WORKERS,
    )  # fmt: skip
    return {key: entry for key, entry in found.items() if key not in ("sequence", "offsets", "workspaces", "aliases")}


def published(source: str, share: int, seconds: float) -> Row:
    """What the published formulation finds over time, with two computations of a step at most; keys as those of `planned`."""
    from passes.plan.solvers import published as formulation
    from passes.plan.solving import Goal
    from passes.plan.trace import trace

    problem = graph_of(source)
    peak = trace(problem, range(len(problem.steps))).peak()
    budget = parse_budget(f"{share}%", peak)
    history: list[dict[str, float]] = []
    smallest = peak
    started = time.monotonic()

    def better(sequence: tuple[int, ...]) -> None:
        nonlocal smallest
        at = round(time.monotonic() - started, 3)
        traced = trace(problem, sequence)
        smallest = min(smallest, traced.peak())
        if traced.peak() <= budget:
            increase = 100 * (traced.duration() - problem.duration) / max(1, problem.duration)
            history.append({"seconds": at, "percent": round(increase, 4)})

    # The paper gives the limit to each of its two phases.
    found = formulation.solve(problem, Goal(budget, "input", 2 * seconds, workers=WORKERS), better)
    return {
        "steps": len(problem.steps),
        "budget_bytes": budget,
        "smallest_known_bytes": smallest,
        "status": "complete" if found.complete else "feasible" if found.sequence is not None else "unknown",
        "claim": found.claim,
        "solve_seconds": round(time.monotonic() - started, 3),
        "history": history,
    }


def compared(formulation: str, source: str, share: int, seconds: float) -> Row:
    """A graph planned by one of the two, in the input's order with live bytes."""
    if formulation == "published":
        return published(source, share, seconds)
    return planned(source, share, "live", "input", None, seconds)


def packed(file: str, seconds: float) -> Row:
    """A benchmark of offsets within the capacity in its name, and what the best of the greedy orders takes."""
    from passes.plan.packing.greedy import portfolio
    from passes.plan.packing.instance import scaled
    from passes.plan.packing.search import prepare, within

    capacity = int(Path(file).suffixes[-2][1:])
    allocation = read_buffers(Path(file))
    live = allocation.live_peak()
    prepare()
    scales = scaled(allocation)
    heights = [portfolio(instance, instance.peak()).height * scales.unit for instance in scales.instances]
    started = time.monotonic()
    found = within(allocation, capacity, NODES, seconds)
    elapsed = time.monotonic() - started
    arena = None if found.placement is None else found.placement.arena_bytes
    return {
        "buffers": len(allocation.buffers),
        "capacity_bytes": capacity,
        "live_bytes": live,
        "greedy_bytes": max(heights, default=0),
        "arena_bytes": arena,
        "status": "impossible" if found.bound > capacity else "unknown" if arena is None else "packed",
        "solve_seconds": round(elapsed, 3),
        "nodes": found.nodes,
    }


def read_buffers(path: Path) -> Allocation:
    """The buffers of a file of offsets, whose lifetimes are half-open, without alignment."""
    with path.open(newline="", encoding="utf-8") as file:
        return Allocation(
            tuple(
                Buffer(entry["id"], int(entry["size"]), int(entry["lower"]), int(entry["upper"]) - 1)
                for entry in csv.DictReader(file)
            ),
            1,
        )


def plan_table(rows: Rows) -> str:
    """Plans as a Markdown table. Increase and bound are of the duration, in per cent of every step once."""
    titles = [
        "graph, budget, memory model and order",
        "steps",
        "budget bytes",
        "increase %",
        "bound %",
        "bound holds for",
    ]
    titles += [
        "status",
        "recomputed",
        "fetched",
        "live peak / budget",
        "arena / budget",
        "fragmentation %",
        "best after s",
        "all s",
    ]
    lines = [line(titles), line(["---", *["---:"] * (len(titles) - 1)])]
    for label, row in rows.items():
        if "failed" in row:
            lines.append(_failed(label, row, len(titles)))
            continue
        bound = row["lower_bound_percent"]
        cells = [label, str(row["steps"]), f"{row['budget_bytes']:,}", _number(row["duration_increase_percent"], 3)]
        cells += [_number(bound, 3), row["lower_bound_holds_for"] or "", row["status"]]
        cells += ["" if row["peak_bytes"] is None else str(row.get(key, 0)) for key in ("recomputed", "fetched")]
        cells += [_share(row["peak_bytes"], row["budget_bytes"]), _share(row["arena_bytes"], row["budget_bytes"])]
        cells += [_number(row.get("fragmentation_percent"), 2)]
        cells += [_number(row["history"][-1]["seconds"] if row["history"] else None, 1)]
        lines.append(line([*cells, _number(row["solve_seconds"], 1)]))
    return "\n".join(lines)


def quality_table(rows: Rows) -> str:
    """The best increase in per cent by seconds, as a Markdown table; empty while there was no plan within the budget."""
    last = max((row["solve_seconds"] for row in rows.values() if "failed" not in row), default=0.0)
    moments = [moment for moment in MOMENTS if moment <= last + 0.5]
    titles = ["graph, budget and formulation", "steps", "first plan s", *(f"{moment} s" for moment in moments)]
    titles += ["in the end", "after s", "status", "least bytes / budget"]
    lines = [line(titles), line(["---", *["---:"] * (len(titles) - 1)])]
    for label, row in rows.items():
        if "failed" in row:
            lines.append(_failed(label, row, len(titles)))
            continue
        history = row["history"]
        cells = [label, str(row["steps"]), _number(history[0]["seconds"] if history else None, 2)]
        for moment in moments:
            until = [entry["percent"] for entry in history if entry["seconds"] <= moment]
            cells.append(_number(min(until, default=None), 3))
        cells += [_number(history[-1]["percent"] if history else None, 3)]
        cells += [_number(history[-1]["seconds"] if history else row["solve_seconds"], 1), row["status"]]
        lines.append(line([*cells, _share(row["smallest_known_bytes"], row["budget_bytes"])]))
    return "\n".join(lines)


def offsets_table(rows: Rows) -> str:
    """Packings as a Markdown table."""
    titles = ["instance", "buffers", "live / capacity", "greedy / live", "arena / capacity", "status", "s", "nodes"]
    lines = [line(titles), line(["---", *["---:"] * (len(titles) - 1)])]
    for label, row in rows.items():
        if "failed" in row:
            lines.append(_failed(label, row, len(titles)))
            continue
        capacity, live = row["capacity_bytes"], row["live_bytes"]
        cells = [label, str(row["buffers"]), _share(live, capacity), _share(row["greedy_bytes"], live)]
        cells += [_share(row["arena_bytes"], capacity), row["status"]]
        lines.append(line([*cells, _number(row["solve_seconds"], 2), f"{row['nodes']:,}"]))
    return "\n".join(lines)


def _failed(label: str, row: Mapping[str, Any], columns: int) -> str:
    return line([label, f"failed: {row['failed']}", *[""] * (columns - 2)])


def _number(number: float | None, digits: int) -> str:
    return "" if number is None else f"{number:.{digits}f}"


def _share(part: int | None, whole: int) -> str:
    return "" if part is None or not whole else f"{part / whole:.4f}"


def graphs(data: Path | None) -> dict[str, tuple[str, int]]:
    """Label of graph and budget, to what `graph_of` takes and the budget in per cent."""
    files = [] if data is None else sorted((data / "remat").glob("*.json"))
    sources = {path.stem: str(path) for path in files} | {name: name for name in GENERATED}
    return {
        f"{name}, {share} %": (source, share)
        for name, source in sources.items()
        for share in SHARES.get(name, (90, 80))
    }


def plan_rows(data: Path | None, paging: str | None = None) -> dict[str, tuple[Any, ...]]:
    """The rows of the table of plans: label to what `planned` takes."""
    rate = "" if paging is None else f", paging at {paging}"
    return {
        f"{label}, {model}, {order} order{rate}": (*pair, model, order, paging)
        for label, pair in graphs(data).items()
        for model, order in CLASSES
    }


def quality_rows(data: Path | None) -> dict[str, tuple[Any, ...]]:
    """The rows of the comparison: label to what `compared` takes."""
    return {
        f"{label}, {formulation}": (formulation, *pair)
        for label, pair in graphs(data).items()
        for formulation in ("published", "tensoropt")
    }


def offsets_rows(data: Path) -> dict[str, tuple[Any, ...]]:
    """The rows of packings: label to what `packed` takes."""
    return {f"{path.name.split('.')[0]}, offsets": (str(path),) for path in sorted((data / "offsets").glob("*.*.csv"))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Plan or pack, print the table, and return 1 if a row failed."""
    parser = argparse.ArgumentParser(prog="python -m examples.planner", description=__doc__.split(":")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="rows whose label has one of these; all by default")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="published benchmarks, in FOLDER/remat and /offsets"
    )
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="S", help="seconds of each row (default 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep what FILE holds, failures apart, and go on")
    parser.add_argument(
        "--paging", metavar="RATE", help="let values be fetched from the host, at bytes a unit of duration"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quality", action="store_true", help="compare with the published formulation over time")
    which.add_argument("--offsets", action="store_true", help="pack the benchmarks of offsets")
    options = parser.parse_args(arguments)
    if options.offsets and options.data is None:
        parser.error("--offsets needs --data")
    mode = _mode(options)
    labels = [label for label in mode.rows if not options.words or any(word in label for word in options.words)]
    if not labels:
        parser.error(
            f"no row has {' or '.join(options.words) or 'data'} in its label; there are {'; '.join(mode.rows)}"
        )
    rows = _measured(mode, labels, options, command_of("examples.planner", arguments))
    print(mode.table(rows), flush=True)
    return int(any("failed" in row for row in rows.values()))


def _mode(options: argparse.Namespace) -> Mode:
    if options.offsets:
        return Mode(packed, offsets_rows(options.data), lambda row: f"{row['status']}", offsets_table)
    if options.quality:
        return Mode(compared, quality_rows(options.data), _brief, quality_table)
    return Mode(planned, plan_rows(options.data, options.paging), _brief, plan_table)


def _measured(mode: Mode, labels: Sequence[str], options: argparse.Namespace, command: str) -> dict[str, Row]:
    """The rows of these labels, each in a process of its own. Machine and command go to standard output, rows to error."""
    rows = rows_of(options.resume)
    document = {"machine": describe(), "command": command, "rows": rows}
    print("; ".join(f"{key} {entry}" for key, entry in describe().items()))
    print(f"\n    {command}\n", flush=True)
    for place, label in enumerate(labels, start=1):
        if label not in rows:
            found = isolated(mode.measure, *mode.rows[label], options.time_limit)
            rows[label] = {"failed": found} if isinstance(found, str) else found
            save(options.resume or options.json, document)
        said = f"failed: {rows[label]['failed']}" if "failed" in rows[label] else mode.brief(rows[label])
        print(f"{place} of {len(labels)}, {label}: {said}", file=sys.stderr, flush=True)
    return {label: rows[label] for label in labels}


def _brief(row: Mapping[str, Any]) -> str:
    if not row["history"]:
        return f"{row['status']} after {row['solve_seconds']:.1f} s"
    last = row["history"][-1]
    return f"+{last['percent']:.3f} % after {last['seconds']:.1f} s, {row['status']}"


if __name__ == "__main__":
    sys.exit(main())
