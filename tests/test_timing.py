"""Functions are timed in turn, with idle time before each block and a rotating order."""

from __future__ import annotations

import itertools

import pytest

from tensoropt import timing
from tensoropt.timing import ESTIMATES, Series, alternate


def test_functions_take_turns_in_rotating_order(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr("time.sleep", lambda seconds: events.append("idle"))
    functions = {"a": lambda: events.append("a"), "b": lambda: events.append("b")}
    series = alternate(functions, blocks=5, block_seconds=0.0)  # one timed call a block
    calls = 1 + ESTIMATES
    warm_up, timed = events[: 2 * calls], events[2 * calls :]
    assert warm_up == ["a"] * calls + ["b"] * calls
    order = itertools.chain("ab", "ba", "ab", "ba", "ab")
    assert timed == [event for name in order for event in ("idle", name, name)]
    assert all(len(one.blocks) == 5 and one.calls == 1 for one in series.values())


def test_a_function_that_takes_seconds_is_called_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now, called = 0.0, {"slow": 0, "quick": 0}

    def wait(name: str, seconds: float) -> None:
        nonlocal now
        now += seconds
        called[name] += 1

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("time.perf_counter", lambda: now)
    series = alternate({"slow": lambda: wait("slow", 20.0), "quick": lambda: wait("quick", 0.01)}, 7, budget=30.0)
    assert called["slow"] == 1 + 3
    assert series["slow"].blocks == pytest.approx((20_000.0,) * 3)
    assert len(series["quick"].blocks) == 7
    assert series["quick"].calls == 15


def test_idle_time_outlasts_spinning_threads() -> None:
    assert timing.IDLE_SECONDS >= 0.01


def test_fewer_than_five_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="4 blocks"):
        alternate({"a": lambda: None}, blocks=4)


def test_median_and_quartiles_of_a_series() -> None:
    series = Series((9.0, 1.0, 2.0, 3.0, 100.0), calls=1)
    assert series.median == 3.0
    assert series.quartiles == (2.0, 9.0)
    assert Series((4.0,), calls=1).quartiles == (4.0, 4.0)
