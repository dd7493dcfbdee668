"""The process that builds a kernel under a schedule for a device and times it there, as ``trying`` does for the CPU.

Started by ``metaschedule``. What a candidate writes outside its output is found; whether the output is right is judged later.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

from codegen.tune.comparing import seeded
from codegen.tune.device_building import build_for_device, guarded
from codegen.tune.device_run import GuardedDeviceRun
from codegen.tune.measuring import as_program
from codegen.tune.metaschedule import Build, Time
from codegen.tune.requests import Build as BuildAlternative
from codegen.tune.serving import replying
from tensoropt.cost import Alternative
from tensoropt.serving import serve


class _Bench:
    """The kernel that was built last, with buffers on the device between guard zones."""

    def __init__(self) -> None:
        self.run: GuardedDeviceRun | None = None

    def __call__(self, request: Any) -> Any:
        match request:
            case Build():
                self.run = None
                self.run = _built(request)
                self.run()  # what compiles a kernel when it is first started compiles it now
                self.run.finish()
                return 0.0
            case Time() if self.run is not None:
                return _fastest(self.run, request.seconds)
            case _:
                raise ValueError(f"no such request: {request!r}")


def _built(request: Build) -> GuardedDeviceRun:
    kernel = request.kernel
    asked = BuildAlternative(
        0,
        Alternative((kernel,), (kernel.output,)),
        request.target,
        memory_bytes=0,
        variants={kernel.output.name: request.variant},
        layout=request.layout,
    )
    program, plan = as_program(asked.alternative, seeded)
    feeds = {tensor.name: seeded(tensor) for tensor in program.inputs}
    return guarded(build_for_device(program, plan, asked), feeds, asked)


def _fastest(run: GuardedDeviceRun, seconds: float) -> float:
    """Seconds of the fastest run. What takes long runs once."""
    deadline = time.perf_counter() + seconds
    best = run.seconds()
    while time.perf_counter() < deadline:
        best = min(best, run.seconds())
    return best


if __name__ == "__main__":
    serve(sys.argv[1:], replying(_Bench()), resource.RLIMIT_DATA)
