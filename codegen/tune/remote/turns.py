"""Turns of servers on one machine: while one of them times, the others neither time nor build."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """A lock of this machine by name, which processes that were killed do not hold."""

    def __init__(self, name: str) -> None:
        digest = hashlib.blake2b(f"{os.getuid()} {name}".encode(), digest_size=8).hexdigest()
        self._path = Path(tempfile.gettempdir()) / f"tensoropt-turns-{digest}"

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """Nobody is alone within this context."""
        with self._held(fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else is within a context of these turns."""
        with self._held(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _held(self, kind: int) -> Iterator[None]:
        with self._path.open("ab") as turns:
            # who waits to be alone holds the queue, so that those who are not do not always come before
            with self._path.with_suffix(".queue").open("ab") as queue:
                fcntl.flock(queue, fcntl.LOCK_EX)
                fcntl.flock(turns, kind)
            yield
