"""What a device's server does in the process of one session: a measuring process of its own answers, whatever happens to it.

The functions are those of ``calls``. What became of a request is JSON: ``reply`` (the measuring process's own), ``failed`` or
``late`` (why there is none), or ``lost`` (this server cannot go on); with it whether the measuring process is ``running`` and how
often it has ``starts``. Requests are pickled, as TVM's RPC lets whoever connects load and run code anyway; replies are data, of
which the tuner runs nothing.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
from functools import cache
from queue import Empty, Queue
from threading import Thread
from typing import Any

from codegen.targets.parsing import Target
from codegen.tune.remote.calls import DESCRIBE, RECEIVE, SEND
from codegen.tune.remote.description import Description
from codegen.tune.remote.turns import Turns
from codegen.tune.requests import Time
from codegen.tune.session import physical_bytes
from tensoropt.isolated import Failed, Late, Worker
from tensoropt.serving import end_with_parent, reason

SILENCE_SECONDS = 45
"""A session in which nothing was called for so long has lost who calls: the process ends, and the server serves another."""


class Service:
    """A measuring process, asked without waiting.

    The thread that asks lives as long as this process, as the measuring process ends with the thread that started it.
    """

    def __init__(self, target: Target, module: str) -> None:
        self._worker = Worker(module, memory_bytes=physical_bytes())
        self._turns = Turns(_shared_with(target))
        self._requests: Queue[tuple[bytes, float]] = Queue()
        self._results: Queue[str] = Queue()
        Thread(target=self._serve, daemon=True).start()

    def send(self, data: bytes, seconds: float) -> None:
        """Begins a request."""
        self._requests.put((data, seconds))

    def receive(self, seconds: float) -> str:
        """What became of it; an empty text where it is not done after so long."""
        try:
            return self._results.get(timeout=seconds)
        except Empty:
            return ""

    def _serve(self) -> None:
        while True:
            outcome = self._outcome(*self._requests.get())
            state = {"running": self._worker.running, "starts": self._worker.starts}
            self._results.put(json.dumps({**outcome, **state}))

    def _outcome(self, data: bytes, seconds: float) -> dict[str, Any]:
        try:
            request = pickle.loads(data)
            with self._turns.alone() if isinstance(request, Time) else self._turns.beside_others():
                return {"reply": self._worker.ask(request, seconds)}
        except Late as late:
            return {"late": str(late)}
        except Failed as failure:
            return {"failed": str(failure)}
        except Exception as error:  # a full disk, say: no candidate's fault
            return {"lost": reason(error)}


def register(description: Description, target: Target, module: str) -> None:
    """Registers the functions, for sessions in processes that are forked from this one later."""
    from tvm_ffi import register_global_func

    @cache
    def service() -> Service:
        return Service(target, module)

    def describe() -> str:
        signal.alarm(SILENCE_SECONDS)
        return description.as_text()

    def send(data: Any, seconds: float) -> None:
        signal.alarm(SILENCE_SECONDS)
        service().send(bytes(data), seconds)

    def receive(seconds: float) -> str:
        signal.alarm(SILENCE_SECONDS)
        return service().receive(seconds)

    for name, function in ((DESCRIBE, describe), (SEND, send), (RECEIVE, receive)):
        register_global_func(name, function, override=True)
    os.register_at_fork(after_in_child=end_with_parent)


def _shared_with(target: Target) -> str:
    """What devices of one name disturb one another. OpenCL is PoCL here, which computes on the processor too."""
    if target.kind == "cuda":
        return f"cuda {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"
    return "processor"
