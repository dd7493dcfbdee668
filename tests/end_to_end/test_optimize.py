"""From an ONNX file to a folder that runs, through the command line, as a user goes."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tensoropt
from codegen.tune.worker import MeasuredCost
from passes import pipeline
from tensoropt.cli import main
from tensoropt.errors import InputError
from tensoropt.ir.expression import Access, Scope
from tensoropt.ir.index import Index
from tensoropt.ir.program import Array, Compute, Program, Statement
from tensoropt.pass_manager import Context
from tests.strategies.estimated_costs import PreferChange


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def weights(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    fan_in = int(np.prod(shape[1:])) or 1
    array = np.random.default_rng([seed, len(name)]).standard_normal(shape) / np.sqrt(fan_in)
    return numpy_helper.from_array(array.astype(np.float32), name)


def write(path: Path, nodes: list[onnx.NodeProto], shape: list[int], initializers: list[onnx.TensorProto]) -> Path:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def perceptron(folder: Path) -> Path:
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="first", transB=1),
        helper.make_node("Relu", ["h"], ["a"], name="act"),
        helper.make_node("Gemm", ["a", "w2", "b2"], ["y"], name="second", transB=1),
    ]
    made = [weights("w1", 33, 20), weights("b1", 33), weights("w2", 7, 33, seed=1), weights("b2", 7, seed=1)]
    return write(folder / "perceptron.onnx", nodes, [5, 20], made)


def upsampler(folder: Path) -> Path:
    """A transposed convolution, large enough that derivation pays."""
    nodes = [
        helper.make_node(
            "ConvTranspose", ["x", "w", "b"], ["s"], name="up", kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["s"], ["y"], name="act"),
    ]
    return write(folder / "upsampler.onnx", nodes, [1, 64, 8, 8], [weights("w", 64, 48, 4, 4), weights("b", 48)])


def reference(path: Path, feeds: dict[str, Array]) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result: Array = session.run(None, feeds)[0]
    return result


def test_a_perceptron_through_every_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = perceptron(tmp_path), tmp_path / "out"
    assert main(["optimize", str(path), "-o", str(folder), "--tune", "off", "--threads", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["check"]["ok"] is True
    assert report["check"]["statements_checked"] == 2
    assert {
        "target",
        "latency_ms",
        "peak_bytes",
        "derivations",
        "regions",
        "searches",
        "search",
        "rewrites",
        "search_seconds",
        "kernels",
    } <= report.keys()
    assert report["search"]["truncated"] is False
    assert {entry["node"] for entry in report["regions"]} == {"first", "second"}
    for name in ("model.so", "weights.bin", "manifest.json", "program.txt", "trace.json", "optimized.onnx"):
        assert (folder / name).is_file(), name

    feeds = {"x": np.random.default_rng(5).standard_normal((5, 20)).astype(np.float32)}
    np.savez(tmp_path / "in.npz", **feeds)  # type: ignore[arg-type]
    arguments = ["--inputs", str(tmp_path / "in.npz"), "--outputs", str(tmp_path / "out.npz"), "--check", "--json"]
    assert main(["run", str(folder), *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["check"]["ok"] is True
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["y"], reference(path, feeds), rtol=1e-4, atol=1e-5)

    assert main(["inspect", str(folder)]) == 0
    assert "relu" in capsys.readouterr().out
    assert main(["inspect", str(folder), "--diff", "import", "fuse"]) == 0
    assert any(line.startswith("-") for line in capsys.readouterr().out.splitlines())
    assert main(["inspect", str(folder), "--node", "first"]) == 0
    assert main(["inspect", str(folder / "program.txt"), "--json"]) == 0
    assert main(["inspect", str(path)]) == 0


def test_a_transposed_convolution_is_rewritten_and_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which way is faster is not this test's question, and on a busy machine nobody knows: the derived one is taken."""
    prefer = PreferChange()
    monkeypatch.setattr(MeasuredCost, "compare", lambda self, alternatives: prefer.compare(alternatives))
    path, folder = upsampler(tmp_path), tmp_path / "out"
    assert main(["optimize", str(path), "-o", str(folder), "--tune", "off", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    kept = [entry for entry in report["derivations"] if entry["kept"]]
    assert {entry["node"] for entry in kept} == {"up"}
    assert kept[0]["chain"]
    assert kept[0]["certificate"]["steps"] == len(kept[0]["chain"])
    assert report["latency_ms"]["after"] > 0
    feeds = {"x": np.random.default_rng(6).standard_normal((1, 64, 8, 8)).astype(np.float32)}
    expected = reference(path, feeds)
    np.testing.assert_allclose(tensoropt.load(folder).run(feeds)["y"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(reference(folder / "optimized.onnx", feeds), expected, rtol=1e-4, atol=1e-4)
    assert main(["inspect", str(folder), "--why", "up"]) == 0
    assert "rewritten as" in capsys.readouterr().out

    assert main(["optimize", str(path), "-o", str(folder), "--tune", "off", "--exclude-rule", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["derivations"] == []


@pytest.mark.parametrize("victim", ["s", "y"])
def test_a_dropped_bias_or_activation_writes_nothing(
    victim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pass that forgets the bias (``s``) or the activation (``y``)."""
    original = pipeline.optimize

    def forgetful(program: Program, context: Context) -> Program:
        kept: list[Statement] = []
        renamed = {}
        for statement in program.statements:
            if statement.outputs[0].name == victim:
                renamed[statement.outputs[0]] = statement.inputs[0]
            kept.append(statement)
        for position, statement in enumerate(kept):
            if isinstance(statement, Compute) and statement.output in renamed:
                traversal = statement.expression.traversal
                copy = Scope(
                    traversal, Access(renamed[statement.output], [Index.of(iterator) for iterator in traversal])
                )
                kept[position] = Compute(statement.output, copy, statement.origin)
        return original(program.with_statements(kept), context)

    monkeypatch.setattr(pipeline, "optimize", forgetful)
    folder = tmp_path / "out"
    assert main(["optimize", str(upsampler(tmp_path)), "-o", str(folder), "--tune", "off"]) == 4
    errors = capsys.readouterr().err
    assert "differs from ONNX Runtime" in errors
    assert "Traceback" not in errors
    assert not folder.exists()


def test_nan_weights_are_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = numpy_helper.from_array(np.array([1, np.nan, 3], np.float32), "w")
    path = write(tmp_path / "nan.onnx", [helper.make_node("Add", ["x", "w"], ["y"], name="plus")], [2, 3], [bad])
    assert main(["optimize", str(path), "-o", str(tmp_path / "out"), "--tune", "off", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["check"]["ok"] is True
    assert any("NaN" in warning for warning in report["check"]["warnings"])


def test_a_model_without_nodes_is_valid(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph([], "nothing", [value], [value])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    compiled = tensoropt.optimize(model, tune="off")
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    result = compiled.run(feeds)["x"]
    np.testing.assert_array_equal(result, feeds["x"])
    assert not np.shares_memory(result, feeds["x"])
    folder = compiled.save(tmp_path / "out")
    np.testing.assert_array_equal(tensoropt.load(folder).run(feeds)["x"], feeds["x"])


def test_a_huge_fill_is_summed_and_never_stored(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([30, 30, 1000, 1000], np.int64), "shape")
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["shape"], ["ones"], name="fill", value=helper.make_tensor("v", 1, [1], [1.0])
        ),
        helper.make_node("ReduceMean", ["ones"], ["m"], name="mean", axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Add", ["x", "m"], ["y"], name="plus"),
    ]
    path = write(tmp_path / "fill.onnx", nodes, [2], [shape])
    compiled = tensoropt.optimize(path, tune="off", check=False)
    assert compiled.peak_bytes["arena"] < 1 << 20
    assert sum(array.nbytes for array in compiled.program.constants.values()) < 1 << 10


def test_wrong_inputs_at_run_time_are_named(tmp_path: Path) -> None:
    compiled = tensoropt.optimize(perceptron(tmp_path), tune="off", check=False)
    good = np.zeros((5, 20), np.float32)
    for feeds, words in (
        ({"x": good[:4]}, "shape"),
        ({"x": good.astype(np.float64)}, "float64"),
        ({"z": good}, "no input 'z'"),
        ({}, "missing"),
    ):
        with pytest.raises(InputError, match=words):
            compiled.run(feeds)


def test_the_same_seed_gives_the_same_program(tmp_path: Path) -> None:
    """The second time what things cost comes from the records of the first, so noise decides nothing."""
    path = upsampler(tmp_path)
    texts = []
    for number in range(2):
        compiled = tensoropt.optimize(path, tune="off", check=False)
        assert compiled.search["from_disk"] == number
        texts.append((compiled.save(tmp_path / f"out{number}") / "program.txt").read_bytes())
    assert texts[0] == texts[1]
