"""A device as candidates are measured on it: memory that is written and read, kernels that are run and timed by its own events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from codegen.device.table import Entry, Place
from tensoropt.ir.program import Array


class DeviceFailed(Exception):
    """The device did not do what it was asked to, as after an illegal address. Nothing in this process works there any more."""


class Memory(Protocol):
    """Bytes on the device; they are given back when nothing refers to them."""

    def at(self, offset: int) -> Any:
        """The memory from a byte on, as kernels take it."""
        ...


class Bench(Protocol):
    """One device, with compiled kernels. Whatever is asked of it may raise ``DeviceFailed``."""

    @property
    def cache_bytes(self) -> int:
        """The last cache before the device's memory, out of which no kernel is to be timed."""
        ...

    def memory(self, size: int) -> Memory:
        """So many bytes on the device, aligned to 256. UsageError or ArtefactError where there is no room."""
        ...

    def write(self, memory: Any, array: Array) -> None:
        """Copies a contiguous array to the first bytes of a memory."""
        ...

    def read(self, memory: Any, array: Array) -> None:
        """Copies the first bytes of a memory to a contiguous array."""
        ...

    def launches(self, starts: Sequence[Entry], at: Callable[[Place], Any]) -> Any:
        """The launches of a table on memories that ``at`` gives."""
        ...

    def run(self, launches: Any) -> None:
        """Does the launches, and waits for them."""
        ...

    def timer(self, copies: Sequence[Any]) -> Callable[[], float]:
        """Times the launches of ``copies`` one after another: seconds of one of them, between events of the device."""
        ...

    def clocks(self) -> Mapping[str, int] | None:
        """Clocks in MHz now, by what they drive; None where the device does not tell them."""
        ...
