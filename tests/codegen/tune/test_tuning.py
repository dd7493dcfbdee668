"""Tuning changes how a kernel runs, never what it computes; what is measured once is not measured again."""

from __future__ import annotations

import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from codegen.build import compile_program
from codegen.lower.kernel import lower
from codegen.targets.cpu import host_target
from codegen.tune.database import Database
from codegen.tune.kernels import ProgramKernel, distinct_kernels
from codegen.tune.pool import Request
from codegen.tune.records import Records
from codegen.tune.session import Session
from codegen.tune.space import DEFAULT, Variant, variants
from codegen.tune.tuned import MARGIN, TunedKernel, Tuning
from codegen.tune.tuning import FAST_SECONDS, requested, tune_program
from tensoropt.allocation import Placement
from tensoropt.interrupts import first_interrupt
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program
from tests.strategies.networks import convolution, program, random_array, tensor

IMAGE, KERNEL, OUT = tensor("x", 1, 16, 9, 9), tensor("k", 24, 16, 3, 3), tensor("y", 1, 24, 9, 9)
NETWORK = program([convolution(OUT, IMAGE, KERNEL, 1)], [IMAGE], [OUT], k=random_array(KERNEL))
PLAN = Placement({}, 0, 0)
TARGET = host_target(2)


def chain(length: int) -> tuple[Program, Placement]:
    """Convolutions one after another: the first two are equal kernels, the others are not."""
    values = [tensor(f"v{number}", 1, 8 + 8 * max(0, number - 2), 9, 9) for number in range(length + 1)]
    weights = {}
    statements = []
    for number, (source, target) in enumerate(pairwise(values)):
        kernel = tensor(f"k{number}", int(target.shape[1]), int(source.shape[1]), 3, 3)
        weights[kernel.name] = random_array(kernel, number)
        statements.append(convolution(target, source, kernel, 1))
    offsets: dict[str, int] = {}
    size = 0
    for value in values[1:-1]:
        offsets[value.name] = size
        size += -(-value.type.bytes // 64) * 64
    return program(statements, [values[0]], [values[-1]], **weights), Placement(offsets, size, size)


def tune(
    network: Program, plan: Placement, path: Path, request: Request, stop: Event | None = None
) -> tuple[Tuning, int]:
    """What tuning found, and how many processes it started."""
    sessions: list[Session] = []

    def session() -> Session:
        sessions.append(Session(TARGET))
        return sessions[-1]

    with Database(path) as database:
        records = Records(database, TARGET)
        found = tune_program(network, plan, TARGET, records, request, stop=stop, session=session)
    assert not any(made.worker.running for made in sessions)
    return found, sum(made.worker.starts for made in sessions)


def test_off_measures_nothing(tmp_path: Path) -> None:
    found, starts = tune(NETWORK, PLAN, tmp_path / "t", requested("off", None))
    assert (found.variants, found.kernels, starts) == ({}, [], 0)


def test_equal_kernels_are_tuned_once_and_the_result_agrees(tmp_path: Path) -> None:
    network, plan = chain(3)
    found, starts = tune(network, plan, tmp_path / "t", Request(3))
    assert starts == 2
    assert sorted(len(tuned.kernel.uses) for tuned in found.kernels) == [1, 2]
    assert found.stopped == ""
    for tuned in found.kernels:
        assert not tuned.missing
        assert set(tuned.entries) == {variant.key for variant in tuned.variants}
    built = compile_program(network, plan, TARGET, variants=found.variants)
    feeds = {"v0": random_array(network.inputs[0], 1)}
    np.testing.assert_allclose(built.model().run(feeds)["v3"], run_program(network, feeds)["v3"], rtol=1e-4, atol=1e-3)

    again, starts = tune(network, plan, tmp_path / "t", Request(3))
    assert starts == 0
    assert again.variants == found.variants
    more, starts = tune(network, plan, tmp_path / "t", Request(4))
    assert starts > 0
    assert all(len(tuned.entries) == 4 for tuned in more.kernels)
    fewer, starts = tune(network, plan, tmp_path / "t", Request(2))
    assert starts == 0
    assert all(len(tuned.entries) == 4 for tuned in fewer.kernels), "what is known already may be chosen"


def test_thorough_tuning_measures_kernels_without_variants_too(tmp_path: Path) -> None:
    (kernel,) = distinct_kernels(NETWORK, PLAN, TARGET)
    with Database(tmp_path / "t") as database:
        records = Records(database, TARGET)
        for thorough in (False, True):
            found = tune_program(
                NETWORK, PLAN, TARGET, records, Request(6, thorough=thorough), space=lambda *_: [DEFAULT]
            )
            assert len(found.kernels) == int(thorough)
        report = found.as_json()
    assert report["kernels"][0]["default_ms"] == report["kernels"][0]["tuned_ms"] == report["before_ms"] > 0
    assert report["kernels"][0]["share"] == pytest.approx(1.0)
    assert kernel.estimate > 0


def test_a_time_limit_that_has_passed_measures_nothing(tmp_path: Path) -> None:
    found, starts = tune(NETWORK, PLAN, tmp_path / "t", Request(6, deadline=time.monotonic()))
    assert (found.stopped, found.variants, starts) == ("time", {}, 0)


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    """It ends tuning at once, and is told."""
    network, plan = chain(5)
    told: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with Database(tmp_path / "t") as database:
        records = Records(database, TARGET)
        with first_interrupt(lambda: told.append("interrupt")) as stop:
            timer = threading.Timer(6.0, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            found = tune_program(network, plan, TARGET, records, Request(24), stop=stop)
            timer.join()
        kept = {tuned.kernel.key: records.read(tuned.kernel.key) for tuned in found.kernels}
    signal.signal(signal.SIGINT, before)
    assert told == ["interrupt"]
    assert found.stopped in ("interrupt", ""), "a fast machine may be done before"
    assert all(kept[tuned.kernel.key] == tuned.entries for tuned in found.kernels)


def test_the_time_limit_shortens_what_fast_tuning_may_take() -> None:
    now = time.monotonic()
    assert requested("fast", None).deadline == pytest.approx(now + FAST_SECONDS, abs=5)
    assert requested("fast", now + 7).deadline == now + 7
    assert requested("fast", now + 10_000).deadline == pytest.approx(now + FAST_SECONDS, abs=5)
    assert requested("full", None).deadline is None
    assert requested("full", now + 10_000).deadline == now + 10_000
    assert requested("full", now - 1).is_late


def test_a_search_gets_the_trials_that_are_left_once(tmp_path: Path) -> None:
    """What it finds is judged and measured like any other variant; the next run asks it for more only where more is wanted."""
    asked: list[int] = []

    def search(*arguments: object) -> list[Variant]:
        assert isinstance(arguments[3], int)
        asked.append(arguments[3])
        return [Variant({"contraction": 7})]

    with Database(tmp_path / "t") as database:
        records = Records(database, TARGET)
        for trials, expected in ((3, [1]), (3, [1]), (2, [1]), (6, [1, 4])):
            found = tune_program(
                NETWORK,
                PLAN,
                TARGET,
                records,
                Request(trials),
                space=lambda *_: [DEFAULT, Variant({"contraction": 1})],
                search=search,
            )
            assert asked == expected
        (tuned,) = found.kernels
    assert tuned.entries[Variant({"contraction": 7}).key]["seconds"] > 0
    assert tuned.best != "searched"


def known(entries: dict[str, tuple[float, float]]) -> TunedKernel:
    """A kernel of which times and the default's times beside them are known."""
    kernel = ProgramKernel("k", convolution(OUT, IMAGE, KERNEL, 1), frozenset(), (), 1e-3)
    stored = {key: {"seconds": pair[0], "default_seconds": pair[1]} for key, pair in entries.items()}
    return TunedKernel(kernel, [DEFAULT], stored)


def test_a_variant_must_beat_the_default_by_a_margin() -> None:
    fast, faster = Variant({"contraction": 1}).key, Variant({"contraction": 2}).key
    noise = 1 - MARGIN / 2
    assert known({DEFAULT.key: (1.0, 1.0), fast: (noise, 1.0)}).best == DEFAULT.key
    assert known({DEFAULT.key: (1.0, 1.0), fast: (0.9, 1.0), faster: (0.8, 1.0)}).best == faster
    other_day = known({DEFAULT.key: (1.0, 1.0), fast: (1.8, 3.0), faster: (0.7, 1.0)})
    assert other_day.best == fast, "times of different days are compared by the default's beside them"
    assert other_day.best_seconds == pytest.approx(0.6)
    assert known({}).best == DEFAULT.key


def test_every_schedule_of_a_contraction_agrees() -> None:
    statement = NETWORK.statements[0]
    assert isinstance(statement, Compute)
    assert any(
        name.startswith("contraction") for name in lower(OUT, statement.expression, TARGET, frozenset("k")).schedules
    )
    feeds = {"x": random_array(IMAGE, 2)}
    expected = run_program(NETWORK, feeds)["y"]
    found = variants(statement, frozenset("k"), TARGET, 6)
    assert found[0] is DEFAULT
    assert len(found) == 6
    for variant in found:
        built = compile_program(NETWORK, PLAN, TARGET, variants={"y": variant.parameters})
        np.testing.assert_allclose(built.model().run(feeds)["y"], expected, rtol=1e-4, atol=1e-4)
