"""Candidates that crash, hang, eat memory, write where they must not or compute something else cost themselves and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codegen.targets.cpu import host_target
from codegen.targets.parsing import Target
from codegen.tune.database import Database
from codegen.tune.layout import Layout
from codegen.tune.pool import Request
from codegen.tune.records import Records
from codegen.tune.session import Session
from codegen.tune.space import DEFAULT, Variant
from codegen.tune.tuned import TunedKernel
from codegen.tune.tuning import tune_program
from tensoropt.allocation import Placement
from tensoropt.ir.program import Compute
from tensoropt.isolated import Worker
from tests.strategies.networks import convolution, program, random_array, tensor

IMAGE, KERNEL, OUT = tensor("x", 1, 16, 9, 9), tensor("k", 24, 16, 3, 3), tensor("y", 1, 24, 9, 9)
NETWORK = program([convolution(OUT, IMAGE, KERNEL, 1)], [IMAGE], [OUT], k=random_array(KERNEL))
PLAN = Placement({}, 0, 0)
HONEST = Variant({"contraction": 1})

FAULTS = {
    "crash": "SIGSEGV",
    "far": "SIGSEGV",
    "abort": "SIGABRT",
    "leave": "status 3",
    "hang": "longer than",
    "eat": "ran out of memory|longer than",
    "refuse": "this does not compile",
    "nothing": "differs in NaN from the interpreter's",
    "nearly": "differs by 1 of",
    "later": "differs",
    "after": "wrote after the output out",
    "before": "wrote before the output out",
    "input": "wrote to the input",
    "constants": "wrote to its constants",
    "workspace": "wrote after the workspace",
}
"""What each fault is found out by; where memory comes slowly, time may run out first."""


def faulty(number: int, fault: str) -> Variant:
    """A variant that misbehaves; the schedule differs, as equal code is not run twice."""
    return Variant({"contraction": 2 + number, "fault": fault})


def tune(path: Path, variants: list[Variant], workers: list[Worker], default_fault: str = "") -> TunedKernel:
    """The one kernel of the network tuned over the variants by processes that know the faults."""
    environment = {"FAULT_OF_DEFAULT": default_fault, "PYTHONPATH": str(Path(__file__).parent)}

    def session() -> Session:
        workers.append(Worker("faulty_measuring", memory_bytes=16 << 30, environment=environment))
        return Session(target, workers[-1])

    def space(kernel: Compute, constants: frozenset[str], target: Target, most: int, layout: Layout) -> list[Variant]:
        return variants

    target = host_target(2)
    with Database(path) as database:
        records = Records(database, target)
        request = Request(len(variants), thorough=True)
        tuning = tune_program(NETWORK, PLAN, target, records, request, space=space, session=session)
        (tuned,) = tuning.kernels
        assert records.read(tuned.kernel.key) == tuned.entries
        best = tuning.variants.get("y", {})
        assert "fault" not in best, "nothing wrong is ever chosen"
    return tuned


@pytest.fixture(autouse=True)
def modules_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.mark.parametrize(
    "faults",
    [
        ("crash", "refuse", "nothing", "nearly", "later"),
        ("hang", "eat"),
        ("after", "input", "constants"),
        pytest.param(tuple(FAULTS), marks=pytest.mark.slow),
    ],
    ids=lambda faults: str(len(faults)),
)
def test_no_fault_costs_anything_but_its_candidate(faults: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    wrong = {fault: faulty(number, fault) for number, fault in enumerate(faults)}
    workers: list[Worker] = []
    tuned = tune(path, [DEFAULT, *wrong.values(), HONEST], workers)
    for fault in faults:
        assert re.search(FAULTS[fault], tuned.entries[wrong[fault].key]["failed"]), fault
    assert tuned.entries[DEFAULT.key]["seconds"] > 0
    assert tuned.entries[HONEST.key]["seconds"] > 0
    assert not any(worker.running for worker in workers)

    again: list[Worker] = []
    assert tune(path, [DEFAULT, *wrong.values(), HONEST], again).entries == tuned.entries
    assert sum(worker.starts for worker in again) == 0, "what failed is not tried again"


@pytest.mark.parametrize("fault", ["nearly", "crash"])
def test_a_default_that_is_wrong_or_crashes_is_found_out(fault: str, tmp_path: Path) -> None:
    """The reference is then the first variant that agrees with the interpreter."""
    variants = [DEFAULT, faulty(0, "nothing"), HONEST, Variant({"contraction": 2})]
    tuned = tune(tmp_path / "t.sqlite", variants, [], default_fault=fault)
    assert re.search(FAULTS[fault], tuned.entries[DEFAULT.key]["failed"])
    assert tuned.default_seconds is None
    assert tuned.best in (HONEST.key, variants[3].key)
