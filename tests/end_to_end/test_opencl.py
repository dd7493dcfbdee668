"""From an ONNX file to a folder that runs on an OpenCL device, through the command line, as a user goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from codegen.tune.database import Database
from codegen.tune.records import Records
from examples.gpu_targets import LIGHT
from examples.models import MODELS
from passes.derive.cost import EstimatedCosts
from passes.pipeline import compile_as_written
from tensoropt.api.checking import check_model
from tensoropt.api.compiling import compiled_for_device
from tensoropt.check import random_feeds
from tensoropt.cli import main
from tensoropt.frontend import load_program
from tensoropt.pass_manager import Context
from tests.strategies.compilers import OPENCL


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def small_network(path: Path, kind: int = TensorProto.FLOAT) -> Path:
    """Convolution, pooling, two branches beside one another, a product and a softmax."""
    numbers = np.random.default_rng(0)
    dtype = helper.tensor_dtype_to_np_dtype(kind)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((numbers.standard_normal(shape) * 0.2).astype(dtype), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["p", "w2"], ["one"]),
        helper.make_node("Conv", ["p", "w3"], ["three"], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["one", "three"], ["both"], axis=1),
        helper.make_node("GlobalAveragePool", ["both"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "w4"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"], axis=1),
    ]
    weights = [weight("w1", 6, 3, 3, 3), weight("b1", 6), weight("w2", 5, 6, 1, 1), weight("w3", 7, 6, 3, 3)]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", kind, [2, 3, 15, 17])],
        [helper.make_tensor_value_info("y", kind, None)],
        [*weights, weight("w4", 12, 10)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_a_model_becomes_a_folder_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: int) -> None:
    model, folder = small_network(tmp_path / "m.onnx", kind), tmp_path / "out"
    assert main(["optimize", str(model), "--target", "opencl", "-o", str(folder), "--tune", "off", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["check"]["ok"]
    assert report["check"]["statements_checked"] >= 6
    assert report["target"]["kind"] == "opencl"
    x = np.random.default_rng(1).standard_normal((2, 3, 15, 17)).astype(helper.tensor_dtype_to_np_dtype(kind))
    np.savez(tmp_path / "x.npz", x=x)
    outputs = ["--inputs", str(tmp_path / "x.npz"), "--outputs", str(tmp_path / "y.npz")]
    assert main(["run", str(folder), *outputs]) == 0
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    tolerance = 1e-5 if kind == TensorProto.FLOAT else 1e-2
    np.testing.assert_allclose(np.load(tmp_path / "y.npz")["y"], expected, rtol=tolerance, atol=tolerance / 100)


def test_a_model_runs_on_the_spot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_network(tmp_path / "m.onnx")
    assert main(["run", str(model), "--target", "opencl", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["check"]["ok"]


def test_the_device_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    targets = {target["name"]: target for target in json.loads(capsys.readouterr().out)["targets"]}
    assert targets["cpu"]["kind"] == "cpu"
    assert targets["opencl"]["device"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--memory-budget", "80%"], "--memory-budget is for the target cpu, not for opencl"),
        (["--threads", "2"], "--threads is for the target cpu, not for opencl"),
        (["--tune", "some"], "--tune is off, fast or full, not 'some'"),
        (["--exclude-rule", "stage"], "nothing is derived for opencl, where --exclude-rule would matter; leave it out"),
        (["--target", "abacus"], "the target 'abacus' is not"),
    ],
)
def test_what_a_device_is_not_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    model = small_network(tmp_path / "m.onnx")
    assert main(["optimize", str(model), "--target", "opencl", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_options_that_say_what_happens_anyway(tmp_path: Path) -> None:
    model = small_network(tmp_path / "m.onnx")
    given = ["--target", "opencl", "--tune", "off", "--exclude-rule", "all", "--no-check"]
    assert main(["optimize", str(model), "-o", str(tmp_path / "out"), *given]) == 0


def test_a_device_is_timed_against_engines_of_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_network(tmp_path / "m.onnx")
    given = [
        "--target",
        "opencl",
        "--against",
        "onnxruntime",
        "--blocks",
        "5",
        "--threads",
        "1",
        "--tune",
        "off",
        "--json",
    ]
    assert main(["bench", str(model), *given]) == 0
    said = capsys.readouterr()
    assert set(json.loads(said.out)["engines"]) == {"tensoropt", "onnxruntime"}
    assert "ours runs on opencl, peers run on the CPU" in said.err


def said_by(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What a command says with ``--json``."""
    assert main([*map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def prefer(path: Path) -> list[dict[str, int]]:
    """Has the database say that one way to cut each contraction is the fastest: which one is, is not this test's question."""
    with Database(path) as database:
        records = Records(database, OPENCL)
        assert database._connection is not None
        asked = "SELECT kernel, max(variant) FROM measurements WHERE variant LIKE '{\"contraction\": %' GROUP BY kernel"
        found = dict(database._connection.execute(asked).fetchall())
        for kernel, variant in found.items():
            entry = records.read(kernel)[variant]
            records.write(kernel, {variant: {**entry, "seconds": 1e-7, "default_seconds": 1e-6}})
    return [json.loads(variant) for variant in found.values()]


def test_kernels_are_tuned_and_folders_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What ``tune`` measures, ``optimize`` uses and does not measure again; a folder becomes the faster one in one step."""
    model, folder, db = small_network(tmp_path / "m.onnx"), tmp_path / "out", tmp_path / "t.sqlite"
    said_by(capsys, "optimize", model, "--target", "opencl", "-o", folder, "--tune", "off", "--no-check")
    tuned = said_by(capsys, "tune", model, "--target", "opencl", "--trials", 6, "--db", db)
    assert tuned["artefact"] is None
    assert tuned["stopped"] == ""
    assert not any(kernel["failed"] for kernel in tuned["kernels"])
    assert tuned["before_ms"] >= tuned["after_ms"] > 0
    measured = tuned["database"]["measurements"]
    preferred = prefer(db)
    assert len(preferred) >= 2

    report = said_by(capsys, "optimize", model, "--target", "opencl", "-o", tmp_path / "new", "--db", db)
    assert report["check"]["ok"]
    chosen = {kernel["kernel"]: kernel["variant"] for kernel in report["tuning"]["kernels"] if kernel["variant"]}
    assert all(variant in chosen.values() for variant in preferred)
    with Database(db) as database:
        assert database.size()[0] == measured, "nothing was measured"

    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    replaced = said_by(capsys, "tune", folder, "--trials", 6, "--db", db)
    assert replaced["artefact"]["replaced"]
    assert replaced["artefact"]["latency_ms"].keys() == {"before", "after"}
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} >= {"kernels.cl", "launches.json", "manifest.json"}
    assert said_by(capsys, "run", folder, "--check")["check"]["ok"]
    assert not said_by(capsys, "tune", folder, "--trials", 6, "--db", db)["artefact"]["replaced"]

    assert main(["tune", str(folder), "--threads", "2"]) == 2
    assert "--threads is for the target cpu" in capsys.readouterr().err
    assert main(["tune", str(folder), "--target", "cuda:h200"]) == 2


def test_attention_stores_no_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two heads, as exporters write them: projected, reshaped, transposed; with a scale and a mask."""
    numbers = np.random.default_rng(3)
    weights = {name: (numbers.standard_normal((24, 24)) * 0.2).astype(np.float32) for name in ("wq", "wk", "wv", "wo")}
    weights |= {"scale": np.array(12**-0.5, np.float32), "mask": np.where(np.tri(45), 0, -1e9).astype(np.float32)}
    nodes = []
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            helper.make_node("MatMul", ["x", f"w{name}"], [f"{name}1"]),
            helper.make_node("Reshape", [f"{name}1", "heads"], [f"{name}2"]),
            helper.make_node("Transpose", [f"{name}2"], [f"{name}3"], perm=order),
        ]
    nodes += [
        helper.make_node("MatMul", ["q3", "k3"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["t"]),
        helper.make_node("Add", ["t", "mask"], ["u"]),
        helper.make_node("Softmax", ["u"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v3"], ["o1"]),
        helper.make_node("Transpose", ["o1"], ["o2"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["o2", "joined"], ["o3"]),
        helper.make_node("MatMul", ["o3", "wo"], ["y"]),
    ]
    shapes = {"heads": np.array([2, 45, 2, 12]), "joined": np.array([2, 45, 24])}
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 45, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 45, 24])],
        [numpy_helper.from_array(array, name) for name, array in (weights | shapes).items()],
    )
    path = tmp_path / "attention.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert (
        main(["optimize", str(path), "--target", "opencl", "-o", str(tmp_path / "out"), "--tune", "off", "--json"]) == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert report["check"]["ok"]
    (attention,) = (kernel for kernel in report["kernels"] if kernel["schedules"][0].startswith("attention"))
    assert len(attention["launches"]) == 1
    assert attention["workspace_bytes"] == 0
    assert len(report["kernels"]) == 6, "three projections, attention, heads beside one another, a projection"


@pytest.mark.parametrize("name", LIGHT)
def test_every_kernel_of_light_models_agrees_with_onnx_runtime(name: str) -> None:
    imported = load_program(MODELS[name](1), {})
    program = compile_as_written(imported.program, Context(EstimatedCosts()))
    feeds = random_feeds(imported.program.inputs, 0)
    found = check_model(imported, program, compiled_for_device(program, OPENCL), feeds, 0, {})
    assert found.ok
    assert len(found.statements) >= len(program.statements) / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["srcnn", "light_shufflenet"])
def test_whole_models_agree_with_onnx_runtime(tmp_path: Path, name: str) -> None:
    onnx.save(MODELS[name](1), tmp_path / "m.onnx")
    assert (
        main(["optimize", str(tmp_path / "m.onnx"), "--target", "opencl", "-o", str(tmp_path / "out"), "--tune", "off"])
        == 0
    )
