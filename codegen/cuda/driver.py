"""The CUDA driver as the runtime needs it: a dozen calls behind one interface.

`codegen.cuda.bindings` is the real one. There was no GPU where this was written: what uses the interface has been tested with a
driver that records calls and runs nothing, and the bindings with a library of ours in the driver's place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tensoropt.ir.program import Array

OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
NO_IMAGE = "CUDA_ERROR_NO_BINARY_FOR_GPU"

LEAST_DRIVER = 13000
"""The CUDA version that a driver must know, as it counts: 1000 times the major one. Cubins of nvcc 13 need it."""


class DriverError(Exception):
    """A call of the driver that failed. ``code`` is CUDA's name of the error."""

    def __init__(self, code: str, call: str) -> None:
        super().__init__(f"{call}: {code}")
        self.code, self.call = code, call


class NoDevice(Exception):
    """Nothing here runs CUDA; the message says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Device:
    """What the driver says of the GPU; sizes in bytes."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    driver: int
    """The newest CUDA version that the driver knows, as ``LEAST_DRIVER``."""
    dlpack: tuple[int, int] = (2, 0)
    """The kind and number by which DLPack knows it."""


class Driver(Protocol):
    """One GPU, one context, one stream. Every call may raise ``DriverError``; addresses are the device's."""

    @property
    def device(self) -> Device:
        """The GPU."""
        ...

    @property
    def stream(self) -> int:
        """The stream's handle, for libraries that hand over tensors."""
        ...

    def bind(self) -> None:
        """Makes the context the calling thread's; before its first call in a run."""
        ...

    def load(self, image: bytes) -> Any:
        """A module from a cubin."""
        ...

    def kernel(self, module: Any, name: str, dynamic_shared_bytes: int) -> Any:
        """A kernel of a module, allowed so much shared memory beside what its code declares."""
        ...

    def allocate(self, size: int) -> int:
        """Device memory, aligned to 256 bytes at least."""
        ...

    def free(self, address: int) -> None:
        """Gives memory back."""
        ...

    def free_bytes(self) -> int:
        """What is left of the device's memory."""
        ...

    def upload(self, address: int, data: Array) -> None:
        """Copies from the host, after what is on the stream."""
        ...

    def download(self, data: Array, address: int) -> None:
        """Copies to the host, after what is on the stream; complete after ``synchronise``."""
        ...

    def copy(self, to: int, source: int, size: int) -> None:
        """Copies within the device, on the stream."""
        ...

    def fill(self, address: int, size: int) -> None:
        """Writes zeros, on the stream."""
        ...

    def launch(
        self,
        kernel: Any,
        grid: Sequence[int],
        block: Sequence[int],
        dynamic_shared_bytes: int,
        arguments: Sequence[int],
    ) -> None:
        """Runs a kernel whose arguments are all addresses."""
        ...

    def begin_capture(self) -> None:
        """From here on the stream's work is recorded and not done."""
        ...

    def end_capture(self) -> Any:
        """What was recorded, ready to be replayed."""
        ...

    def replay(self, graph: Any) -> None:
        """Does what was recorded, on the stream."""
        ...

    def drop(self, graph: Any) -> None:
        """Forgets what was recorded."""
        ...

    def event(self) -> Any:
        """A mark that is set on the stream, for timing."""
        ...

    def record(self, event: Any) -> None:
        """Sets a mark behind what is on the stream."""
        ...

    def seconds_between(self, first: Any, last: Any) -> float:
        """How long the device took from one mark to another; after ``synchronise``."""
        ...

    def clocks(self) -> Mapping[str, int] | None:
        """Clocks in MHz now, by what they drive; None where they are not told."""
        ...

    def synchronise(self) -> None:
        """Waits for the stream."""
        ...

    def settle(self) -> None:
        """Waits for all streams of the context, those of other libraries too."""
        ...


def open_driver() -> Driver:
    """The driver of the first GPU that this process may use (CUDA_VISIBLE_DEVICES chooses). NoDevice where there is none."""
    from codegen.cuda.bindings import BindingsDriver

    return BindingsDriver()
