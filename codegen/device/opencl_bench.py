"""An OpenCL device as candidates are measured on it; see ``codegen.device.bench``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from codegen.device.bench import DeviceFailed
from codegen.device.opencl import Code, Memory, launch_of
from codegen.device.table import Entry, Place
from tensoropt.ir.program import Array

_PROCESSOR_BYTES = 1 << 20
"""Of a processor behind OpenCL, whose caches hold in a model too what the kernel before has written."""


class OpenClBench:
    """`codegen.device.bench.Bench` of the device that a source was compiled for."""

    def __init__(self, code: Code) -> None:
        import pyopencl as cl

        self._code = code
        self._queue = cl.CommandQueue(code.context, properties=cl.command_queue_properties.PROFILING_ENABLE)
        gpu = bool(code.device.type & cl.device_type.GPU)
        self.cache_bytes = int(code.device.global_mem_cache_size) if gpu else _PROCESSOR_BYTES

    def memory(self, size: int) -> Memory:
        """See ``Bench``."""
        return Memory(self._code, size)

    def write(self, memory: Memory, array: Array) -> None:
        """See ``Bench``."""
        with _failures():
            memory.write(self._queue, array)
            self._queue.finish()

    def read(self, memory: Memory, array: Array) -> None:
        """See ``Bench``."""
        with _failures():
            memory.read(self._queue, array)
            self._queue.finish()

    def launches(self, starts: Sequence[Entry], at: Callable[[Place], Any]) -> list[Any]:
        """See ``Bench``."""
        return [launch_of(self._code, start, at) for start in starts]

    def run(self, launches: list[Any]) -> None:
        """See ``Bench``."""
        import pyopencl as cl

        with _failures():
            for kernel, everything, block in launches:
                cl.enqueue_nd_range_kernel(self._queue, kernel, everything, block)
            self._queue.finish()

    def timer(self, copies: Sequence[list[Any]]) -> Callable[[], float]:
        """See ``Bench``. The device begins when all is enqueued, so that it never waits for the host."""
        import pyopencl as cl

        together = [launch for launches in copies for launch in launches]

        def seconds() -> float:
            with _failures():
                gate = cl.UserEvent(self._code.context)
                waits: list[Any] | None = [gate]
                events = []
                try:
                    for kernel, everything, block in together:
                        events.append(
                            cl.enqueue_nd_range_kernel(self._queue, kernel, everything, block, wait_for=waits)
                        )
                        waits = None
                finally:  # whatever was enqueued would wait for ever
                    gate.set_status(cl.command_execution_status.COMPLETE)
                self._queue.finish()
                if not events:
                    return 0.0
                return float(events[-1].profile.end - events[0].profile.start) * 1e-9 / len(copies)

        return seconds

    def clocks(self) -> None:
        """See ``Bench``: OpenCL knows only the largest."""
        return None


@contextmanager
def _failures() -> Iterator[None]:
    import pyopencl as cl

    try:
        yield
    except cl.Error as error:
        raise DeviceFailed(str(error).splitlines()[0]) from error
