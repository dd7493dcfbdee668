"""The first interrupt ends a stage, the second the run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from threading import Event, Thread

import pytest

from tensoropt.interrupts import first_interrupt


@pytest.fixture(autouse=True)
def heeded() -> Generator[None]:
    """Interrupts as in the foreground, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt(times: int) -> None:
    """Ctrl-C, handled before this returns."""
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)


def test_the_first_is_told_and_the_second_raises() -> None:
    told: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with first_interrupt(lambda: told.append("first")) as stop:
        assert not stop.is_set()
        interrupt(1)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            interrupt(1)
    assert told == ["first"]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_notice_and_after_the_stage_the_first_raises() -> None:
    with first_interrupt(None) as stop, pytest.raises(KeyboardInterrupt):
        interrupt(1)
    assert not stop.is_set()
    with first_interrupt(lambda: None):
        pass
    with pytest.raises(KeyboardInterrupt):
        interrupt(1)


def test_ignored_interrupts_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told: list[str] = []
    with first_interrupt(lambda: told.append("first")) as stop:
        interrupt(2)
    assert not stop.is_set()
    assert told == []


def test_another_thread_leaves_interrupts_alone() -> None:
    found: list[Event] = []

    def stage() -> None:
        with first_interrupt(lambda: None) as stop:
            found.append(stop)

    before = signal.getsignal(signal.SIGINT)
    thread = Thread(target=stage)
    thread.start()
    thread.join()
    assert len(found) == 1
    assert signal.getsignal(signal.SIGINT) is before
