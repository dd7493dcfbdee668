"""``optimize --training``: one program of outputs and derivatives, compiled, checked, run and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tensoropt
from tensoropt.check import random_feeds
from tensoropt.cli import main
from tests.strategies.training import classifier, tower

PARAMETERS = {"w0", "w1", "w2", "b2", "scale", "bias"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def test_a_training_step_as_an_artefact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, folder = tmp_path / "classifier.onnx", tmp_path / "step"
    onnx.save(classifier(), model)
    arguments = ["optimize", str(model), "--training", "loss", "--tune", "off", "--threads", "1", "--json"]
    assert main([*arguments, "-o", str(folder)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["check"]["ok"] is True
    step = tensoropt.load(folder)
    assert {tensor.name for tensor in step.inputs} == {"image", "labels", *PARAMETERS}
    assert {tensor.name for tensor in step.outputs} == {"loss", "scores", *(f"{name}.grad" for name in PARAMETERS)}
    assert main(["run", str(folder), "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["check"]["ok"] is True
    values = dict(np.load(folder / "parameters.npz"))
    assert values.keys() == PARAMETERS
    generator = np.random.default_rng(3)
    feeds: dict[str, Any] = {
        "image": generator.standard_normal((3, 3, 10, 10)).astype(np.float32),
        "labels": np.array([0, 3, 4], np.int64),
    }
    losses: list[float] = []
    for _ in range(12):  # it learns its three images
        results = step.run({**feeds, **values})
        losses.append(float(results["loss"]))
        values = {name: value - 0.05 * results[f"{name}.grad"] for name, value in values.items()}
    assert losses[-1] < losses[0] / 2
    given = tmp_path / "inputs.npz"
    np.savez(given, image=feeds["image"], labels=feeds["labels"])
    assert main(["run", str(folder), "--inputs", str(given), "--json"]) == 0
    capsys.readouterr()
    assert main(["tune", str(folder), "--trials", "2", "--time-limit", "20", "--threads", "1"]) == 0
    assert (folder / "parameters.npz").exists()


def test_a_training_step_within_a_budget() -> None:
    """What is recomputed gives the same bits as what was kept."""
    whole = tensoropt.optimize(tower(), training="loss", tune="off", threads=1, exclude_rules="all")
    less = tensoropt.optimize(
        tower(), training="loss", tune="off", threads=1, exclude_rules="all", memory_budget="60%", time_limit=30.0
    )
    memory = less.report()["memory"]
    assert less.check.ok
    assert memory["arena_bytes"] <= memory["budget_bytes"]
    assert memory["recomputed"]
    feeds = {**random_feeds(whole.imported.program.inputs, 1), **whole.imported.values}
    expected, found = whole.run(feeds), less.run(feeds)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def small(operator: str, loss_shape: list[int], weights: bool = True) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node(operator, ["y"], ["z"], "middle")]
    if operator == "Det" or not loss_shape:
        nodes.append(helper.make_node("ReduceSum", ["z"], ["loss"], keepdims=0))
    else:
        nodes.append(helper.make_node("Identity", ["z"], ["loss"]))
    info = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 3])]
    values = [numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")]
    if not weights:
        info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 3]))
        values = []
    outputs = [helper.make_tensor_value_info("loss", TensorProto.FLOAT, loss_shape)]
    graph = helper.make_graph(nodes, "small", info, outputs, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    ("model", "loss", "message"),
    [
        (small("Det", []), "loss", "node 'middle' (Det) is between the loss 'loss' and a parameter"),
        (small("Relu", []), "cost", "no output 'cost' to be the loss; its outputs are loss"),
        (small("Relu", [3, 3]), "loss", "the loss 'loss' is f32[3, 3], and has to be one number"),
        (small("Relu", [], weights=False), "loss", "has no parameters to train"),
        (small("Floor", []), "loss", "the loss 'loss' has no derivative by any parameter"),
    ],
    ids=["opaque", "no such output", "many numbers", "no weights", "flat"],
)
def test_what_cannot_be_trained_is_refused(
    model: onnx.ModelProto, loss: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.onnx"
    onnx.save(model, path)
    assert main(["optimize", str(path), "--training", loss, "-o", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()
