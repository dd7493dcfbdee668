"""A connection to one device: the process that holds it, and how long an answer may take."""

from __future__ import annotations

from signal import SIGKILL
from typing import Any

from codegen.tune.remote.calls import DESCRIBE, Call, Connect, Prepare
from codegen.tune.remote.description import Description
from codegen.tune.remote.tracker import Place
from tensoropt.isolated import Failed, Lost, Worker

RELAY = "codegen.tune.remote.relay"

_START_SECONDS = 60.0
"""Importing TVM on a busy machine."""
_SILENCE_SECONDS = 30.0
"""No call takes longer than a second but for the network; a device that says nothing for so long is lost."""
_SESSION_SECONDS = 4 * 3600.0
"""After so long TVM's server ends a session by itself, whatever has become of both ends; no tuner keeps a device so long."""


class Link:
    """Connected at most once. Lost is raised, and the device is of no use any more, where a call brings no result."""

    def __init__(self) -> None:
        self._relay = Worker(RELAY)

    def prepare(self) -> None:
        """Starts the process, so that connecting takes no time."""
        self._ask(Prepare(), _START_SECONDS)

    def connect(self, place: Place) -> Description:
        """Connects to a device, and what its server says of it."""
        host, port = place.address
        self._ask(Connect(host, port, place.match_key, _SESSION_SECONDS), _SILENCE_SECONDS)
        try:
            return Description.parse(self.call(DESCRIBE))
        except ValueError as error:
            raise Lost(f"what serves at {place.address} is no server of tensoropt") from error

    def call(self, name: str, *arguments: bytes | float) -> str:
        """What a function of the server returns, as text."""
        return str(self._ask(Call(name, arguments), _SILENCE_SECONDS))

    def kill(self) -> None:
        """Ends the process and with it what is being called; may be called from another thread."""
        self._relay.signal(SIGKILL)

    def close(self) -> None:
        """Ends the connection."""
        self._relay.stop()

    def _ask(self, request: Prepare | Connect | Call, seconds: float) -> Any:
        try:
            kind, result = self._relay.ask(request, seconds)
        except Failed as failure:
            raise Lost(str(failure)) from failure
        if kind == "lost":
            raise Lost(str(result))
        return result
