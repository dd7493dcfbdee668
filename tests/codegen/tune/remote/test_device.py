"""The stand-in for a measuring process tells a candidate's faults from a device's, whatever the other end says."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from signal import SIGKILL
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.tune.remote import device
from codegen.tune.remote.calls import RECEIVE, SEND
from codegen.tune.remote.device import RemoteDevice
from codegen.tune.remote.fleet import Fleet
from codegen.tune.remote.link import Link
from codegen.tune.requests import Forget
from tensoropt.isolated import Failed, Late, Lost


class Scripted:
    """A connection whose server answers as it is told: with a text, or not at all."""

    def __init__(self, *answers: str | Lost) -> None:
        self.answers, self.requests, self.killed = list(answers), list[Any](), False

    def call(self, name: str, *arguments: bytes | float) -> str:
        """See ``Link``."""
        if name == SEND:
            self.requests.append(pickle.loads(cast(bytes, arguments[0])))
            return ""
        assert name == RECEIVE
        answer = self.answers.pop(0)
        if isinstance(answer, Lost):
            raise answer
        return answer

    def kill(self) -> None:
        """See ``Link``."""
        self.killed = True


class Lending:
    """A fleet of scripted devices."""

    def __init__(self, *links: Scripted) -> None:
        self.links, self.released = list(links), list[tuple[Scripted, bool]]()
        self.hopeless = self.is_shared = False

    def acquire(self, wanted: Callable[[], bool]) -> Scripted | None:
        """See ``Fleet``."""
        return self.links.pop(0) if self.links and wanted() else None

    def release(self, link: Scripted, lost: bool = False) -> None:
        """See ``Fleet``."""
        self.released.append((link, lost))


def lent(*links: Scripted) -> tuple[RemoteDevice, Lending]:
    lending = Lending(*links)
    return RemoteDevice(cast(Fleet, lending)), lending


def said(starts: int = 1, running: bool = True, **outcome: Any) -> str:
    """What a server says."""
    return json.dumps({**outcome, "starts": starts, "running": running})


def test_a_reply_is_waited_for() -> None:
    link = Scripted("", "", said(reply=["built", [1, ["a"], [2]]]))
    asked, lending = lent(link)
    assert not asked.running
    assert asked.ask(Forget(), 3.0) == ("built", [1, ["a"], [2]])
    assert link.requests == [Forget()]
    assert asked.running
    asked.stop()
    assert not asked.running
    assert lending.released == [(link, False)]


def test_the_faults_of_a_candidate_do_not_cost_the_device() -> None:
    link = Scripted(
        said(late="took longer than 3 seconds", running=False), said(2, failed="SIGSEGV"), said(2, reply=["a", 0])
    )
    asked, lending = lent(link)
    with pytest.raises(Late, match="longer than 3"):
        asked.ask(Forget())
    assert not asked.running
    with pytest.raises(Failed, match="SIGSEGV"):
        asked.ask(Forget())
    assert asked.ask(Forget()) == ("a", 0)
    assert asked.starts == 2
    assert lending.released == []


def test_another_start_or_another_device_is_another_start() -> None:
    """Whoever counts starts knows what is built where."""
    links = [Scripted(*(said(start, reply=["a", 0]) for start in starts)) for starts in ((1, 1, 3), (3,), (1, 2))]
    asked, _ = lent(*links)
    seen = []
    for link in list(links):
        while link.answers:
            asked.ask(Forget())
            seen.append(asked.starts)
        asked.stop()
    assert seen == [1, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "answer", [Lost("no answer"), said(lost="OSError: the disk is full"), said(), said(reply=["a"])]
)
def test_a_lost_device_is_given_up_and_the_next_is_asked(answer: str | Lost) -> None:
    lost, other = Scripted(answer), Scripted(said(reply=["a", 0]))
    asked, lending = lent(lost, other)
    with pytest.raises(Lost):
        asked.ask(Forget())
    assert lending.released == [(lost, True)]
    assert not asked.running
    assert asked.ask(Forget()) == ("a", 0)


@given(
    st.text()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(("reply", "failed", "late", "lost", "starts", "running")), inner)
        ),
    ).map(json.dumps)
)
def test_whatever_a_server_says_is_a_reply_a_failure_or_a_loss(text: str) -> None:
    if not text:
        return
    asked, _ = lent(Scripted(text))
    try:
        kind, _ = asked.ask(Forget())
        assert isinstance(kind, str)
    except (Failed, Lost):
        pass


def test_no_device() -> None:
    asked, _ = lent()
    with pytest.raises(Lost, match="no device"):
        asked.ask(Forget())


def test_who_is_killed_asks_for_no_other_device() -> None:
    first, second = Scripted(Lost("killed")), Scripted()
    asked, lending = lent(first, second)
    assert asked.acquire(lambda: True)
    asked.signal(SIGKILL)
    assert first.killed
    with pytest.raises(Lost):
        asked.ask(Forget())
    assert lending.released == [(first, False)], "it was not the device's fault"
    assert not asked.acquire(lambda: True)


def test_a_device_is_given_back_after_long_where_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Scripted(), Scripted()
    asked, lending = lent(first, second)
    assert asked.acquire(lambda: True)
    assert asked.acquire(lambda: True)
    assert lending.released == []
    monkeypatch.setattr(device, "_LEASE_SECONDS", -1.0)
    assert asked.acquire(lambda: True)
    assert lending.released == [], "nobody else waits"
    lending.is_shared = True
    assert asked.acquire(lambda: True)
    assert lending.released == [(first, False)]
    assert cast(Link, second) is asked._link
