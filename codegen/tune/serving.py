"""The loop of a process that answers requests over one connection, the other end of ``tensoropt.isolated.Worker``."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from tensoropt.isolated import serve_alone


def serve(arguments: Sequence[str], answer: Callable[[Any], Any]) -> None:
    """Answers requests until the connection (a file descriptor) closes, within a limit of address space in bytes.

    A reply is ("done", what ``answer`` gives) or ("failed", why).
    """
    serve_alone()
    descriptor, limit = (int(argument) for argument in arguments)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection = Connection(descriptor)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            reply = "done", answer(request)
        except MemoryError:
            reply = "failed", "ran out of memory"
        except Exception as error:  # a candidate that does not compile must not end the process
            lines = str(error).strip().splitlines()
            reply = "failed", f"{type(error).__name__}: {lines[-1] if lines else ''}"
        connection.send(reply)
