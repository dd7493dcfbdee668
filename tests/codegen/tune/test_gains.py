"""Trials go where they are expected to save most, and all of them are made where nothing ends tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.targets.cpu import host_target
from codegen.tune.database import Database
from codegen.tune.gains import Expectation, Waiting, scale_of
from codegen.tune.kernels import ProgramKernel, distinct_kernels
from codegen.tune.pool import Pool, Request
from codegen.tune.records import Records
from codegen.tune.session import Measured, Session, Trial
from codegen.tune.space import DEFAULT, Variant
from codegen.tune.tuned import TunedKernel
from tensoropt.cost import KernelCost
from tensoropt.quiet import Quiet
from tests.codegen.tune.killed_tuning import network

TARGET = host_target(2)
VARIANTS = [DEFAULT, *(Variant({"contraction": number}) for number in range(1, 22))]
PART = 7


class Measuring(Session):
    """Measures without a process: what ``seconds`` says of a kernel and the number of a variant; notes whose turn it was."""

    def __init__(self, seconds: Callable[[ProgramKernel, int], float], kernels: Sequence[ProgramKernel]) -> None:
        super().__init__(TARGET)
        self.seconds, self.turns = seconds, list[int]()
        self._kernels = kernels

    def measure(
        self, trials: Sequence[Trial], seconds: float, stop: Callable[[], bool] = lambda: False
    ) -> list[Measured]:
        """See ``Session``."""
        (statement,) = trials[0].alternative.kernels
        place = next(place for place, kernel in enumerate(self._kernels) if kernel.kernel is statement)
        self.turns.append(place)
        numbers = [int(next(iter(trial.variants.values()), {}).get("contraction", 0)) for trial in trials]
        return [Measured(KernelCost(self.seconds(self._kernels[place], number))) for number in numbers]


def turns(seconds: Callable[[ProgramKernel, int], float], folder: Path) -> list[int]:
    """The kernels in the order in which parts of them were measured; heavier kernels have lower numbers."""
    made, plan = network()
    kernels = distinct_kernels(made, plan, TARGET)
    tuned = [TunedKernel(kernel, list(VARIANTS), {}) for kernel in kernels]
    session = Measuring(seconds, kernels)
    with Database(folder / "t.sqlite") as database:
        pool = Pool(tuned, Request(len(VARIANTS), thorough=True), Records(database, TARGET), Event(), Quiet())
        pool.run([session], lambda share, detail: None)
    assert not any(one.missing for one in tuned)
    return session.turns


def test_where_nothing_is_gained_all_kernels_come_before_more_of_one(tmp_path: Path) -> None:
    """Kernels take what was estimated, twice over, and no variant is better: nothing speaks for a second part of any of them."""
    found = turns(lambda kernel, number: 2 * kernel.estimate, tmp_path)
    weights = [kernel.weight for kernel in distinct_kernels(*network(), TARGET)]
    assert found[0] == 0
    assert sorted(found) == sorted([*range(len(weights))] * 3)
    # a second part is worth a quarter of a first one of the same weight
    second = found.index(0, 1)
    assert all(place in found[:second] for place, weight in enumerate(weights) if weight > weights[0] / 4)


def test_a_kernel_that_gets_faster_goes_on(tmp_path: Path) -> None:
    """The heaviest is halved by its first part, which no other kernel is: half of its time may be saved by the second."""
    heaviest = distinct_kernels(*network(), TARGET)[0].key

    def seconds(kernel: ProgramKernel, number: int) -> float:
        return 1000 * kernel.estimate / (2 ** -(-number // PART) if kernel.key == heaviest else 1)

    assert turns(seconds, tmp_path)[:2] == [0, 0]


@given(measured=st.integers(0, 21), seconds=st.floats(1e-6, 1.0), better=st.floats(0.1, 1.0))
def test_expectations_fade_and_what_was_measured_counts(measured: int, seconds: float, better: float) -> None:
    kernel = distinct_kernels(*network(), TARGET)[0]
    entries = {variant.key: {"seconds": seconds, "default_seconds": seconds} for variant in VARIANTS[: measured + 1]}
    tuned = TunedKernel(kernel, list(VARIANTS), entries)
    waiting = Waiting.of(tuned, PART)
    assert waiting.trials == max(1, len(VARIANTS) - 1 - measured)
    assert scale_of([tuned]) == pytest.approx(seconds / kernel.estimate)
    before, expected = tuned.best_seconds, waiting.expectation.gain
    tuned.entries[VARIANTS[-1].key] = {"seconds": seconds * better, "default_seconds": seconds}
    waiting.learn(before)
    gained = 1 - better if better < 0.98 else 0.0  # timings differ by as much without a reason
    assert waiting.expectation.gain == pytest.approx(max(gained, expected / 4))


def test_what_is_predicted_to_gain_most_comes_first_and_counts_less_once_it_was_seen() -> None:
    expectation = Expectation()
    assert expectation.share(None, 1.0) == expectation.gain
    assert expectation.share(1.0, 1.0) == 0.5, "twice as fast saves half"
    assert expectation.share(1.0, 0.75) == pytest.approx(1 / 3), "of three quarters, a quarter is left to save"
    assert 0 < expectation.share(-1.0, 1.0) < expectation.gain, "where nothing is gained, something might be"
    before = expectation.share(1.0, 1.0)
    expectation.learn(0.0)
    assert 0 < expectation.share(1.0, 1.0) < before


def test_kernels_are_measured_in_the_order_of_their_promises(tmp_path: Path) -> None:
    """The lighter a kernel the more its variants promise, and no promise is kept."""
    made, plan = network()
    kernels = distinct_kernels(made, plan, TARGET)
    promises = [2.0 * place for place in range(len(kernels))]
    tuned = [
        TunedKernel(kernel, [DEFAULT, *(replace(one, promise=promise) for one in VARIANTS[1:])], {})
        for kernel, promise in zip(kernels, promises, strict=True)
    ]
    shares = [
        kernel.weight * Expectation().share(promise, 1.0) for kernel, promise in zip(kernels, promises, strict=True)
    ]
    session = Measuring(lambda kernel, number: kernel.estimate, kernels)
    with Database(tmp_path / "t.sqlite") as database:
        pool = Pool(tuned, Request(len(VARIANTS), thorough=True), Records(database, TARGET), Event(), Quiet())
        pool.run([session], lambda share, detail: None)
    assert session.turns[0] == max(range(len(kernels)), key=shares.__getitem__) != 0
