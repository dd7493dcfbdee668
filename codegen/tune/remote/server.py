"""The program on a device's machine: offers the device through TVM's RPC to whoever tunes for it, under a key of TVM's tracker.

    python -m codegen.tune.remote.server --tracker HOST:PORT --key NAME --target cpu|opencl|cuda [--threads N] [--port PORT]
        [--host ADDRESS] [--announce ADDRESS]

It listens at the address by which this machine reaches the tracker (``--host`` names another; ``--announce`` what the tracker
shall tell, where a router stands between) and at the first free port from ``--port`` on, 9091 unless it is given. It serves one
tuner at a time until it is ended, waits for a tracker that is not there, and registers again with one that comes back. Start one
for each device; several for processors of one machine measure in turn.

TVM's RPC does not ask who connects, and lets whoever does run any code as the user of this program, as do the requests that it
answers: let it listen only where all machines and users are trusted.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from codegen.tune.remote.tracker import Address, Tracker, Unreachable
from codegen.tune.session import MEASURING
from tensoropt.errors import TensoroptError, UsageError

_PORT = 9091
_PORTS = 100
"""How many are tried."""
_PAUSE_SECONDS = 1.0
"""Between attempts to reach the tracker, and to listen again."""


def serve(tracker: Address, key: str, target: str, options: argparse.Namespace, module: str | None = None) -> None:
    """Serves without an end, by the measuring process ``module`` where one is given.

    UsageError for a target that is not here, or an address where it cannot listen.
    """
    from codegen.targets.parsing import parse_target
    from codegen.tune.remote.description import Description
    from codegen.tune.remote.service import register

    if options.threads is not None and options.threads < 1:
        raise UsageError(f"--threads is a positive number, not {options.threads}")
    parsed = parse_target(target, options.threads)
    description = Description.here(parsed)
    register(description, parsed, module or MEASURING[parsed.kind])
    host, folder = options.host or _host(tracker), os.getcwd()
    threading.excepthook = _tell_of_session
    while True:
        state = _listening(host, options.port, tracker, key, options.announce)
        address = Address(host, state.port)
        _say(f"serving {description.device} ({target}) at {address} as {key!r} of the tracker at {tracker}")
        state.thread.join()  # it ends with a session whose process died, and where the tracker is away for long
        state.sock.close()
        os.chdir(folder)  # such a session leaves its own, which is removed
        time.sleep(_PAUSE_SECONDS)
        _host(tracker)


def _listening(host: str, port: int, tracker: Address, key: str, announced: str | None) -> Any:
    """A thread that serves: what ``tvm.rpc.Server`` runs in a process of its own, which would go on where this one is killed."""
    from tvm.rpc.server import PopenRPCServerState

    try:
        return PopenRPCServerState(host, port, port + _PORTS, False, tracker, key, custom_addr=announced, silent=True)
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(f"nothing can listen at {Address(host, port)} or at the ports after it: {error}") from error


def _tell_of_session(problem: threading.ExceptHookArgs) -> None:
    _say(f"a session ended before it was closed ({problem.exc_value}); serving again")


def _host(tracker: Address) -> str:
    """The address by which this machine reaches the tracker, as soon as it answers."""
    told = False
    while True:
        try:
            return Tracker(tracker).own_host()
        except Unreachable as error:
            if not told:
                _say(f"{error}; waiting for it")
                told = True
            time.sleep(_PAUSE_SECONDS)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m codegen.tune.remote.server", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--tracker", metavar="HOST:PORT", required=True, help="where TVM's tracker listens")
    parser.add_argument("--key", metavar="NAME", required=True, help="what tuners ask the tracker for")
    parser.add_argument(
        "--target", default="cpu", help="cpu, cuda or opencl: the device that is offered; cpu by default"
    )
    parser.add_argument("--threads", type=int, help="of the target cpu; all processors by default")
    parser.add_argument("--port", type=int, default=_PORT, help=f"the first port that is tried; {_PORT} by default")
    parser.add_argument(
        "--host", metavar="ADDRESS", help="where to listen; by default where the tracker sees this machine"
    )
    parser.add_argument("--announce", metavar="ADDRESS", help="what tuners connect to, where that is another address")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str], module: str | None = None) -> int:
    """Serves as the arguments say; the exit status where that ends."""
    options = _parsed(arguments)
    try:
        serve(Address.parse(options.tracker, "--tracker"), options.key, options.target, options, module)
    except TensoroptError as error:
        _say(str(error))
        return error.exit_status
    return 0


def _say(text: str) -> None:
    print(f"tensoropt server: {text}", file=sys.stderr, flush=True)


def run() -> None:
    """The program; a Ctrl-C ends it with its sessions."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # TVM's interface would import it for nothing
    try:
        status = main(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    os._exit(status)  # the thread that listens would go on


if __name__ == "__main__":
    run()
