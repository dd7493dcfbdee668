"""The other end of ``tensoropt.isolated.Worker``: a program that answers requests over one connection."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

PARENT = "TENSOROPT_PARENT"
"""The environment variable that holds the identifier of the process that asks."""
_PR_SET_PDEATHSIG = 1


def serve(
    arguments: Sequence[str], answer: Callable[[Any], tuple[str, Any]], limited: int | None = resource.RLIMIT_AS
) -> None:
    """Answers requests until the connection closes.

    ``arguments`` are its descriptor and how many bytes the process may take of what ``limited`` counts (address space; nothing
    where that is None). ``answer`` gives a pair, what became of a request and the result.
    """
    descriptor, limit = (int(argument) for argument in arguments)
    _serve_alone()
    if limited is not None:
        resource.setrlimit(limited, (limit, limit))
    connection = Connection(descriptor)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(answer(request))


def reason(error: Exception) -> str:
    """What a reply says of an error: its kind and its last line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"


def _serve_alone() -> None:
    """Leaves interrupts to the process that asks, and ends with it.

    Ending with it works on Linux only; elsewhere a process that computes, or is paused, would not notice that it is gone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    if sys.platform == "linux" and str(os.getppid()) != os.environ.get(PARENT):
        sys.exit(0)  # it was gone before it could be watched


def end_with_parent() -> None:
    """Has the system kill this process when the thread that started it ends, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
