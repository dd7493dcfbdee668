"""``optimize --memory-budget``: the arena is within it, and outputs are bit for bit those of the same kernels without a plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tensoropt
from codegen.build import BuiltProgram
from codegen.tune import artefacts
from tensoropt.api import tuning
from tensoropt.api.compiling import compiled
from tensoropt.cli import main

LAYERS = 4


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forwards, and backwards with what was made forwards, through one weight: half of it is live in the middle."""
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) / 8
    nodes, value = [], "x"
    for layer in range(LAYERS):
        nodes.append(helper.make_node("MatMul", [value, "w"], [f"m{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [f"f{layer}"]))
        value = f"f{layer}"
    for layer in reversed(range(LAYERS)):
        nodes.append(helper.make_node("MatMul", [value, "w"], [f"n{layer}"]))
        nodes.append(helper.make_node("Mul", [f"n{layer}", f"f{layer}"], [f"b{layer}"]))
        value = f"b{layer}"
    graph = helper.make_graph(
        nodes,
        "back",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [96, 64])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [96, 64])],
        [numpy_helper.from_array(weights, "w")],
    )
    file = tmp_path_factory.mktemp("budget") / "back.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    return file


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def test_a_model_in_less_memory(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made"
    arguments = ["optimize", str(path), "--tune", "off", "--exclude-rule", "all", "--threads", "1", "--json"]
    assert main([*arguments, "-o", str(tmp_path / "whole")]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["memory"] == {}
    assert main([*arguments, "-o", str(folder), "--memory-budget", "80%"]) == 0
    report = json.loads(capsys.readouterr().out)
    plan = report["memory"]
    assert plan["recomputed"] > 0
    assert report["peak_bytes"]["arena"] <= plan["budget_bytes"] < whole["peak_bytes"]["arena"]
    assert plan["arena_bytes"] <= plan["budget_bytes"] == int(0.8 * plan["peak_bytes_baseline"])
    assert report["check"]["ok"] is True
    assert len(report["kernels"]) == len(whole["kernels"]) + plan["recomputed"]

    model, other = tensoropt.load(folder), tensoropt.load(tmp_path / "whole")
    assert model.arena_bytes == report["peak_bytes"]["arena"]
    feeds = {"x": np.random.default_rng(1).standard_normal((96, 64)).astype(np.float32)}
    for name, value in other.run(feeds).items():
        np.testing.assert_array_equal(model.run(feeds)[name], value)
    assert main(["inspect", str(folder), "--stage", "plan"]) == 0
    assert "#2" in capsys.readouterr().out

    assert main(["tune", str(folder), "--trials", "3", "--db", str(tmp_path / "t.sqlite")]) == 0
    capsys.readouterr()
    tuned = tensoropt.load(folder)
    assert tuned.arena_bytes <= plan["budget_bytes"]
    for name, value in other.run(feeds).items():
        np.testing.assert_allclose(tuned.run(feeds)[name], value, rtol=1e-4, atol=1e-5)

    def greedy(*arguments: Any, **options: Any) -> BuiltProgram:
        built = compiled(*arguments, **options)
        return replace(built, signature=replace(built.signature, arena_bytes=plan["budget_bytes"] + 1))

    monkeypatch.setattr(tuning, "compiled", greedy)
    monkeypatch.setattr(artefacts, "_schedules", lambda kernels: object())  # no two are the same
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert main(["tune", str(folder), "--trials", "1", "--db", str(tmp_path / "t.sqlite")]) == 3
    assert "more than its budget" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before


def test_a_budget_that_nothing_fits_writes_nothing(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["optimize", str(path), "-o", str(tmp_path / "made"), "--tune", "off", "--threads", "1"]
    assert main([*arguments, "--memory-budget", "1KiB"]) == 3
    message = capsys.readouterr().err
    assert "needs 24576 bytes while it runs" in message
    assert "is the smallest budget that is known to fit" in message
    assert not (tmp_path / "made").exists()
    assert main([*arguments, "--memory-budget", "lots"]) == 2
    assert "neither a number of bytes" in capsys.readouterr().err


def test_values_are_copied_to_the_host_and_back(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At a rate that makes a fetch cheaper than a product, and with the same bits."""
    arguments = ["optimize", str(path), "--tune", "off", "--exclude-rule", "all", "--threads", "1", "--json"]
    assert main([*arguments, "-o", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    folder = tmp_path / "paged"
    assert main([*arguments, "-o", str(folder), "--memory-budget", "70%", "--paging", "9000GB/s"]) == 0
    plan = json.loads(capsys.readouterr().out)["memory"]
    assert plan["fetched"] > 0
    assert plan["arena_bytes"] <= plan["budget_bytes"]
    feeds = {"x": np.random.default_rng(1).standard_normal((96, 64)).astype(np.float32)}
    found, expected = tensoropt.load(folder).run(feeds), tensoropt.load(tmp_path / "whole").run(feeds)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert main(["inspect", str(folder), "--stage", "plan"]) == 0
    assert "@host" in capsys.readouterr().out
    assert main([*arguments, "-o", str(folder), "--paging", "9000GB/s"]) == 2
    assert "--paging is for a plan within a --memory-budget" in capsys.readouterr().err


def test_slabs_where_one_working_set_is_too_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32)
    last = np.random.default_rng(1).standard_normal((2, 16, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["p", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pooled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 96, 96])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 24, 24])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(last, "v")],
    )
    model = tmp_path / "pooled.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), model)
    arguments = ["optimize", str(model), "--tune", "off", "--exclude-rule", "all", "--threads", "1", "--json"]
    assert main([*arguments, "-o", str(tmp_path / "cut"), "--memory-budget", "55%"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["check"]["ok"] is True
    assert report["memory"]["in_slabs"] == ["p"]
    assert report["memory"]["arena_bytes"] <= 0.55 * report["memory"]["peak_bytes_whole"]
    assert main([*arguments, "-o", str(tmp_path / "cut"), "--memory-budget", "1%"]) == 3


def test_a_view_within_a_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("AveragePool", ["a"], ["p"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Reshape", ["p", "s"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["m"]),
        helper.make_node("MatMul", ["m", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "view",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 8, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 8, 8])],
        [
            numpy_helper.from_array(np.array([4, 8, 256]), "s"),
            numpy_helper.from_array(generator.standard_normal((256, 64)).astype(np.float32), "w"),
            numpy_helper.from_array(generator.standard_normal((64, 8)).astype(np.float32), "v"),
        ],
    )
    model = tmp_path / "view.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), model)
    arguments = ["optimize", str(model), "-o", str(tmp_path / "v"), "--tune", "off", "--exclude-rule", "all", "--json"]
    for share in ("60%", "1%"):
        assert main([*arguments, "--threads", "1", "--memory-budget", share]) in (0, 3)
        assert "Traceback" not in capsys.readouterr().err
