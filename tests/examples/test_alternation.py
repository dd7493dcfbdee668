"""Functions are timed in turn, with idle time before each block and a rotating order."""

from __future__ import annotations

import itertools

import pytest

from examples import alternation
from examples.alternation import Series, alternate


def test_functions_take_turns_in_rotating_order(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr("time.sleep", lambda seconds: events.append("idle"))
    monkeypatch.setattr(alternation, "BLOCK_SECONDS", 0.0)  # one timed call a block
    series = alternate({"a": lambda: events.append("a"), "b": lambda: events.append("b")}, blocks=5)
    warm_up, timed = events[:4], events[4:]
    assert warm_up == ["a", "a", "b", "b"]
    order = itertools.chain("ab", "ba", "ab", "ba", "ab")
    assert timed == [event for name in order for event in ("idle", name, name)]
    assert all(len(one.blocks) == 5 and one.calls == 1 for one in series.values())


def test_idle_time_outlasts_spinning_threads() -> None:
    assert alternation.IDLE_SECONDS >= 0.01


def test_fewer_than_five_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="4 blocks"):
        alternate({"a": lambda: None}, blocks=4)


def test_median_of_a_series() -> None:
    assert Series((9.0, 1.0, 2.0, 3.0, 100.0), calls=1).median == 3.0
