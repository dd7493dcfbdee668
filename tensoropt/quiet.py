"""Quiet while kernels are timed: what computes in the background pauses, so that it does not sit on the cores that are timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol


class Pausable(Protocol):
    """Work in the background that can be held."""

    def pause(self) -> None:
        """Stops at once, until ``resume``."""
        ...

    def resume(self) -> None:
        """Goes on."""
        ...


class Quiet:
    """Brings together who works in the background and who times. Of several that time, one does at a time."""

    def __init__(self) -> None:
        self._working: list[Pausable] = []
        self._turn = Lock()

    @contextmanager
    def pausing(self, work: Pausable) -> Iterator[None]:
        """The work pauses whenever quiet is kept within this context."""
        self._working.append(work)
        try:
            yield
        finally:
            self._working.remove(work)

    @contextmanager
    def kept(self, besides: Pausable | None = None) -> Iterator[None]:
        """Nothing that was registered runs within this context, but what is timed in it."""
        with self._turn:
            working = [work for work in self._working if work is not besides]
            for work in working:
                work.pause()
            try:
                yield
            finally:
                for work in working:
                    work.resume()
