"""``run``: inputs that do not fit are refused in one sentence, and outputs are written whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import tensoropt
from tensoropt.cli import main


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lookup by run-time indices beside an addition."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="lookup"),
        helper.make_node("Add", ["rows", "x"], ["y"]),
    ]
    table = helper.make_tensor("table", TensorProto.FLOAT, [3, 2], [0, 1, 2, 3, 4, 5])
    graph = helper.make_graph(
        nodes,
        "lookup",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, [4]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 2])],
        [table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder = tmp_path_factory.mktemp("run") / "artefact"
    tensoropt.optimize(model, tune="off").save(folder)
    return folder


def feed(folder: Path, ids: list[int], **changed: np.ndarray) -> Path:
    arrays: dict[str, Any] = {"ids": np.array(ids, np.int64), "x": np.zeros((4, 2), np.float32), **changed}
    np.savez(folder / "in.npz", **arrays)
    return folder / "in.npz"


def test_indices_count_from_the_end_where_negative(artefact: Path, tmp_path: Path) -> None:
    inputs = feed(tmp_path, [0, 2, -1, -3])
    assert main(["run", str(artefact), "--inputs", str(inputs), "--outputs", str(tmp_path / "y.npz"), "--json"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["y"][:, 0], [0, 4, 4, 0])


@pytest.mark.parametrize("wrong", [3, -4, 1 << 40])
def test_an_index_out_of_range_names_the_node(
    wrong: int, artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(artefact), "--inputs", str(feed(tmp_path, [0, 1, wrong, 2])), "--json"]) == 2
    printed = capsys.readouterr()
    assert "lookup" in printed.err
    assert "Traceback" not in printed.err
    assert json.loads(printed.out)["exit_status"] == 2


def test_shapes_types_and_files_that_do_not_fit(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "single.npy", np.zeros(3))
    cases = [
        (feed(tmp_path, [0, 1, 2]), "ids"),
        (tmp_path / "text.npz", "text.npz"),
        (tmp_path / "missing.npz", "missing.npz"),
        (tmp_path / "empty.npz", "empty.npz"),
        (tmp_path / "single.npy", "single.npy"),
    ]
    for inputs, word in cases:
        assert main(["run", str(artefact), "--inputs", str(inputs), "--outputs", str(tmp_path / "y.npz")]) == 2
        errors = capsys.readouterr().err
        assert word in errors
        assert len(errors.strip().splitlines()) == 1
    feed(tmp_path, [0, 1, 2, 0], x=np.zeros((4, 2)))
    assert main(["run", str(artefact), "--inputs", str(tmp_path / "in.npz")]) == 2
    assert "float64" in capsys.readouterr().err
    assert not (tmp_path / "y.npz").exists()


def test_what_does_not_parse_still_gives_json(artefact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(artefact), "--json", "--bogus"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_status"] == 2
    assert main(["run", str(artefact), "--seed", "-1"]) == 2


def test_nan_is_null_in_json_and_any_output_name_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = helper.make_graph(
        [helper.make_node("Log", ["x"], ["file"])],
        "log",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("file", TensorProto.FLOAT, [3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder = tensoropt.optimize(model, tune="off", check=False).save(tmp_path / "log")
    np.savez(tmp_path / "in.npz", x=np.array([1, -1, 2], np.float32))
    arguments = ["--inputs", str(tmp_path / "in.npz"), "--outputs", str(tmp_path / "out.npz"), "--json"]
    assert main(["run", str(folder), *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"]["file"]["mean"] is None
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["file"], [0, np.nan, np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("excluded", ["all", ["all"], iter(["all"])], ids=["text", "list", "iterator"])
def test_excluded_rules_come_in_any_form(excluded: object) -> None:
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], kernel_shape=[2, 2])],
        "up",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("w", TensorProto.FLOAT, [4, 2, 2, 2], np.arange(32, dtype=np.float32))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert tensoropt.optimize(model, tune="off", exclude_rules=excluded).derivations == ()  # type: ignore[arg-type]


@pytest.mark.parametrize("operator", ["MatMul", "ReduceSum"])
def test_empty_tensors(operator: str) -> None:
    if operator == "MatMul":
        node, given = helper.make_node("MatMul", ["x", "w"], ["s"]), [0, 8]
    else:
        node, given = helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0), [3, 0]
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["s"], ["y"])],
        "empty",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("w", TensorProto.FLOAT, [8, 4], np.ones(32, np.float32))] if operator == "MatMul" else [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    compiled = tensoropt.optimize(model, tune="off")
    assert compiled.check.ok is True
    assert compiled.run({"x": np.empty(given, np.float32)})["y"].shape == tuple(compiled.program.outputs[0].shape)
