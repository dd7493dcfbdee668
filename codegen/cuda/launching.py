"""What a table says, ready to be put on a driver's stream: launches of kernels, and calls of libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.cuda.driver import Driver
from codegen.device.table import Called, Entry, Start
from codegen.libraries.library import Libraries
from tensoropt.errors import ArtefactError

Launcher = Callable[[Sequence[int]], None]
"""Puts an entry on the stream, on the addresses of its pointers."""


@dataclass(frozen=True, slots=True)
class _Launch:
    """A kernel with its blocks, threads and dynamic shared memory."""

    driver: Driver
    kernel: Any
    shared_bytes: int
    start: Start

    def __call__(self, addresses: Sequence[int]) -> None:
        self.driver.launch(self.kernel, self.start.grid, self.start.block, self.shared_bytes, addresses)


def launcher(driver: Driver, kernels: Mapping[str, tuple[Any, int]], libraries: Libraries, entry: Entry) -> Launcher:
    """An entry of a table. ArtefactError where its code, or its library, is missing."""
    if isinstance(entry, Called):
        return libraries.prepared(entry.call)
    if entry.kernel not in kernels:
        raise ArtefactError(f"the code of {entry.kernel} is missing from the artefact; optimize the model again")
    return _Launch(driver, *kernels[entry.kernel], entry)
