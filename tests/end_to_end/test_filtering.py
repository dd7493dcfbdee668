"""A convolution by products at points from an ONNX file to a folder, what other runtimes get, and a model that is too sensitive."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tensoropt
from codegen.tune.worker import MeasuredCost
from tensoropt import api
from tensoropt.check import CheckResult, Difference
from tests.strategies.estimated_costs import PreferChange


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(MeasuredCost, "compare", PreferChange().compare)


def network() -> onnx.ModelProto:
    """Two convolutions of 3×3 taps, the second with taps that are two apart, and a residual."""
    random = np.random.default_rng(0)
    made = {"k1": (16, 8, 3, 3), "b1": (16,), "k2": (16, 16, 3, 3), "b2": (16,)}
    weights = [
        numpy_helper.from_array((random.standard_normal(shape) / 12).astype(np.float32), name)
        for name, shape in made.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "k1", "b1"], ["h"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["a"], name="act"),
        helper.make_node("Conv", ["a", "k2", "b2"], ["c"], name="second", pads=[2, 2, 2, 2], dilations=[2, 2]),
        helper.make_node("Add", ["c", "a"], ["y"], name="sum"),
    ]
    shape = [1, 8, 40, 44]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 40, 44])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def kept(report: dict[str, object]) -> list[str]:
    rewrites = report["rewrites"]
    assert isinstance(rewrites, list)
    return [entry["node"] for entry in rewrites if entry["pattern"].startswith("winograd")]


def test_both_convolutions_are_one_kernel_each_and_other_runtimes_get_them_as_they_were(tmp_path: Path) -> None:
    compiled = tensoropt.optimize(network(), tune="off")
    report = compiled.report()
    assert sorted(kept(report)) == ["first", "second"]
    assert report["check"]["ok"]
    assert [kernel["schedules"][0].split()[0] for kernel in report["kernels"]] == ["filtering", "filtering"]
    folder = compiled.save(tmp_path / "made")
    exported = onnx.load(folder / "optimized.onnx")
    assert [node.op_type for node in exported.graph.node].count("Conv") == 2
    shapes = sorted(tuple(weight.dims) for weight in exported.graph.initializer if len(weight.dims) == 4)
    assert shapes == [(16, 8, 3, 3), (16, 16, 3, 3)]
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 8, 40, 44)).astype(np.float32)}
    np.testing.assert_array_equal(tensoropt.load(folder).run(feeds)["y"], compiled.run(feeds)["y"])


def test_a_folder_is_tuned_again_from_what_it_holds(tmp_path: Path) -> None:
    folder = tensoropt.optimize(network(), tune="off").save(tmp_path / "made")
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 8, 40, 44)).astype(np.float32)}
    before = tensoropt.load(folder).run(feeds)["y"]
    found = tensoropt.tune(folder, trials=2, time_limit=60)
    assert len(found["kernels"]) == 2
    after = tensoropt.load(folder).run(feeds)["y"]
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * float(np.abs(before).max()))
    json.dumps(found)


def test_a_model_whose_check_fails_is_compiled_without(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = api.check_model
    calls: list[CheckResult] = []

    def strict(*arguments: object) -> CheckResult:
        result = checked(*arguments)  # type: ignore[arg-type]
        calls.append(result)
        if len(calls) > 1:
            return result
        return CheckResult((Difference("y", 1.0, 1.0, 1e-4),))

    monkeypatch.setattr("tensoropt.api.optimizing.check_model", strict)
    compiled = tensoropt.optimize(network(), tune="off")
    report = compiled.report()
    assert len(calls) == 2
    assert not kept(report)
    assert report["check"]["ok"]
    assert any("products at points" in warning for warning in report["warnings"])
