"""The searching process: solves tasks that it is sent, within a limit of memory. Started by ``pool``."""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from passes.derive.tasks.task import Task

PARENT = "TENSOROPT_SEARCH_PARENT"
"""The environment variable that holds the parent's identifier."""
_PR_SET_PDEATHSIG = 1


def answer(task: Task, seconds: float | None) -> tuple[str, Any]:
    """The reply to a request: what was found, pickled (the asking thread must not rebuild it), and the memory it took."""
    try:
        deadline = None if seconds is None else time.monotonic() + seconds
        found = pickle.dumps(task.solve(deadline))
    except MemoryError:
        return "failed", "the search ran out of memory"
    return "found", (found, _peak_bytes())


def _peak_bytes() -> int:
    """The most memory that this process held; the usual figure would count the parent's too, from which it was started."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: Iterable[str]) -> None:
    """Serves one connection (a file descriptor) until it closes, within a limit of data in bytes."""
    descriptor, limit = (int(argument) for argument in arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's; it ends this process
    _end_with_the_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    connection = Connection(descriptor)
    while True:
        try:
            task, seconds = connection.recv()
        except EOFError:
            return
        connection.send(answer(task, seconds))


def _end_with_the_parent() -> None:
    """Linux only: a process that searches, or is paused, would not notice that its parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if str(os.getppid()) != os.environ.get(PARENT):  # it was gone before it could be watched
            sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
