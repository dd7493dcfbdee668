"""The process that holds a connection to a device: TVM's calls wait without a limit, and may end the process that makes them.

So they are made here, and whoever waits too long for an answer ends this process, with which the connection ends.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from threading import Lock, Thread
from typing import Any

from codegen.tune.remote.calls import DESCRIBE, Call, Connect, Prepare
from tensoropt.serving import reason, serve

_KEEP_SECONDS = 10.0


class _Relay:
    """One connection. Something is called every few seconds, so that the server sees that it is still there."""

    def __init__(self) -> None:
        self._session: Any = None
        self._turn = Lock()

    def answer(self, request: Prepare | Connect | Call) -> tuple[str, Any]:
        from tvm import rpc

        try:
            match request:
                case Prepare():
                    return "prepared", None
                case Connect():
                    timeout = int(request.session_seconds)
                    self._session = rpc.connect(request.host, request.port, request.match_key, timeout)
                    Thread(target=self._keep, daemon=True).start()
                    return "connected", None
                case Call():
                    found = self._call(request)
                    return "called", None if found is None else str(found)
        except Exception as error:  # whatever it is, the device is of no use any more
            return "lost", reason(error)

    def _call(self, call: Call) -> Any:
        with self._turn:
            return self._session.get_function(call.name)(*call.arguments)

    def _keep(self) -> None:
        with suppress(Exception):  # who asks next finds out
            while True:
                time.sleep(_KEEP_SECONDS)
                self._call(Call(DESCRIBE))


def main() -> None:
    """Serves requests for one connection."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # TVM's interface would import it for nothing
    serve(sys.argv[1:], _Relay().answer)


if __name__ == "__main__":
    main()
