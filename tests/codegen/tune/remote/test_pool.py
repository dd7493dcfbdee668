"""What a lost device was measuring is put back; tuning ends where none is left, and leaves out what costs one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from threading import Event

import pytest

from codegen.targets.cpu import host_target
from codegen.tune.database import Database
from codegen.tune.kernels import distinct_kernels
from codegen.tune.pool import Pool, Request
from codegen.tune.records import Records
from codegen.tune.session import LOSSES, Measured, Session, Trial
from codegen.tune.space import DEFAULT, Variant
from codegen.tune.tuned import TunedKernel
from codegen.tune.worker import MeasuredCost
from tensoropt.cost import KernelCost
from tensoropt.isolated import Lost
from tensoropt.quiet import Quiet
from tests.codegen.tune.killed_tuning import network

TARGET = host_target(2)
VARIANTS = [DEFAULT, *(Variant({"contraction": number}) for number in range(1, 11))]


class Losing(Session):
    """Measures without a process; loses its device whenever ``losses`` says so of a kernel's next variants."""

    def __init__(self, losses: Callable[[int], bool], devices: int = 1000) -> None:
        super().__init__(TARGET)
        self.losses, self.devices, self.calls = losses, devices, 0

    def ready(self, wanted: Callable[[], bool]) -> bool:
        """Whether another device is left."""
        return self.devices > 0 or not wanted()

    def measure(
        self, trials: Sequence[Trial], seconds: float, stop: Callable[[], bool] = lambda: False
    ) -> list[Measured]:
        """A second each."""
        self.calls += 1
        if self.losses(len(trials)):
            self.devices -= 1
            raise Lost("the network is gone")
        return [Measured(KernelCost(1.0)) for _ in trials]


def kernels() -> list[TunedKernel]:
    """Those of a network, of which nothing is known."""
    made, plan = network()
    return [TunedKernel(kernel, list(VARIANTS), {}) for kernel in distinct_kernels(made, plan, TARGET)]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(Database(tmp_path / "t.sqlite"), TARGET)


def run(records: Records, tuned: list[TunedKernel], sessions: list[Session]) -> Pool:
    pool = Pool(tuned, Request(len(VARIANTS), thorough=True), records, Event(), Quiet())
    pool.run(sessions, lambda share, detail: None)
    assert all(records.read(one.kernel.key) == one.entries for one in tuned), "what is known is stored"
    return pool


def test_what_was_stored_before_the_loss_is_not_measured_again(records: Records) -> None:
    """A kernel's variants are measured in two parts, and each second part is lost once."""
    tuned, second = kernels(), cycle([True, False])
    session = Losing(lambda trials: trials < 8 and next(second))
    pool = run(records, tuned, [session])
    assert (pool.stopped, pool.given_up) == ("", [])
    assert not any(one.missing for one in tuned)
    assert session.calls == 3 * len(tuned), "a part that is stored is not measured again, a lost one once"


def test_another_session_takes_up_what_one_lost(records: Records) -> None:
    tuned = kernels()
    dead, alive = Losing(lambda trials: True, devices=1), Losing(lambda trials: dead.devices > 0)
    pool = run(records, tuned, [dead])
    assert pool.stopped == "devices"
    assert all(one.missing for one in tuned)
    pool = run(records, tuned, [dead, alive])
    assert pool.stopped == ""
    assert not any(one.missing for one in tuned)


def test_no_device_is_left(records: Records) -> None:
    tuned = kernels()
    calls = iter([False, False, True])
    pool = run(records, tuned, [Losing(lambda trials: next(calls), devices=1)])
    assert pool.stopped == "devices"
    assert [len(one.missing) for one in tuned] == [3, 3, len(VARIANTS)], "the first part of two kernels is stored"


def test_a_kernel_that_costs_every_device_is_given_up(records: Records) -> None:
    tuned = kernels()
    first = Losing(lambda trials: first.calls <= LOSSES)
    pool = run(records, tuned, [first])
    assert pool.given_up == [tuned[0].kernel.uses[0].output.name]
    assert pool.stopped == ""
    assert [bool(one.missing) for one in tuned] == [True, False, False]


@pytest.mark.parametrize(("lost", "source"), [(2, "measured"), (LOSSES, "failed")])
def test_costs_are_measured_again_elsewhere(lost: int, source: str, records: Records) -> None:
    """And are not remembered where each device was lost."""
    (kernel, *_) = kernels()
    session = Losing(lambda trials: session.calls <= lost)
    with MeasuredCost(TARGET, records=records, session=session) as cost_model:
        (cost,) = cost_model.compare([kernel.kernel.alternative()])
    assert cost.source == source
    assert records.database.size()[0] == (source == "measured")


def test_no_cost_can_be_measured_without_a_device(records: Records) -> None:
    (kernel, *_) = kernels()
    with pytest.raises(Lost), MeasuredCost(TARGET, records=records, session=Losing(lambda trials: True, 0)) as none:
        none.compare([kernel.kernel.alternative()])
