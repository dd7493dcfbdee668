"""TVM's tracker as the tuner asks it: which devices there are, and one of them when it is free. No wait is without a bound."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from tensoropt.errors import UsageError

_REPLY_SECONDS = 5.0
"""What the tracker may take to answer what it need not wait for."""


class Unreachable(Exception):
    """A tracker that does not answer, or is none; the message says which, and names it."""


class Address(NamedTuple):
    """Where a program listens."""

    host: str
    port: int

    @staticmethod
    def parse(text: str, option: str = "--rpc") -> Address:
        """The address that ``HOST:PORT`` stands for; UsageError for another text."""
        host, _, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")  # as addresses of IPv6 are written
        if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 1 << 16:
            raise UsageError(f"{option} is HOST:PORT, where TVM's tracker listens, not {text!r}")
        return Address(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Place:
    """A device that the tracker gave away: where its server listens, and the word that it wants to hear."""

    address: Address
    match_key: str


class Pending:
    """A request for a device, which waits in the tracker's queue."""

    def __init__(self, tracker: Address, connection: socket.socket) -> None:
        self._tracker, self._connection = tracker, connection

    def poll(self, seconds: float) -> Place | None:
        """The device, None where none was free for so long. Unreachable where the tracker is gone."""
        if not select.select([self._connection], [], [], seconds)[0]:
            return None
        with _speaking_of(self._tracker):
            _, (host, port, match_key) = _receive(self._connection)
            return Place(Address(str(host), int(port)), str(match_key))


class Tracker:
    """One tracker, asked anew each time: it may have been started again in between."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def servers(self) -> Counter[str]:
        """How many servers are registered under each key, busy ones too. Unreachable."""
        with self._summarised() as summary:
            return Counter(str(server["key"]).removeprefix("server:") for server in summary["server_info"])

    def waiting(self, key: str) -> int:
        """How many requests wait for a device under a key. Unreachable."""
        with self._summarised() as summary:
            return int(summary["queue_info"].get(key, {"pending": 0})["pending"])

    @contextlib.contextmanager
    def requested(self, key: str, priority: int) -> Iterator[Pending]:
        """A request for a device under a key, the higher ``priority`` before the lower; withdrawn at the end of the context."""
        from tvm.rpc.base import TrackerCode

        with self._connected() as connection:
            with _speaking_of(self.address):
                _send(connection, [TrackerCode.REQUEST, key, "", priority])
            yield Pending(self.address, connection)

    def own_host(self) -> str:
        """The address of this machine that the tracker sees. Unreachable."""
        with self._connected() as connection:
            return str(connection.getsockname()[0])

    @contextlib.contextmanager
    def _summarised(self) -> Iterator[Any]:
        from tvm.rpc.base import TrackerCode

        with self._connected() as connection, _speaking_of(self.address):
            _send(connection, [TrackerCode.SUMMARY])
            _, summary = _receive(connection)
            yield summary

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        from tvm.rpc.base import RPC_TRACKER_MAGIC, recvall

        try:
            connection = socket.create_connection(self.address, _REPLY_SECONDS)
        except OSError as error:
            raise Unreachable(
                f"no tracker answers at {self.address} ({error.strerror or error}); "
                "start one with `python -m tvm.exec.rpc_tracker`"
            ) from error
        with connection:
            with _speaking_of(self.address):
                connection.sendall(struct.pack("<i", RPC_TRACKER_MAGIC))
                if struct.unpack("<i", recvall(connection, 4))[0] != RPC_TRACKER_MAGIC:
                    raise ValueError
            yield connection


@contextlib.contextmanager
def _speaking_of(address: Address) -> Iterator[None]:
    """Whatever goes wrong within is the tracker's."""
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, AttributeError, struct.error) as error:
        raise Unreachable(f"what listens at {address} does not answer as TVM's tracker does") from error


def _send(connection: socket.socket, message: Any) -> None:
    from tvm.rpc.base import sendjson

    sendjson(connection, message)


def _receive(connection: socket.socket) -> Any:
    from tvm.rpc.base import recvjson

    return recvjson(connection)
