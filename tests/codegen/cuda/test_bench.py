"""Candidates measured through the driver's interface, with a driver that does in host memory what a GPU would be told to do."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from codegen.cuda.bench import CudaBench
from codegen.cuda.driver import OUT_OF_MEMORY
from codegen.cuda.runtime import Image
from codegen.tune.device_run import GuardedDeviceRun, Unsteady
from codegen.tune.guarded import Broken, Trespass
from codegen.tune.layout import Layout
from tensoropt.errors import ArtefactError
from tests.codegen.cuda.test_runtime import CODE, COUNT, KERNELS, SIGNATURE, STARTS, WEIGHTS, X, add, double
from tests.strategies.fake_driver import FakeDriver, Kernel, floats

FEEDS = {"x": X, "unused": np.zeros(0, np.float32)}


def measured(
    kernels: dict[str, Kernel], cache_bytes: int = 0, layout: Layout | None = None
) -> tuple[GuardedDeviceRun, FakeDriver]:
    """``y = 2 (x + w)`` by some kernels, ready to run."""
    driver = FakeDriver(kernels)
    bench = CudaBench(driver, [Image(CODE, "sm_90", {"add": 0, "double": 0})], cache_bytes)
    built: Any = SimpleNamespace(signature=SIGNATURE, starts=STARTS, weights=WEIGHTS, steps=())
    return GuardedDeviceRun(built, FEEDS, bench, layout or Layout()), driver


def test_an_honest_candidate_is_timed() -> None:
    run, driver = measured(KERNELS)
    run()
    np.testing.assert_array_equal(run.finish()["again"], 2 * (X + np.arange(COUNT, dtype=np.float32).reshape(2, 3)))
    assert run.seconds() == run.seconds() == 2.0, "launches of one run"
    assert driver.count("begin_capture") == 1
    assert driver.count("replay") == 4, "the one that is timed comes behind another"
    assert run.clocks() == {"graphics": 1980, "memory": 3201}


def test_copies_exceed_the_cache() -> None:
    alone, driver = measured(KERNELS)
    zones = driver.count("allocate")
    used = sum(tensor.type.bytes for tensor in SIGNATURE.inputs) + 4 * COUNT + SIGNATURE.arena_bytes + WEIGHTS.nbytes
    for cache_bytes, expected in ((used - 1, 1), (used, 2), (10 * used, 11), (10**6, 64)):
        run, driver = measured(KERNELS, cache_bytes)
        assert driver.count("allocate") == expected * zones
        assert run.seconds() == alone.seconds() == 2.0, "of one of them"
        run()
        run.finish()


def test_memory_is_given_back() -> None:
    run, driver = measured(KERNELS, cache_bytes=300_000)
    run()
    del run
    assert driver.allocations == {}


def everything(run: GuardedDeviceRun) -> None:
    run()
    run.seconds()
    run.finish()


def beyond(x: int, y: int) -> None:
    double(x, y)
    ctypes.memset(y + 4 * COUNT, 0, 1)


def ahead(x: int, y: int) -> None:
    double(x, y)
    ctypes.memset(y - 1, 0, 1)


def to_input(x: int, w: int, y: int) -> None:
    add(x, w, y)
    ctypes.memset(x, 0x55, 1)


def to_weights(x: int, w: int, y: int) -> None:
    add(x, w, y)
    ctypes.memset(w, 0x55, 1)


@pytest.mark.parametrize(
    ("kernels", "said"),
    [
        ({"add": add, "double": beyond}, "wrote after the output again"),
        ({"add": add, "double": ahead}, "wrote before the output again"),
        ({"add": to_input, "double": double}, "wrote to the input x"),
        ({"add": to_weights, "double": double}, "wrote to its constants"),
    ],
)
def test_a_trespass_is_found_out(kernels: dict[str, Kernel], said: str) -> None:
    run, _ = measured(kernels)
    run()
    with pytest.raises(Trespass, match=said):
        run.finish()


def test_what_differs_from_run_to_run_is_found_out() -> None:
    turns = iter(range(100))

    def racing(x: int, y: int) -> None:
        floats(y, COUNT)[:] = 2 * floats(x, COUNT) + (next(turns) == 1)

    run, _ = measured({"add": add, "double": racing}, cache_bytes=30_000)
    run()
    with pytest.raises(Unsteady, match="again differs"):
        run.finish()


def test_tensors_begin_where_the_layout_says() -> None:
    seen: list[tuple[int, int]] = []

    def noting(x: int, w: int, y: int) -> None:
        seen.append((x % 16, w % 16))
        add(x, w, y)

    run, _ = measured({"add": noting, "double": double}, layout=Layout(None, (("x", 4), ("y", 8))))
    run()
    run.finish()
    assert seen == [(4, 0)]


@pytest.mark.parametrize("call", ["launch", "synchronise", "replay", "download"])
def test_a_device_that_fails_is_not_asked_again(call: str) -> None:
    run, driver = measured(KERNELS)
    run()
    run.seconds()
    driver.failing[call] = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(Broken, match="the device failed"):
        everything(run)


def test_no_room_costs_the_candidate_alone() -> None:
    driver = FakeDriver(KERNELS, memory_bytes=20_000)
    bench = CudaBench(driver, [Image(CODE, "sm_90", {"add": 0, "double": 0})], 0)
    built: Any = SimpleNamespace(signature=SIGNATURE, starts=STARTS, weights=WEIGHTS, steps=())
    with pytest.raises(ArtefactError, match="has no room"):
        GuardedDeviceRun(built, FEEDS, bench, Layout())
    assert OUT_OF_MEMORY not in driver.failing.values()
    assert driver.allocations == {}, "what it had taken is given back"
