"""A measuring process on another machine, with the interface of ``tensoropt.isolated.Worker``."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from signal import SIGKILL, Signals
from typing import Any

from codegen.tune.remote.calls import RECEIVE, SEND
from codegen.tune.remote.fleet import Fleet
from codegen.tune.remote.link import Link
from tensoropt.isolated import Failed, Late, Lost

_LEASE_SECONDS = 20.0
"""After so long a device is given back between two kernels where other tuners wait, so that they have their turn."""
_POLL_SECONDS = 1.0
"""How long one call waits for a reply: a server whose tuner is gone notices it after so long."""


class RemoteDevice:
    """The measuring process of whichever device of a fleet is free; see ``Worker`` for what is not told here."""

    def __init__(self, fleet: Fleet, timeout: float = 120.0) -> None:
        self.timeout = timeout
        self.starts = 0
        self._fleet = fleet
        self._link: Link | None = None
        self._running, self._remote_starts = False, 0
        self._since = 0.0
        self._killed = False

    @property
    def running(self) -> bool:
        """Whether there is a device, and its process keeps what it has, as far as is known."""
        return self._link is not None and self._running

    def acquire(self, wanted: Callable[[], bool]) -> bool:
        """Waits until there is a device, and whether there is; not longer than it is ``wanted``."""
        if self._link is not None and time.monotonic() - self._since > _LEASE_SECONDS and self._fleet.is_shared:
            self.stop()
        if self._link is None:
            self._link = self._fleet.acquire(lambda: wanted() and not self._killed)
            self._since, self._running, self._remote_starts = time.monotonic(), False, 0
        return self._link is not None

    def ask(self, request: Any, timeout: float | None = None) -> tuple[str, Any]:
        """The reply to a request. Failed and Late are the candidate's fault; Lost where the device is out of reach."""
        if not self.acquire(lambda: True):
            raise Lost("there is no device")
        assert self._link is not None
        try:
            self._link.call(SEND, pickle.dumps(request), float(timeout or self.timeout))
            while not (text := self._link.call(RECEIVE, _POLL_SECONDS)):
                pass
            outcome = _parsed(text)
        except Lost:
            self._drop(lost=not self._killed)
            raise
        self._running = outcome["running"]
        if outcome["starts"] != self._remote_starts:
            self._remote_starts = outcome["starts"]
            self.starts += 1
        match outcome:
            case {"reply": [str(kind), result]}:
                return kind, result
            case {"late": str(why)}:
                raise Late(why)
            case {"failed": str(why)}:
                raise Failed(why)
            case _:
                self._drop(lost=True)
                raise Lost(str(outcome.get("lost", "the reply means nothing")))

    def signal(self, number: Signals) -> None:
        """SIGKILL ends what is being asked and all that would be; other signals do not reach the device."""
        if number == SIGKILL:
            self._killed = True
            link = self._link
            if link is not None:
                link.kill()

    def pause(self) -> None:
        """Does nothing: what is timed on this machine is not disturbed by what another one does."""

    def resume(self) -> None:
        """See ``pause``."""

    def stop(self) -> None:
        """Ends the process, and gives the device back."""
        self._drop(lost=False)

    def _drop(self, lost: bool) -> None:
        link, self._link = self._link, None
        self._running = False
        if link is not None:
            self._fleet.release(link, lost)


def _parsed(text: str) -> dict[str, Any]:
    """What a server says of a request. Lost where it is nothing that one says."""
    try:
        outcome = json.loads(text)
        if isinstance(outcome["running"], bool) and isinstance(outcome["starts"], int):
            return dict(outcome)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Lost("the reply means nothing")
