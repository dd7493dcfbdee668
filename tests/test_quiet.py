"""Quiet holds what works in the background, and lets it go on whatever happens."""

from __future__ import annotations

import time
from threading import Thread

import pytest

from tensoropt.quiet import Quiet


class Work:
    """Something in the background that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


def test_only_what_is_registered_is_held() -> None:
    quiet, one, other = Quiet(), Work(), Work()
    with quiet.kept():
        pass
    with quiet.pausing(one):
        with quiet.pausing(other), quiet.kept():
            assert (one.told, other.told) == (["pause"], ["pause"])
        with quiet.kept():
            pass
    with quiet.kept():
        pass
    assert one.told == ["pause", "resume"] * 2
    assert other.told == ["pause", "resume"]


def test_what_is_timed_is_not_held() -> None:
    quiet, timed, other = Quiet(), Work(), Work()
    with quiet.pausing(timed), quiet.pausing(other), quiet.kept(besides=timed):
        pass
    assert (timed.told, other.told) == ([], ["pause", "resume"])


def test_one_times_at_a_time() -> None:
    quiet, inside, most = Quiet(), 0, 0

    def measure() -> None:
        nonlocal inside, most
        for _ in range(5):
            with quiet.kept():
                inside += 1
                most = max(most, inside)
                time.sleep(0.002)
                inside -= 1

    threads = [Thread(target=measure) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_work_goes_on_after_an_error() -> None:
    quiet, work = Quiet(), Work()
    with pytest.raises(ValueError), quiet.pausing(work), quiet.kept():
        raise ValueError
    assert work.told == ["pause", "resume"]
