"""The process that builds a kernel under a schedule and times it on random inputs. Started by ``metaschedule``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from codegen.kernel import compile_kernel
from codegen.runtime import configure_threads
from codegen.targets.cpu import CpuTarget
from codegen.tune.metaschedule import Build, Time
from codegen.tune.serving import replying
from tensoropt.serving import serve

_PROCESSORS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


class _Bench:
    """The kernel that was built last."""

    def __init__(self) -> None:
        self.threads = 1
        self.run: Callable[[], None] | None = None

    def __call__(self, request: Any) -> Any:
        match request:
            case Build(target=CpuTarget() as target):
                self.run, self.threads = None, target.threads
                if _PROCESSORS is not None:  # TVM pins the thread that runs a kernel: builds would share one processor
                    os.sched_setaffinity(0, _PROCESSORS)
                kernel = compile_kernel(request.kernel, target, variant=request.variant)
                generator = np.random.default_rng(0)
                values = {
                    tensor.name: generator.uniform(0, 2, tuple(map(int, tensor.shape))).astype(tensor.dtype.numpy)
                    for tensor in kernel.kernel.inputs
                }
                self.run = kernel.prepared(values)
                return 0.0
            case Time() if self.run is not None:
                configure_threads(self.threads)
                return _fastest(self.run, request.seconds)
            case _:
                raise ValueError(f"no such request: {request!r}")


def _fastest(run: Callable[[], None], seconds: float) -> float:
    """Seconds of the fastest run: on a busy machine only the fastest says something. What takes long runs once."""
    best, spent, count = float("inf"), 0.0, 0
    while spent < seconds or (count < 3 and best < seconds):
        started = time.perf_counter()
        run()
        taken = time.perf_counter() - started
        best, spent, count = min(best, taken), spent + taken, count + 1
    return best


if __name__ == "__main__":
    serve(sys.argv[1:], replying(_Bench()))
