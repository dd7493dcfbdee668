"""The process that holds a connection to a device: TVM's calls wait without a limit, and may end the process that makes them.

So they are made here, and whoever waits too long for an answer ends this process, with which the connection ends.
"""

from __future__ import annotations

import sys
from typing import Any

from codegen.tune.remote.calls import Call, Connect, Prepare
from tensoropt.serving import reason, serve


def _answer(sessions: list[Any], request: Prepare | Connect | Call) -> tuple[str, Any]:
    from tvm import rpc

    try:
        match request:
            case Prepare():
                return "prepared", None
            case Connect():
                timeout = int(request.session_seconds)
                sessions.append(rpc.connect(request.host, request.port, request.match_key, timeout))
                return "connected", None
            case Call():
                found = sessions[-1].get_function(request.name)(*request.arguments)
                return "called", None if found is None else str(found)
    except Exception as error:  # whatever it is, the device is of no use any more
        return "lost", reason(error)


def main() -> None:
    """Serves requests for one connection."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # TVM's interface would import it for nothing
    sessions: list[Any] = []
    serve(sys.argv[1:], lambda request: _answer(sessions, request))


if __name__ == "__main__":
    main()
