"""A first run of an engine in a process of its own: whether it takes the model, and how much memory that takes.

A crash, a hang or a memory blow-up of a peer then costs its row and not the benchmark. Memory is counted from where the engine's
library has been imported and the inputs lie in memory, until the model has been loaded (compiled, where the engine compiles when it
loads) and run once: ``peak`` is the most resident memory on the way (``VmHWM``, reset before), ``resident`` what is held
afterwards, both less what was resident before.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensoropt.ir.program import Array
from tensoropt.isolated import Failed, Worker
from tensoropt.memory import forget_peak, peak_bytes, resident_bytes
from tensoropt.peers.peer import Peer, Refused, Shapes, brief
from tensoropt.serving import serve

MEMORY_BYTES = 1 << 40
"""Of address space, which engines reserve far more of than they use; the machine's memory is the limit."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried."""

    engine: Peer
    model: Path
    shapes: Shapes
    feeds: Mapping[str, Array]
    threads: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that loading a model and running it took."""

    peak: int
    resident: int


def first_run(trial: Trial, timeout: float) -> Memory:
    """Runs a trial. Refused, with a sentence, where the engine does not take the model, dies or takes longer than ``timeout``."""
    worker = Worker(__name__, timeout, MEMORY_BYTES, {"TVM_BIND_THREADS": "0", "TVM_NUM_THREADS": str(trial.threads)})
    try:
        kind, result = worker.ask(trial)
    except Failed as failure:
        raise Refused(f"{trial.engine.name} did not get through a first run: {failure}") from None
    finally:
        worker.stop()
    if kind != "done":
        raise Refused(str(result))
    return Memory(*result)


def answer(trial: Trial) -> tuple[str, Any]:
    """The reply to a request."""
    try:
        trial.engine.import_library()
        before = forget_peak()
        run = trial.engine.prepare(trial.model, trial.shapes, trial.threads)
        run(trial.feeds)
        return "done", (max(0, peak_bytes() - before), max(0, resident_bytes() - before))
    except Refused as error:
        return "refused", str(error)
    except MemoryError:
        return "refused", f"{trial.engine.name} ran out of memory"
    except Exception as error:  # whatever an engine raises is said in its row
        return "refused", f"{trial.engine.name} does not run the model ({brief(error)})"


def main(arguments: Sequence[str]) -> None:
    """Serves one connection, without a limit: what is reserved says little, and the machine's memory is one."""
    serve(arguments, answer, limited=None)


if __name__ == "__main__":
    main(sys.argv[1:])
