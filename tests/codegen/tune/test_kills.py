"""Tuning that is killed at any moment, and tuning twice at once: nothing measured is lost, and nothing is measured again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codegen.targets.parsing import parse_target
from codegen.tune.database import Database
from codegen.tune.records import Records

ROOT = Path(__file__).resolve().parents[3]
KERNELS = 3
KINDS = ("cpu", "opencl")
LONGEST = 120

Entries = dict[tuple[str, str], dict[str, Any]]


def start(path: Path, trials: int, kind: str = "cpu") -> subprocess.Popen[str]:
    """A tuning process; see ``killed_tuning``."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("killed_tuning.py")), str(path), str(trials), kind],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def told(output: str) -> Entries:
    """What a process said that it stored; a line that was cut short was not said."""
    lines = [line for line in output.splitlines(keepends=True) if line.endswith("\n") and line != "done\n"]
    return {(kernel, variant): entry for kernel, variant, entry in map(json.loads, lines)}


def require_held(path: Path, entries: Entries, kind: str = "cpu") -> None:
    """The database is whole and holds what was told last of each variant."""
    target = parse_target(kind, 2 if kind == "cpu" else None)
    with Database(path) as database:
        assert database.warnings == []
        records = Records(database, target)
        for (kernel, variant), entry in entries.items():
            assert records.read(kernel)[variant] == entry


def require_complete(path: Path, trials: int) -> None:
    """Every variant of every kernel is there."""
    with Database(path) as database:
        assert database.size()[0] == KERNELS * trials


def children(process: subprocess.Popen[str]) -> list[str]:
    """The identifiers of the measuring processes."""
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    try:
        return [number for found in lists for number in found.read_text().split()]
    except OSError:  # it is gone
        return []


def is_alive(number: str) -> bool:
    """Whether a process runs, or would if it were not paused."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill_often(path: Path, trials: int, times: int, seed: int, kind: str) -> None:
    """Kills a tuning process so many times and requires each time that everything is there that any of them said it stored.

    A process that is done before it is killed counts too. The moments are random, between its start and its usual end.
    """
    moments = random.Random(seed)
    seen: Entries = {}
    repeated = 0
    for _ in range(times):
        process = start(path, trials, kind)
        until = time.monotonic() + moments.uniform(0.5, 6.0)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        measuring = children(process)
        process.kill()
        output, _ = process.communicate(timeout=LONGEST)
        new = told(output)
        repeated += sum(where in seen and '"contraction"' in where[1] for where in new)
        seen |= new
        require_held(path, seen, kind)
        until = time.monotonic() + 10
        while any(map(is_alive, measuring)) and time.monotonic() < until:
            time.sleep(0.02)
        assert not any(map(is_alive, measuring)), "a measuring process outlives the one that asks"
    assert repeated == 0, "a variant that was told is not measured again"


def finish(path: Path, trials: int, kind: str = "cpu") -> Entries:
    """A run to the end."""
    output, _ = start(path, trials, kind).communicate(timeout=LONGEST)
    assert output.endswith("done\n")
    return told(output)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_loses_nothing_that_it_told(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    process = start(path, 2, kind)
    assert process.stdout is not None
    first = process.stdout.readline()  # something is stored, and the next is being measured
    process.kill()
    output, _ = process.communicate(timeout=LONGEST)
    before = told(first + output)
    require_held(path, before, kind)
    after = finish(path, 2, kind)
    assert after, "the rest is measured"
    assert not {where for where in after if where in before and where[1] != "{}"}, "and only the rest"
    require_held(path, {**before, **after}, kind)
    require_complete(path, 2)
    assert finish(path, 2, kind) == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_kills_at_random_moments_lose_nothing(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    kill_often(path, 8, 20, 4, kind)
    require_held(path, finish(path, 8, kind), kind)
    require_complete(path, 8)
    assert finish(path, 8, kind) == {}


def test_two_tuners_share_a_database(tmp_path: Path) -> None:
    """Both may measure a kernel that they begin at the same time; both are done, and nothing is missing."""
    path = tmp_path / "t.sqlite"
    processes = [start(path, 2), start(path, 2)]
    outputs = [process.communicate(timeout=LONGEST)[0] for process in processes]
    assert all(output.endswith("done\n") for output in outputs)
    require_complete(path, 2)
    assert finish(path, 2) == {}
