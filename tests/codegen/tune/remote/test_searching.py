"""Schedules that are searched for devices of a network: measured there beside the default, and lost with the last device."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from codegen.targets.cpu import host_target
from codegen.tune import metaschedule
from codegen.tune.database import Database
from codegen.tune.metaschedule import KEPT
from codegen.tune.pool import Request
from codegen.tune.records import Records
from codegen.tune.remote.fleet import Fleet
from codegen.tune.remote.searching import SearchElsewhere
from codegen.tune.remote.session import RemoteSession
from codegen.tune.session import Measured, Session, Trial
from codegen.tune.space import DEFAULT
from codegen.tune.tuning import tune_program
from tensoropt.cost import Alternative, KernelCost
from tensoropt.isolated import Lost
from tests.codegen.tune.killed_tuning import network as kernels_in_a_row
from tests.codegen.tune.remote.network import KEY, Network
from tests.codegen.tune.test_metaschedule import SMALL

TARGET = host_target(2)
ASKED = 20


class Device(Session):
    """Measures without a process, so many times slower than another: a schedule of the text "7" takes 7 times the default.

    Of the text "0" it fails. ``losses`` says when the device is out of reach.
    """

    def __init__(self, slowness: float, losses: Callable[[], bool] = lambda: False) -> None:
        super().__init__(TARGET)
        self.slowness, self.losses, self.lost = slowness, losses, False

    def ready(self, wanted: Callable[[], bool]) -> bool:
        """Until it is lost."""
        return not self.lost or not wanted()

    def measure(
        self, trials: Sequence[Trial], seconds: float, stop: Callable[[], bool] = lambda: False
    ) -> list[Measured]:
        """As the texts of the schedules say."""
        self.lost = self.losses()
        if self.lost:
            raise Lost("the network is gone")
        assert not trials[0].variants, "the default is beside"
        times = [int(one.variants[SMALL.output.name]["metaschedule"]) if one.variants else 1 for one in trials]
        return [
            Measured(KernelCost(self.slowness * time)) if time else Measured(KernelCost.failed("it is wrong"))
            for time in times
        ]


def searched(monkeypatch: pytest.MonkeyPatch, search: SearchElsewhere, stop: Event | None = None) -> tuple[Any, ...]:
    """The variants that a search finds among ``ASKED`` schedules, and the times that it was told of."""
    told: list[float | None] = []

    def explore(*rest: object, measure: metaschedule.Measure, layout: object) -> Iterator[tuple[dict[str, str], float]]:
        asked = [{"metaschedule": str(text)} for text in range(ASKED)]
        told.extend(measure(asked))
        yield from ((one, taken) for one, taken in zip(asked, told, strict=True) if taken is not None)

    monkeypatch.setattr(metaschedule, "explore", explore)
    return search(SMALL, frozenset(), TARGET, ASKED, 100.0, stop or Event()), told


def test_times_of_unlike_devices_are_told_on_one_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count(1)
    found, told = searched(monkeypatch, SearchElsewhere(lambda: Device(float(next(numbers)))))
    assert next(numbers) == 4, "twenty schedules are three parts, a device for each"
    assert [one.parameters["metaschedule"] for one in found] == ["1", "2", "3", "4"][:KEPT]
    first, *others = told
    assert first is None
    assert [taken / others[0] for taken in others] == pytest.approx(range(1, ASKED))


def test_a_device_that_is_lost_costs_what_it_was_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count(1)

    def devices() -> Session:
        number = next(numbers)
        return Device(1.0, lambda: number == 2)

    _, told = searched(monkeypatch, SearchElsewhere(devices))
    assert [taken is None for taken in told] == [True, *[False] * (ASKED - 1)]


def test_tuning_ends_where_no_device_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = SearchElsewhere(lambda: Device(1.0, lambda: True))
    with pytest.raises(Lost):
        searched(monkeypatch, elsewhere)
    made, plan = kernels_in_a_row(1)
    with Database(tmp_path / "t.sqlite") as database:
        records = Records(database, TARGET)
        tuning = tune_program(
            made, plan, TARGET, records, Request(30, thorough=True),
            space=lambda *rest: [DEFAULT], search=elsewhere, session=lambda: Constant(TARGET),
        )  # fmt: skip
        (tuned,) = tuning.kernels
        assert tuning.stopped == "devices"
        assert set(records.read(tuned.kernel.key)) == {DEFAULT.key}, "what was not searched is not called so"


class Constant(Session):
    """Measures without a process."""

    def measure(
        self, trials: Sequence[Trial], seconds: float, stop: Callable[[], bool] = lambda: False
    ) -> list[Measured]:
        """A second each."""
        return [Measured(KernelCost(1.0)) for _ in trials]


def test_a_search_that_is_ended_finds_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Event()
    stop.set()
    assert searched(monkeypatch, SearchElsewhere(lambda: Device(1.0)), stop)[0] == []


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "opencl"])
def test_schedules_are_found_on_devices_of_a_network(target: str) -> None:
    with Network(2, target=target) as network:
        network.registered(2)
        fleet = Fleet(network.address, KEY)
        fleet.described()
        search = SearchElsewhere(lambda: RemoteSession(fleet))
        found = search(SMALL, frozenset(), fleet.target, 10, 300.0, Event())
        assert 0 < len(found) <= KEPT
        assert all(json.loads(one.key).keys() == {"metaschedule"} for one in found)
        session, alternative = RemoteSession(fleet), Alternative((SMALL,), (SMALL.output,))
        trials = [Trial(alternative, {SMALL.output.name: one.parameters}) for one in found]
        assert all(one.cost.source == "measured" for one in session.measure(trials, 0.1))
        session.worker.stop()
        assert fleet.lost == 0
        fleet.close()
