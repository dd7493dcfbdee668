"""Interrupts that end one stage of a run and not the run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType


@contextmanager
def first_interrupt(notice: Callable[[], None] | None) -> Iterator[Event]:
    """An event that the first interrupt (Ctrl-C) within the context sets, after ``notice`` was called.

    A second one raises KeyboardInterrupt, as the first does where ``notice`` is None, or where another thread than the main one
    asks, which cannot handle signals. Where interrupts are ignored (a job in the background), they stay so.
    """
    event = Event()
    before = signal.getsignal(signal.SIGINT)
    if notice is None or before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        event.set()
        notice()

    signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
