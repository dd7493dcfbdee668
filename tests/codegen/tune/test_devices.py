"""Kernels measured on an OpenCL device: the fastest is chosen, what misbehaves costs itself, nothing is measured twice."""

from __future__ import annotations

import json
from math import gcd
from pathlib import Path

import numpy as np
import pytest
from tvm import s_tir

from codegen.lower.device import dialect_of
from codegen.lower.dialect import written_in
from codegen.lower.schedulable import schedulable
from codegen.lower.scheduled import describe
from codegen.targets.named import NAMED
from codegen.targets.parsing import Target
from codegen.tune.database import Database
from codegen.tune.kernels import distinct_kernels
from codegen.tune.layout import Layout
from codegen.tune.pool import Request
from codegen.tune.records import Records
from codegen.tune.session import Process, Session
from codegen.tune.space import DEFAULT, Variant
from codegen.tune.tuned import MARGIN, TunedKernel, Tuning
from codegen.tune.tuning import tune_program
from passes.derive.cost import EstimatedCosts
from passes.pipeline import compile_as_written, plan
from tensoropt.allocation import Placement
from tensoropt.api.compiling import compiled_for_device
from tensoropt.errors import UsageError
from tensoropt.ir.expression import Access, Apply, Scope
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program
from tensoropt.isolated import Worker
from tensoropt.pass_manager import Context
from tests.strategies.compilers import OPENCL
from tests.strategies.networks import convolution, program, random_array, tensor
from tests.strategies.small_models import expected, feeds_of, model, program_of

IMAGE, KERNEL, OUT = tensor("x", 1, 8, 9, 9), tensor("k", 12, 8, 3, 3), tensor("y", 1, 12, 9, 9)
NETWORK = program([convolution(OUT, IMAGE, KERNEL, 1)], [IMAGE], [OUT], k=random_array(KERNEL))
PLAN = Placement({}, 0, 0)
HONEST = Variant({"contraction": 1})

JOINED = model(
    "a = Conv <kernel_shape = [1, 1]> (x, v) b = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w) "
    "y = Concat <axis = 3> (a, b)",
    "float[1, 4, 6, 5] x", "float[1, 8, 6, 10] y", v=(8, 4, 1, 1), w=(8, 4, 3, 3),
)  # fmt: skip
"""Two kernels that write every other stretch of five elements, the second from the sixth on: one is aligned, one is not."""


def tune(path: Path, network: Program, where: Placement, request: Request, *, workers: list[Process]) -> Tuning:
    """What tuning finds, by processes that are kept in ``workers``."""

    def session() -> Session:
        made = Session(OPENCL)
        workers.append(made.worker)
        return made

    with Database(path) as database:
        found = tune_program(network, where, OPENCL, Records(database, OPENCL), request, session=session)
    assert not any(worker.running for worker in workers)
    return found


def test_variants_are_measured_and_the_fastest_is_chosen(tmp_path: Path) -> None:
    workers: list[Process] = []
    found = tune(tmp_path / "t", NETWORK, PLAN, Request(6, thorough=True), workers=workers)
    (tuned,) = found.kernels
    seconds = {key: entry["seconds"] / entry["default_seconds"] for key, entry in tuned.entries.items()}
    assert len(seconds) == 6, tuned.entries
    assert all("clocks" not in entry for entry in tuned.entries.values()), "PoCL tells none"
    fastest = min(seconds, key=seconds.__getitem__)
    if seconds[fastest] < 1 - MARGIN:
        assert found.variants == {"y": json.loads(fastest)}
    else:
        assert found.variants == {}
    built = compiled_for_device(NETWORK, OPENCL, variants={"y": json.loads(fastest)})
    feeds = {"x": random_array(IMAGE, 1)}
    np.testing.assert_allclose(built.model().run(feeds)["y"], run_program(NETWORK, feeds)["y"], rtol=1e-4, atol=1e-4)
    (kernel,) = built.kernels_as_json()
    assert ", ".join(kernel["schedules"]) == tuned.entries[fastest]["schedule"]

    again: list[Process] = []
    assert tune(tmp_path / "t", NETWORK, PLAN, Request(6, thorough=True), workers=again).variants == found.variants
    assert again == []


def test_kernels_are_measured_as_they_lie_in_the_program(tmp_path: Path) -> None:
    """Parts of a concatenation: their strides and what is known of their places are part of the code that is measured."""
    network = compile_as_written(program_of(JOINED), Context(EstimatedCosts()))
    where = plan(network)
    kernels = {kernel.uses[0].output.name: kernel for kernel in distinct_kernels(network, where, OPENCL)}
    assert [dict(kernels[name].layout.alignments).get("out") for name in ("a", "b")] == [None, 4]
    assert all(kernels[name].layout.strides is not None for name in ("a", "b"))
    found = tune(tmp_path / "t", network, where, Request(3, thorough=True), workers=[])
    assert {tuned.kernel.uses[0].output.name for tuned in found.kernels} == {"a", "b"}
    for tuned in found.kernels:
        assert len(tuned.entries) == 3
        assert not [entry for entry in tuned.entries.values() if "failed" in entry]
    chosen = {name: {"contraction": 1} for name in ("a", "b")}
    feeds = feeds_of(network)
    built = compiled_for_device(network, OPENCL, variants=chosen)
    np.testing.assert_allclose(built.model().run(feeds)["y"], expected(JOINED, feeds)[0], rtol=1e-4, atol=1e-5)
    schedules = {kernel["output"]: ", ".join(kernel["schedules"]) for kernel in built.kernels_as_json()}
    for tuned in found.kernels:
        entry = tuned.entries[Variant({"contraction": 1}).key]
        assert entry["schedule"] == schedules[tuned.kernel.uses[0].output.name]


def test_layouts_are_told_apart_in_keys() -> None:
    order = [IMAGE, OUT]
    assert Layout().text(order) == Layout(None, (("other", 4),)).text(order) == ""
    texts = {
        Layout(strides, alignments).text(order)
        for strides in (None, (9, 1))
        for alignments in ((), (("x", 4),), (("y", 4),), (("x", 8),))
    }
    assert len(texts) == 8
    assert all(gcd(16, Layout(None, (("x", multiple),)).start("x")) == multiple for multiple in (1, 2, 4, 8))


FAULTS = {
    "after": "wrote after the output out",
    "before": "wrote before the output out",
    "input": "wrote to the input",
    "constants": "wrote to its constants",
    "crash": "SIGSEGV",
    "hang": "longer than",
    "nothing": "differs in NaN from the interpreter's",
    "refuse": "this does not compile",
}
"""What each fault is found out by."""


def with_faults(
    path: Path, network: Program, where: Placement, tried: list[Variant], workers: list[Process]
) -> TunedKernel:
    """The heaviest kernel of a network tuned over the variants by processes that know the faults."""

    def session() -> Session:
        workers.append(
            Worker(
                "faulty_device_measuring",
                memory_bytes=16 << 30,
                environment={"PYTHONPATH": str(Path(__file__).parent)},
            )
        )
        return Session(OPENCL, workers[-1])

    def space(kernel: Compute, constants: frozenset[str], target: Target, most: int, layout: Layout) -> list[Variant]:
        return tried

    with Database(path) as database:
        records = Records(database, OPENCL)
        request = Request(len(tried), thorough=True)
        found = tune_program(network, where, OPENCL, records, request, space=space, session=session)
    assert not any("fault" in variant for variant in found.variants.values()), "nothing wrong is ever chosen"
    return found.kernels[0]


@pytest.fixture(autouse=True)
def modules_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.mark.parametrize(
    "faults",
    [("after", "crash", "nothing", "refuse"), pytest.param(tuple(FAULTS), marks=pytest.mark.slow)],
    ids=lambda faults: str(len(faults)),
)
def test_no_fault_costs_anything_but_its_candidate(faults: tuple[str, ...], tmp_path: Path) -> None:
    wrong = {fault: Variant({"contraction": 2 + number, "fault": fault}) for number, fault in enumerate(faults)}
    workers: list[Process] = []
    tuned = with_faults(tmp_path / "t", NETWORK, PLAN, [DEFAULT, *wrong.values(), HONEST], workers)
    for fault in faults:
        assert FAULTS[fault] in tuned.entries[wrong[fault].key]["failed"], fault
    assert tuned.entries[DEFAULT.key]["seconds"] > 0
    assert tuned.entries[HONEST.key]["seconds"] > 0
    assert sum(worker.starts for worker in workers) > 1, "a process that is not to be trusted is replaced"
    again: list[Process] = []
    assert (
        with_faults(tmp_path / "t", NETWORK, PLAN, [DEFAULT, *wrong.values(), HONEST], again).entries == tuned.entries
    )
    assert again == [], "what failed is not tried again"


def test_what_is_written_beside_a_part_is_a_trespass(tmp_path: Path) -> None:
    network = compile_as_written(program_of(JOINED), Context(EstimatedCosts()))
    wrong = Variant({"contraction": 2, "fault": "between"})
    tuned = with_faults(tmp_path / "t", network, plan(network), [DEFAULT, wrong], [])
    assert tuned.entries[DEFAULT.key]["seconds"] > 0
    assert tuned.entries[wrong.key]["failed"] == "wrote between the parts of the output out"


def test_an_absent_device_has_no_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = NAMED["h200"]
    with Database(tmp_path / "t") as database:
        with pytest.raises(UsageError, match="cannot be measured here"):
            Records(database, gpu)
        here = Records(database, OPENCL)
        other = Records(database, OPENCL, "another device")
        here.write("k", {"{}": {"seconds": 1.0}})
        assert here.read("k") == {"{}": {"seconds": 1.0}}
        assert other.read("k") == {}


def found_schedule(kernel: Compute) -> Variant:
    """Every block bound to threads, as a search would find it."""
    with written_in(dialect_of(OPENCL)):
        blocks = schedulable(kernel.expression)
    schedule = s_tir.Schedule(blocks.function)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        _, channels, rows, _ = schedule.get_loops(block)[:4]
        schedule.bind(channels, "blockIdx.x")
        schedule.bind(rows, "threadIdx.x")
    return Variant({"metaschedule": describe(blocks, schedule)})


def test_what_a_search_finds_is_judged_stored_and_compiled_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def search(kernel: Compute, *rest: object) -> list[Variant]:
        asked.append(kernel.output.name)
        return [found_schedule(kernel), Variant({"metaschedule": "damaged"})]

    def few(*arguments: object) -> list[Variant]:
        return [DEFAULT]

    def tuned() -> TunedKernel:
        with Database(tmp_path / "t") as database:
            records = Records(database, OPENCL)
            request = Request(4, thorough=True)
            return tune_program(NETWORK, PLAN, OPENCL, records, request, space=few, search=search).kernels[0]

    good, bad = found_schedule(tuned().kernel.kernel), Variant({"metaschedule": "damaged"})
    entries = tuned().entries
    assert asked == ["out"], "a search is made once"
    assert entries[good.key]["seconds"] > 0
    assert entries[good.key]["schedule"] == "metaschedule, metaschedule"
    assert "damaged" in entries[bad.key]["failed"]
    built = compiled_for_device(NETWORK, OPENCL, variants={"y": good.parameters})
    feeds = {"x": random_array(IMAGE, 1)}
    np.testing.assert_allclose(built.model().run(feeds)["y"], run_program(NETWORK, feeds)["y"], rtol=1e-4, atol=1e-4)
    assert built.kernels_as_json()[0]["schedules"] == ["metaschedule"] * 2


def test_a_kernel_whose_tensors_are_not_aligned_is_not_searched(tmp_path: Path) -> None:
    network = compile_as_written(program_of(JOINED), Context(EstimatedCosts()))

    asked: list[object] = []

    def search(*arguments: object) -> list[Variant]:
        asked.append(arguments[-1])
        return []

    with Database(tmp_path / "t") as database:
        request = Request(30, thorough=True)
        found = tune_program(
            network, plan(network), OPENCL, Records(database, OPENCL), request,
            space=lambda *arguments: [DEFAULT], search=search,
        )  # fmt: skip
    layouts = {tuned.kernel.uses[0].output.name: tuned.kernel.layout for tuned in found.kernels}
    assert asked == [layouts["a"]]
    assert layouts["a"].strides is not None
    assert layouts["b"].alignments


def test_a_schedule_that_was_searched_for_is_of_one_order_of_terms(tmp_path: Path) -> None:
    x, c, y, z = (tensor(name, 64) for name in "xcyz")
    i = Iterator("i", 64)
    terms = Apply("relu", Access(x, [i])), Access(c, [i])
    statements = [
        Compute(y, Scope([i], Apply("add", *terms))),
        Compute(z, Scope([i], Apply("add", *reversed(terms)))),
    ]
    network = program(statements, [x, c], [y, z])
    (kernel,) = distinct_kernels(network, PLAN, OPENCL)
    with written_in(dialect_of(OPENCL)):
        blocks = schedulable(kernel.kernel.expression)
    schedule = s_tir.Schedule(blocks.function)
    schedule.bind(schedule.get_loops(schedule.get_sblock("stage0"))[0], "threadIdx.x")
    found = Variant({"metaschedule": describe(blocks, schedule)})
    with Database(tmp_path / "t") as database:
        records = Records(database, OPENCL)
        records.write(kernel.key, {
            DEFAULT.key: {"seconds": 1.0, "default_seconds": 1.0},
            found.key: {"seconds": 0.5, "default_seconds": 1.0, "schedule": "metaschedule"},
        })  # fmt: skip
        tuning = tune_program(
            network, PLAN, OPENCL, records, Request(2, thorough=True), space=lambda *arguments: [DEFAULT, found]
        )
    assert list(tuning.variants.values()) == [found.parameters]
