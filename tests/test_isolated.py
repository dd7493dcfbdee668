"""Processes that crash, hang or eat memory cost one request."""

from __future__ import annotations

import signal
import time
from collections.abc import Generator
from pathlib import Path
from threading import Timer

import pytest

from tensoropt.isolated import Failed, Worker

MISBEHAVING = """
import os, sys, time, resource
from multiprocessing.connection import Connection
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
connection = Connection(int(sys.argv[1]))
while True:
    request = connection.recv()
    if request == "crash":
        os.kill(os.getpid(), 11)
    if request == "hang":
        time.sleep(60)
    if request == "eat":
        try:
            bytearray(1 << 40)
        except MemoryError:
            connection.send(("failed", "ran out of memory"))
            continue
    connection.send(("answered", request))
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Worker]:
    """A worker whose process does what the request says."""
    (tmp_path / "misbehaving.py").write_text(MISBEHAVING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = Worker("misbehaving", timeout=20)
    yield made
    made.stop()


@pytest.mark.parametrize(("request_", "reason"), [("crash", "SIGSEGV"), ("hang", "longer than 1 seconds")])
def test_the_worker_survives_its_process(worker: Worker, request_: str, reason: str) -> None:
    assert worker.ask("hello") == ("answered", "hello")
    with pytest.raises(Failed, match=reason):
        worker.ask(request_, timeout=1 if request_ == "hang" else None)
    assert worker.ask("again") == ("answered", "again")
    assert worker.starts == 2


def test_time_in_which_it_is_paused_does_not_count(worker: Worker) -> None:
    """Also of a process that is started in a pause."""
    for _ in range(2):
        worker.pause()
        Timer(2.5, worker.resume).start()
        started = time.monotonic()
        assert worker.ask("hello", timeout=2.0) == ("answered", "hello")
        assert time.monotonic() - started > 2.0
    assert worker.starts == 1


def test_another_thread_may_kill_what_is_asked(worker: Worker) -> None:
    worker.ask("hello")
    Timer(0.3, worker.signal, (signal.SIGKILL,)).start()
    with pytest.raises(Failed, match="SIGKILL"):
        worker.ask("hang")


def test_memory_is_limited(worker: Worker) -> None:
    assert worker.ask("eat") == ("failed", "ran out of memory")
    assert worker.starts == 1
