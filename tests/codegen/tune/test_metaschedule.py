"""MetaSchedule: what is found computes the kernel, limits hold, and what cannot be searched says why."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from codegen.device.kernel import compile_kernel as compile_for_device
from codegen.kernel import compile_kernel
from codegen.targets.cpu import host_target
from codegen.tune.guarded import Trespass
from codegen.tune.metaschedule import Variant, explore, search
from codegen.tune.serving import replying
from tensoropt.ir.expression import Access, Reducer, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType, Extent, TensorType
from tensoropt.isolated import Failed
from tests.strategies.compilers import OPENCL
from tests.strategies.networks import convolution, random_array, tensor

TARGET = host_target(2)
SMALL = convolution(tensor("y", 1, 8, 6, 6), tensor("x", 1, 4, 6, 6), tensor("k", 8, 4, 3, 3), 1)


@pytest.mark.slow
def test_the_fastest_schedules_come_first_and_agree_with_the_interpreter() -> None:
    found = search(SMALL, TARGET, trials=6, seconds=100, seed=3)
    assert found
    assert [seconds for _, seconds in found] == sorted(seconds for _, seconds in found)
    values = {source.name: random_array(source) for source in SMALL.inputs}
    expected = evaluate(SMALL.expression, values)
    for variant, _ in found:
        actual = compile_kernel(SMALL, TARGET, variant=variant)(values)["y"]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_schedules_are_looked_for_on_a_device() -> None:
    found = search(SMALL, OPENCL, trials=6, seconds=200, seed=3)
    assert found
    values = {source.name: random_array(source) for source in SMALL.inputs}
    expected = evaluate(SMALL.expression, values)
    for variant, _ in found:
        actual = compile_for_device(SMALL, OPENCL, variant=variant)(values)["y"]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_candidates_may_be_measured_elsewhere_and_may_fail() -> None:
    batches: list[Sequence[Variant]] = []

    def measure(variants: Sequence[Variant]) -> list[float | None]:
        batches.append(variants)
        return [None if number % 2 else 1.0 + number for number in range(len(variants))]

    found = list(explore(SMALL, TARGET, trials=20, seconds=100, measure=measure))
    tried = [variant["metaschedule"] for batch in batches for variant in batch]
    assert 16 <= len(tried) <= 20
    assert len(set(tried)) == len(tried)
    assert [variant["metaschedule"] for variant, _ in found] == [
        batch[number]["metaschedule"] for batch in batches for number in range(0, len(batch), 2)
    ]


def test_a_limit_of_time_holds_inside_a_step() -> None:
    started = time.monotonic()
    with pytest.raises(Failed, match="took longer than"):
        search(SMALL, TARGET, trials=64, seconds=0.2)
    assert time.monotonic() - started < 20  # the processes are ended, not waited for


def test_a_kernel_without_a_form_in_blocks_says_why() -> None:
    half = Tensor("h", TensorType(DataType.FLOAT16, (Extent(3), Extent(4))))
    i, k = Iterator("i", 3), Iterator("k", 4)
    statement = Compute(
        Tensor("y", TensorType(DataType.FLOAT16, (Extent(3),))), Scope([i], Access(half, [i, k]), [k], Reducer.MAX)
    )
    with pytest.raises(Failed, match="values of type f16"):
        search(statement, TARGET, trials=2, seconds=100)


def test_a_reply_tells_a_candidate_that_failed_from_a_process_that_is_not_to_be_used() -> None:
    def answer(error: Exception | None) -> str:
        if error is not None:
            raise error
        return "made"

    reply = replying(answer)
    assert reply(None) == ("done", "made")
    assert reply(ValueError("no")) == ("failed", "ValueError: no")
    assert reply(Trespass("wrote before the output y")) == ("broken", "wrote before the output y")
