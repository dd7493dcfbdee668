"""``run``: inputs that do not fit are refused in one sentence, and outputs are written whole."""

import json
from pathlib import Path

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


def feed(folder: Path, ids: list[int], **changed: np.ndarray) -> Path:  # type: ignore[type-arg]
    arrays = {"ids": np.array(ids, np.int64), "x": np.zeros((4, 2), np.float32), **changed}
    np.savez(folder / "in.npz", **arrays)  # type: ignore[arg-type]
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
    cases = [
        (feed(tmp_path, [0, 1, 2]), "ids"),
        (tmp_path / "text.npz", "text.npz"),
        (tmp_path / "missing.npz", "missing.npz"),
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
