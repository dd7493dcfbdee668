"""Who is alone is alone, on the whole machine; others are beside one another."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import pytest

from codegen.tune.remote.turns import Turns


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def entered(turns: Turns, alone: bool) -> tuple[Event, Event, Thread]:
    """A thread that enters: it is within from the first event on until the second."""
    within, leave = Event(), Event()

    def enter() -> None:
        with turns.alone() if alone else turns.beside_others():
            within.set()
            leave.wait(60)

    thread = Thread(target=enter, daemon=True)
    thread.start()
    return within, leave, thread


def test_others_are_beside_one_another() -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Turns("a").beside_others())


@pytest.mark.parametrize("first_alone", [True, False])
@pytest.mark.parametrize("then_alone", [True, False])
def test_who_is_alone_waits_and_is_waited_for(first_alone: bool, then_alone: bool) -> None:
    first, leave_first, _ = entered(Turns("a"), first_alone)
    assert first.wait(60)
    second, leave_second, _ = entered(Turns("a"), then_alone)
    assert second.wait(0.2) == (not first_alone and not then_alone)
    leave_first.set()
    assert second.wait(60)
    leave_second.set()


def test_who_waits_to_be_alone_comes_before_who_comes_later() -> None:
    first, leave_first, _ = entered(Turns("a"), alone=False)
    assert first.wait(60)
    alone, leave_alone, waiting = entered(Turns("a"), alone=True)
    while not waiting.is_alive():
        time.sleep(0.01)
    assert not alone.wait(0.3)
    late, leave_late, _ = entered(Turns("a"), alone=False)
    assert not late.wait(0.3)
    leave_first.set()
    assert alone.wait(60)
    assert not late.is_set()
    leave_alone.set()
    assert late.wait(60)
    leave_late.set()


def test_other_names_are_other_turns() -> None:
    with Turns("a").alone(), Turns("b").alone():
        pass
