"""The searching process: solves tasks that it is sent, within a limit of data in bytes. Started by ``pool``."""

from __future__ import annotations

import pickle
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

from passes.derive.tasks.task import Task
from tensoropt.memory import peak_bytes
from tensoropt.serving import serve


def answer(task: Task, seconds: float | None) -> tuple[str, Any]:
    """The reply to a request: what was found, pickled (the asking thread must not rebuild it), and the memory it took."""
    try:
        deadline = None if seconds is None else time.monotonic() + seconds
        found = pickle.dumps(task.solve(deadline))
    except MemoryError:
        return "failed", "the search ran out of memory"
    return "found", (found, peak_bytes())


def main(arguments: Sequence[str]) -> None:
    """Serves one connection; see ``serve``."""
    serve(arguments, lambda request: answer(*request), resource.RLIMIT_DATA)


if __name__ == "__main__":
    main(sys.argv[1:])
