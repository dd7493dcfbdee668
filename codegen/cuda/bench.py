"""A GPU as candidates are measured on it; see ``codegen.device.bench``.

It has not run on a GPU: it was tested with a driver that does in host memory what a GPU would be told to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from codegen.cuda.driver import OUT_OF_MEMORY, Driver, DriverError
from codegen.cuda.launching import Launcher, launcher
from codegen.cuda.runtime import Image, loaded_kernels
from codegen.device.bench import DeviceFailed
from codegen.device.table import Entry, Place
from codegen.libraries.library import Libraries, Open, open_library
from tensoropt.errors import ArtefactError
from tensoropt.ir.program import Array

_BURST = 20
"""Runs between two events at least: one may be shorter than what the driver does around a graph."""

Launches = list[tuple[Launcher, list[int]]]
"""What is put on the stream, on which addresses."""


class CudaMemory:
    """See ``codegen.device.bench.Memory``."""

    def __init__(self, driver: Driver, size: int) -> None:
        self._driver = driver
        self.address = driver.allocate(max(size, 1))

    def at(self, offset: int) -> int:
        """See ``Memory``."""
        return self.address + offset

    def __del__(self) -> None:
        if hasattr(self, "address"):
            with contextlib.suppress(DriverError):  # after an illegal address nothing is given back
                self._driver.free(self.address)


class CudaBench:
    """`codegen.device.bench.Bench` of a GPU; ``cache_bytes`` is its L2's. ArtefactError where the code is for another."""

    def __init__(self, driver: Driver, images: Sequence[Image], cache_bytes: int, opened: Open = open_library) -> None:
        self._driver, self.cache_bytes = driver, cache_bytes
        self._libraries = Libraries(driver.stream, opened)
        with _failures():
            driver.bind()
            self._kernels = loaded_kernels(driver, images)
            self._first, self._last = driver.event(), driver.event()

    def memory(self, size: int) -> CudaMemory:
        """See ``Bench``."""
        try:
            return CudaMemory(self._driver, size)
        except DriverError as error:
            if error.code != OUT_OF_MEMORY:
                raise DeviceFailed(str(error)) from error
            raise ArtefactError(f"{self._driver.device.name} has no room for {size} bytes") from error

    def write(self, memory: CudaMemory, array: Array) -> None:
        """See ``Bench``."""
        with _failures():
            if array.nbytes:
                self._driver.upload(memory.address, array)
            self._driver.synchronise()

    def read(self, memory: CudaMemory, array: Array) -> None:
        """See ``Bench``."""
        with _failures():
            if array.nbytes:
                self._driver.download(array, memory.address)
            self._driver.synchronise()

    def launches(self, starts: Sequence[Entry], at: Callable[[Place], int]) -> Launches:
        """See ``Bench``. ArtefactError where a library has no such way to do what it is called for."""
        with _failures():
            return [
                (
                    launcher(self._driver, self._kernels, self._libraries, start),
                    [at(place) for place in start.arguments],
                )
                for start in starts
            ]

    def run(self, launches: Launches) -> None:
        """See ``Bench``."""
        with _failures():
            self._enqueue(launches)
            self._driver.synchronise()

    def timer(self, copies: Sequence[Launches]) -> Callable[[], float]:
        """See ``Bench``. Runs are one CUDA graph, as a model's are; while it runs once, the driver gets the graph that is timed."""
        driver, times = self._driver, -(-_BURST // len(copies))
        graphs: list[Any] = []

        def seconds() -> float:
            with _failures():
                if not graphs:
                    graphs.append(self._recorded([launches for _ in range(times) for launches in copies]))
                driver.replay(graphs[0])
                driver.record(self._first)
                driver.replay(graphs[0])
                driver.record(self._last)
                driver.synchronise()
                return driver.seconds_between(self._first, self._last) / (times * len(copies))

        return seconds

    def clocks(self) -> Mapping[str, int] | None:
        """See ``Bench``."""
        return self._driver.clocks()

    def _recorded(self, runs: Sequence[Launches]) -> Any:
        self._driver.begin_capture()
        try:
            for launches in runs:
                self._enqueue(launches)
        except DriverError:
            self._driver.drop(self._driver.end_capture())
            raise
        return self._driver.end_capture()

    def _enqueue(self, launches: Launches) -> None:
        for launch, addresses in launches:
            launch(addresses)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except DriverError as error:
        raise DeviceFailed(str(error)) from error
