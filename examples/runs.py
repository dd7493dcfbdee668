"""A run over many rows: a process each, the file written after each, so that a run that is interrupted can be resumed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.comparison import Settings, isolated, limited
from tensoropt.machine import describe

PEERS = ("onnxruntime", "openvino", "torch")

Row = dict[str, Any]
"""What was measured, or what failed as ``{"failed": reason}``."""


def parser_of(program: str, description: str) -> argparse.ArgumentParser:
    """The options that runs against peers have in common."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("--against", default=",".join(PEERS), metavar="NAMES", help=f"default {','.join(PEERS)}")
    parser.add_argument("--tune", choices=("off", "fast", "full"), default="fast", help="default fast")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of each engine (default 2)")
    parser.add_argument("--blocks", type=int, default=7, metavar="N", help="timed blocks of each series (default 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every block's time to FILE")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep what FILE holds, failures apart, and go on")
    return parser


def settings_of(options: argparse.Namespace) -> Settings:
    """How the options say to compare."""
    return Settings(tuple(options.against.split(",")), options.threads, options.blocks, options.tune)


def command_of(program: str, arguments: Sequence[str] | None) -> str:
    """The command line, for the record."""
    return " ".join([f"python -m {program}", *(sys.argv[1:] if arguments is None else arguments)])


def measure_rows(
    planned: Mapping[str, tuple[Any, ...]],
    measure: Callable[..., Row],
    brief: Callable[[Row], str],
    options: argparse.Namespace,
    command: str,
) -> dict[str, Row]:
    """As ``recorded``, where ``measure`` also gets the settings that the options of ``parser_of`` say."""
    settings = settings_of(options)
    return recorded(
        {label: (*arguments, settings) for label, arguments in planned.items()},
        measure,
        brief,
        options.resume or options.json,
        options.resume,
        command,
    )


def recorded(
    planned: Mapping[str, tuple[Any, ...]],
    measure: Callable[..., Row],
    brief: Callable[[Row], str],
    file: Path | None,
    resume: Path | None,
    command: str,
    *,
    limit: Callable[[], float | None] = lambda: None,
    machine: Mapping[str, str | int] | None = None,
) -> dict[str, Row]:
    """The rows of these labels: ``measure`` of each one's arguments, in a process of its own.

    ``limit`` is asked before each row how many seconds it has. The machine (``machine`` beside what is known of every one) and the
    command go to standard output, a line for each row to standard error.
    """
    rows = rows_of(resume)
    described = {**describe(), **(machine or {})}
    document = {"machine": described, "command": command, "rows": rows}
    print("; ".join(f"{key} {value}" for key, value in described.items()))
    print(f"\n    {command}\n", flush=True)
    for place, (label, arguments) in enumerate(planned.items(), start=1):
        if label not in rows:
            seconds = limit()
            found = isolated(measure, *arguments) if seconds is None else limited(seconds, measure, *arguments)
            rows[label] = {"failed": found} if isinstance(found, str) else found
            save(file, document)
        said = f"failed: {rows[label]['failed']}" if "failed" in rows[label] else brief(rows[label])
        print(f"{place} of {len(planned)}, {label}: {said}", file=sys.stderr, flush=True)
    return {label: rows[label] for label in planned}


def save(path: Path | None, document: Mapping[str, Any]) -> None:
    """Writes the file whole or not at all; nothing where no file is wanted."""
    if path is None:
        return
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(document, indent=2) + "\n")
    os.replace(partial, path)


def rows_of(path: Path | None) -> dict[str, Row]:
    """The rows that a file holds already, failures apart; none where there is no file."""
    if path is None or not path.exists():
        return {}
    rows: dict[str, Row] = json.loads(path.read_text())["rows"]
    return {label: row for label, row in rows.items() if "failed" not in row}
