"""A driver without a GPU: memory is the host's, a kernel is a function of addresses, a graph is a list. It records every call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codegen.cuda.driver import OUT_OF_MEMORY, Device, DriverError
from tensoropt.ir.program import Array

Kernel = Callable[..., None]


def floats(address: int, count: int) -> Array:
    """The numbers at an address, which may be written."""
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))


class FakeDriver:
    """`codegen.cuda.driver.Driver` whose kernels are Python. ``failing`` has calls that fail, with the error of each."""

    def __init__(
        self, kernels: dict[str, Kernel], memory_bytes: int = 1 << 24, capability: tuple[int, int] = (9, 0)
    ) -> None:
        self.device = Device("a fake GPU", capability, 132, memory_bytes, 13000)
        self.stream = 77
        self.calls: list[str] = []
        self.failing: dict[str, str] = {}
        self.allocations: dict[int, Any] = {}
        self.kernels = kernels
        self.replayed = 0.0
        self._left = memory_bytes
        self._recording: list[Callable[[], None]] | None = None

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise DriverError(self.failing[name], name)

    def count(self, name: str) -> int:
        """How often a call was made."""
        return self.calls.count(name)

    def _do(self, work: Callable[[], None]) -> None:
        if self._recording is None:
            work()
        else:
            self._recording.append(work)

    @staticmethod
    def _move(to: int, source: int, size: int) -> None:
        ctypes.memmove(to, source, size)

    def bind(self) -> None:
        self._called("bind")

    def load(self, image: bytes) -> bytes:
        self._called("load")
        return image

    def kernel(self, module: bytes, name: str, dynamic_shared_bytes: int) -> tuple[str, int]:
        self._called("kernel")
        assert module.startswith(b"\x7fELF")
        return name, dynamic_shared_bytes

    def allocate(self, size: int) -> int:
        self._called("allocate")
        if size > self._left:
            raise DriverError(OUT_OF_MEMORY, "cuMemAlloc")
        self._left -= size
        raw = (ctypes.c_uint8 * (size + 256))()
        address = -(-ctypes.addressof(raw) // 256) * 256
        ctypes.memset(address, 0xCC, size)
        self.allocations[address] = (raw, size)
        return address

    def free(self, address: int) -> None:
        self._called("free")
        self._left += self.allocations.pop(address)[1]

    def free_bytes(self) -> int:
        return self._left

    def upload(self, address: int, data: Array) -> None:
        self._called("upload")
        assert self._recording is None, "copies are no part of the graph"
        assert data.flags.c_contiguous
        ctypes.memmove(address, data.ctypes.data, data.nbytes)

    def download(self, data: Array, address: int) -> None:
        self._called("download")
        assert self._recording is None
        ctypes.memmove(data.ctypes.data, address, data.nbytes)

    def copy(self, to: int, source: int, size: int) -> None:
        self._called("copy")
        self._do(lambda: self._move(to, source, size))

    def fill(self, address: int, size: int) -> None:
        self._called("fill")
        zeros = np.zeros(size, np.uint8)
        self._do(lambda: self._move(address, zeros.ctypes.data, size))

    def launch(
        self,
        kernel: tuple[str, int],
        grid: Sequence[int],
        block: Sequence[int],
        dynamic_shared_bytes: int,
        arguments: Sequence[int],
    ) -> None:
        self._called("launch")
        name, allowed = kernel
        assert len(grid) == len(block) == 3
        assert dynamic_shared_bytes <= allowed
        self._do(lambda: self.kernels[name](*arguments))

    def begin_capture(self) -> None:
        self._called("begin_capture")
        self._recording = []

    def end_capture(self) -> list[Callable[[], None]]:
        self._called("end_capture")
        assert self._recording is not None
        recorded, self._recording = self._recording, None
        return recorded

    def replay(self, graph: list[Callable[[], None]]) -> None:
        self._called("replay")
        self.replayed += len(graph)
        for work in graph:
            work()

    def drop(self, graph: list[Callable[[], None]]) -> None:
        self._called("drop")
        graph.clear()

    def event(self) -> list[float]:
        self._called("event")
        return []

    def record(self, event: list[float]) -> None:
        """Time stands still but for replays: a graph takes as many seconds as it has launches."""
        self._called("record")
        event.append(self.replayed)

    def seconds_between(self, first: list[float], last: list[float]) -> float:
        self._called("seconds_between")
        return last[-1] - first[-1]

    def clocks(self) -> dict[str, int] | None:
        return {"graphics": 1980, "memory": 3201}

    def synchronise(self) -> None:
        self._called("synchronise")

    def settle(self) -> None:
        self._called("settle")
