"""Searches in processes of their own: the same results in the same order, and what a process costs that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from passes.derive.candidate import Candidate, SearchLimits
from passes.derive.tasks import cache
from passes.derive.tasks.cache import DeriveCache
from passes.derive.tasks.pool import SearchPool
from passes.derive.tasks.task import Task
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.program import Compute
from tensoropt.quiet import Quiet
from tensoropt.rewrite.derivation import ReplayError
from tests.strategies.operators import convolution, transposed_convolution

ROOT = Path(__file__).resolve().parents[4]
LIMITS = SearchLimits(states=40)
SCOPES = [
    transposed_convolution(1, 6, 5, 4, 4, 2, 1),
    convolution(1, 5, 7, 6, (3, 3)),
    convolution(1, 8, 10, 6, (1, 1), 2),
    convolution(1, 4, 8, 4, (3, 3), dilation=2),
]

MISBEHAVING = """
import os, sys, time
from passes.derive.tasks import worker

kept = worker.answer

def answer(task, seconds):
    match task.limits.depth:
        case 101:
            os.kill(os.getpid(), 9)
        case 102 | 103:
            try:
                bytearray((300 if task.limits.depth == 102 else 2000) << 20)
            except MemoryError:
                return "failed", "the search ran out of memory"
        case 104:
            time.sleep(600)
    return kept(task, seconds)

worker.answer = answer
worker.main(sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def statement(scope: Scope, number: int = 0) -> Compute:
    return Compute(Tensor(f"O{number}", scope.type), scope, ("node",))


def task_of(scope: Scope, depth: int = LIMITS.depth) -> Task:
    return Task.of(statement(scope), {"K"}, replace(LIMITS, depth=depth), ())[0]


def test_workers_find_what_this_process_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_SERIAL_SECONDS", 0.0)
    monkeypatch.setattr("passes.derive.tasks.store.read", lambda task: None)
    computes = [statement(scope, number) for number, scope in enumerate(SCOPES)]
    serial = DeriveCache()
    expected = [serial.derive(compute, {"K"}, LIMITS) for compute in computes]
    quiet = Quiet()
    ballast = b"x" * (400 << 20)  # what the parent holds is not what searches hold
    with DeriveCache(workers=2, quiet=quiet) as parallel:
        parallel.expect(computes, {"K"}, LIMITS)
        with quiet.kept():
            time.sleep(0.05)
        found = [parallel.derive(compute, {"K"}, LIMITS) for compute in computes]
        assert 0 < parallel.peak_bytes < len(ballast)
    assert found == expected
    assert all(found)
    reports = [(serial.report(compute, {"K"}, LIMITS), parallel.report(compute, {"K"}, LIMITS)) for compute in computes]
    for ours, theirs in reports:
        assert ours is not None
        assert theirs is not None
        assert (ours.visited, ours.goals, ours.passed_over) == (theirs.visited, theirs.goals, theirs.passed_over)


def test_little_work_starts_no_process() -> None:
    with DeriveCache(workers=2) as small:
        small.expect([statement(SCOPES[2])], {"K"}, LIMITS)
        assert small.searched == 1
        assert small.peak_bytes == 0
    with DeriveCache(workers=2) as again:
        again.expect([statement(SCOPES[2])], {"K"}, LIMITS)
        assert (again.from_disk, again.searched) == (1, 1)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A searching process that dies (depth 101), wants more than its share of memory (102) or than all (103), or is silent."""
    (tmp_path / "misbehaving_search.py").write_text(MISBEHAVING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "misbehaving_search"


def test_a_process_that_dies_costs_its_own_statement(module: str) -> None:
    good = [task_of(scope) for scope in SCOPES[1:3]]
    killed, hungry, starved = (task_of(SCOPES[2], depth) for depth in (101, 102, 103))
    with SearchPool(2, total_bytes=600 << 20, module=module) as pool:
        for task in (killed, good[0], hungry, starved, good[1]):
            pool.submit(task)
        assert "SIGKILL" in str(pool.result(killed).report.failure)
        assert pool.result(killed).candidates == ()
        assert pool.result(hungry).candidates, "alone it has all the memory"
        assert "out of memory" in str(pool.result(starved).report.failure)
        for task in good:
            assert pool.result(task).candidates == task.solve().candidates


def test_a_defect_of_a_search_costs_its_own_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(*arguments: object) -> list[Candidate]:
        raise AssertionError("defective")

    monkeypatch.setattr("passes.derive.tasks.task.derive", defective)
    found = DeriveCache()
    assert found.derive(statement(SCOPES[0]), {"K"}, LIMITS) == []
    report = found.report(statement(SCOPES[0]), {"K"}, LIMITS)
    assert report is not None
    assert report.failure == "the search failed: AssertionError: defective"


def test_a_chain_that_holds_for_some_names_only_is_searched_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*arguments: object) -> Candidate:
        raise ReplayError("another name")

    expected = DeriveCache().derive(statement(SCOPES[1]), {"K"}, LIMITS)
    monkeypatch.setattr("passes.derive.tasks.cache.named", refusing)
    found = DeriveCache().derive(statement(SCOPES[1]), {"K"}, LIMITS)
    assert [candidate.label for candidate in found] == [candidate.label for candidate in expected]
    assert {candidate.derivation.start for candidate in found} == {SCOPES[1]}


def test_a_deadline_ends_searches_with_what_they_have() -> None:
    task = Task.of(statement(SCOPES[0]), {"K"}, SearchLimits(states=100_000, depth=40), ())[0]
    with SearchPool(1, deadline=time.monotonic() + 0.4) as pool:
        pool.submit(task)
        found = pool.result(task)
    assert found.report.truncated == "time"
    assert found.report.failure is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_leaving_early_ends_the_processes(module: str) -> None:
    with SearchPool(2, module=module) as pool:
        for scope in SCOPES[:2]:
            pool.submit(task_of(scope, 104))
        identifiers = _started(2)
        pool.pause()
        _await(lambda: all(_state(identifier) == "T" for identifier in identifiers))
        pool.resume()
        _await(lambda: all(_state(identifier) != "T" for identifier in identifiers))
        pool.pause()
    assert all(not _alive(identifier) for identifier in identifiers)


PARENT = """
from passes.derive.tasks.pool import SearchPool
from tests.passes.derive.tasks.test_pool import SCOPES, task_of
silent = task_of(SCOPES[0], 104)
with SearchPool(1, module="misbehaving_search") as pool:
    pool.submit(silent)
    print("ready", flush=True)
    pool.result(silent)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_parent(number: signal.Signals, module: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    identifiers = _started(1, parent.pid)
    parent.send_signal(number)
    try:
        parent.communicate(timeout=30)
    finally:
        parent.kill()
    _await(lambda: not any(map(_alive, identifiers)))


def _await(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "not within 20 seconds"
        time.sleep(0.02)


def _started(count: int, parent: int | None = None) -> list[int]:
    """The identifiers of the searching processes of a parent, once there are so many."""

    def found() -> list[int]:
        children = _children(parent or os.getpid())
        return [identifier for identifier in children if b"misbehaving_search" in _command(identifier)]

    _await(lambda: len(found()) == count)
    return found()


def _children(parent: int) -> list[int]:
    folder = Path(f"/proc/{parent}/task")
    return [int(child) for thread in folder.iterdir() for child in (thread / "children").read_text().split()]


def _command(identifier: int) -> bytes:
    try:
        return Path(f"/proc/{identifier}/cmdline").read_bytes()
    except OSError:
        return b""


def _alive(identifier: int) -> bool:
    return b"misbehaving_search" in _command(identifier)


def _state(identifier: int) -> str:
    """As ``ps`` says it: T is stopped."""
    return Path(f"/proc/{identifier}/stat").read_text().rpartition(")")[2].split()[0]
