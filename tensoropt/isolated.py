"""Processes of their own for work that may crash, hang or eat memory: a program that answers requests over one connection."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing import Pipe
from pathlib import Path
from threading import Lock
from typing import Any

from tensoropt.serving import PARENT

GIB = 1 << 30
_ROOT = str(Path(__file__).resolve().parents[1])


class Failed(Exception):
    """A request that brought no result; the message says why."""


class Late(Failed):
    """A request that took too long."""


class Lost(Exception):
    """A request whose result is not known, as the machine that it was sent to is out of reach; the message says why."""


class Worker:
    """A process that is started when it is needed, and again after it died.

    ``module`` is run as a program, never forked from this process, with two arguments: the descriptor of its connection and how
    many bytes of memory it may take. It answers each pickled request with a pickled pair: what became of it, and the result.
    One thread asks; ``pause``, ``resume`` and ``signal`` may be called from others.
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
        self._lock = Lock()
        self._paused_since: float | None = None
        self._paused_seconds = 0.0

    @property
    def running(self) -> bool:
        """Whether the process is there and keeps what it has."""
        return self._process is not None and self._process.poll() is None

    def ask(self, request: Any, timeout: float | None = None) -> tuple[str, Any]:
        """The reply to a request. Failed where the process dies or takes too long; the next request starts another.

        Time in which the process is paused does not count.
        """
        if not self.running:
            self._start()
        limit = timeout or self.timeout
        started = self._clock()
        try:
            self._connection.send(request)
            while not self._connection.poll(max(0.0, limit - (self._clock() - started)) + 1e-3):
                if self._clock() - started >= limit:
                    self.stop()
                    raise Late(f"took longer than {limit:.3g} seconds")
            reply: tuple[str, Any] = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionError) as error:
            raise Failed(self._cause_of_death()) from error
        return reply

    def signal(self, number: signal.Signals) -> None:
        """Sends the process a signal if it is there."""
        process = self._process
        if process is not None:
            process.send_signal(number)

    def pause(self) -> None:
        """Stops the process, and one that is started meanwhile, until ``resume``."""
        with self._lock:
            if self._paused_since is None:
                self._paused_since = time.monotonic()
            self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets the process go on."""
        with self._lock:
            if self._paused_since is not None:
                self._paused_seconds += time.monotonic() - self._paused_since
                self._paused_since = None
            self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is not None:
            process.kill()
            process.wait()

    def _clock(self) -> float:
        """Seconds in which the process was not paused."""
        with self._lock:
            now = time.monotonic()
            return now - self._paused_seconds - (0.0 if self._paused_since is None else now - self._paused_since)

    def _start(self) -> None:
        self.stop()
        ours, theirs = Pipe()
        path = os.pathsep.join([_ROOT, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        identity = {PARENT: str(os.getpid()), "PYTHONPATH": path}
        with self._lock:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, str(theirs.fileno()), str(self.memory_bytes)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **self._environment, **identity},
            )
            if self._paused_since is not None:
                self._process.send_signal(signal.SIGSTOP)
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
