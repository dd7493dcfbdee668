"""Processes of their own for work that may crash, hang or eat memory: a program that answers requests over one connection."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

GIB = 1 << 30
_ROOT = str(Path(__file__).resolve().parents[1])


class Failed(Exception):
    """A request that brought no result; the message says why."""


class Worker:
    """A process that is started when it is needed, and again after it died.

    ``module`` is run as a program, never forked from this process, with two arguments: the descriptor of its connection and how
    many bytes of memory it may take. It answers each pickled request with a pickled pair: what became of it, and the result.
    """

    def __init__(
        self,
        module: str,
        timeout: float = 120.0,
        memory_bytes: int = 32 * GIB,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.module, self.timeout, self.memory_bytes = module, timeout, memory_bytes
        self.starts = 0
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Any = None

    @property
    def running(self) -> bool:
        """Whether the process is there and keeps what it has."""
        return self._process is not None and self._process.poll() is None

    def ask(self, request: Any, timeout: float | None = None) -> tuple[str, Any]:
        """The reply to a request. Failed where the process dies or takes too long; the next request starts another."""
        if not self.running:
            self._start()
        try:
            self._connection.send(request)
            if not self._connection.poll(timeout or self.timeout):
                self.stop()
                raise Failed(f"took longer than {timeout or self.timeout:g} seconds")
            reply: tuple[str, Any] = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionError) as error:
            raise Failed(self._cause_of_death()) from error
        return reply

    def signal(self, number: signal.Signals) -> None:
        """Sends the process a signal if it is there; may be called from another thread than the one that asks."""
        process = self._process
        if process is not None:
            process.send_signal(number)

    def stop(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is not None:
            process.kill()
            process.wait()

    def _start(self) -> None:
        self.stop()
        ours, theirs = Pipe()
        path = os.pathsep.join([_ROOT, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module, str(theirs.fileno()), str(self.memory_bytes)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self._environment, "PYTHONPATH": path},
        )
        theirs.close()
        self._connection = ours
        self.starts += 1

    def _cause_of_death(self) -> str:
        process = self._process
        code = None
        if process is not None:
            try:
                code = process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                code = None
        self.stop()
        if code is not None and code < 0:
            return f"its process died of {signal.Signals(-code).name}"
        return f"its process ended with status {code}"
