"""What the process that holds a connection is asked for. A module of its own, so that both processes know the same classes."""

from __future__ import annotations

from dataclasses import dataclass

DESCRIBE = "tensoropt.measuring.describe"
"""() → a ``Description`` as text."""
SEND = "tensoropt.measuring.send"
"""(a pickled request, seconds that it may take) → nothing. Begins it; one at a time."""
RECEIVE = "tensoropt.measuring.receive"
"""(seconds to wait) → what became of the request as JSON (``service``), or an empty text where it is not done."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Import what connecting needs."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to a server of TVM's RPC. The server ends the session after ``session_seconds`` by itself."""

    host: str
    port: int
    match_key: str
    session_seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """Call a packed function of the server."""

    name: str
    arguments: tuple[bytes | float, ...] = ()
