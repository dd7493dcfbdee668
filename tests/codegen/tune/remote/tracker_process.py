"""TVM's tracker in one process, which ``python -m tvm.exec.rpc_tracker`` makes two of: tests kill it."""

from __future__ import annotations

import sys

sys.modules["torch"] = None  # type: ignore[assignment]  # it would be imported for nothing, at every start

from tvm.rpc.tracker import PopenTrackerServerState  # noqa: E402

if __name__ == "__main__":
    port = int(sys.argv[1])
    PopenTrackerServerState("127.0.0.1", port, port + 1, silent=True).thread.join()
