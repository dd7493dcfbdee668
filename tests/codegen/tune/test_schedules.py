"""The search over schedules changes how a kernel runs, never what it computes."""

from pathlib import Path

import numpy as np
import pytest

from codegen.build import compile_program
from codegen.lower.kernel import lower
from codegen.targets.cpu import host_target
from codegen.tune.schedules import search
from codegen.tune.worker import MeasuredCost
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute
from tensoropt.plan_types import Plan
from tests.strategies.networks import convolution, program, random_array, tensor

IMAGE, KERNEL, OUT = tensor("x", 1, 16, 9, 9), tensor("k", 24, 16, 3, 3), tensor("y", 1, 24, 9, 9)
NETWORK = program([convolution(OUT, IMAGE, KERNEL, 1)], [IMAGE], [OUT], k=random_array(KERNEL))
PLAN = Plan({}, 0, 0)


def test_off_searches_nothing_and_fast_gives_a_kernel_that_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path))
    target = host_target(2)
    with MeasuredCost(target, seconds=0.05) as cost_model:
        assert search(NETWORK, PLAN, cost_model, "off") == {}
        variants = search(NETWORK, PLAN, cost_model, "fast")
    feeds = {"x": random_array(IMAGE, 1)}
    built = compile_program(NETWORK, PLAN, target, variants=variants)
    expected = run_program(NETWORK, feeds)["y"]
    np.testing.assert_allclose(built.model().run(feeds)["y"], expected, rtol=1e-4, atol=1e-4)


def test_every_schedule_of_a_contraction_agrees() -> None:
    target = host_target(2)
    statement = NETWORK.statements[0]
    assert isinstance(statement, Compute)
    assert any(
        name.startswith("contraction") for name in lower(OUT, statement.expression, target, frozenset("k")).schedules
    )
    feeds = {"x": random_array(IMAGE, 2)}
    expected = run_program(NETWORK, feeds)["y"]
    for number in range(6):
        built = compile_program(NETWORK, PLAN, target, variants={"y": {"contraction": number}})
        np.testing.assert_allclose(built.model().run(feeds)["y"], expected, rtol=1e-4, atol=1e-4)
