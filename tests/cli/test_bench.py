"""``bench`` prints one object, runs models and folders, and says in a sentence what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import tensoropt
from tensoropt import comparison
from tensoropt.cli import main
from tensoropt.timing import Series
from tests.strategies.small_models import model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its artefact; the exported model has a function, which is inlined for peers."""
    place = tmp_path_factory.mktemp("bench")
    body = "m = MatMul (x, w) t = Tanh (m) s = Sigmoid (m) y = Mul (t, s)"
    made = model(body, "float[3, 16] x", "float[3, 8] y", w=(16, 8))
    (place / "small.onnx").write_bytes(made.SerializeToString())
    tensoropt.optimize(place / "small.onnx", tune="off").save(place / "artefact")
    return place


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def alternate(runs: Mapping[str, Callable[[], object]], blocks: int) -> dict[str, Series]:
        return {name: Series((1.0,) * blocks, 1) for name in runs}

    monkeypatch.setattr(comparison, "alternate", alternate)
    monkeypatch.setattr(comparison, "whole_cores", lambda threads: 2.0)


def test_json_is_one_object_with_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--against", "onnxruntime", "--tune", "off", "--threads", "1", "--blocks", "6", "--json"]
    assert main(["bench", str(folder / "small.onnx"), *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["peers_run"] == "the model"
    assert found["threads"] == 1
    assert found["tune"] == "off"
    assert found["optimize_seconds"] >= found["tune_seconds"] >= 0
    assert {"processor", "cores", "tvm", "onnxruntime"} <= found["machine"].keys()
    assert found["engines"].keys() == {"tensoropt", "onnxruntime"}
    for row in (*found["engines"].values(), found["control"]):
        assert {"median_ms", "quartiles_ms", "blocks_ms", "ratio"} <= row.keys()
        assert len(row["blocks_ms"]) == 6
    assert all(row["peak_mib"] >= 0 and row["max_rel_error"] < 1e-5 for row in found["engines"].values())


def test_a_folder_is_timed_against_its_exported_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(folder / "artefact"), "--against", "onnxruntime"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "peers run optimized.onnx of the folder" in printed.err
    assert "control: ours against ours 1.00" in printed.err
    assert "checked against onnxruntime" in printed.err


def test_a_peer_that_is_not_there_is_skipped_with_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensoropt.peers.openvino.OpenVino.module", "a_module_that_is_not_there")
    assert main(["bench", str(folder / "artefact"), "--against", "openvino,onnxruntime", "--json"]) == 0
    printed = capsys.readouterr()
    assert "not installed" in json.loads(printed.out)["skipped"]["openvino"]
    assert "openvino is skipped: openvino is not installed" in printed.err


def test_wrong_usage_is_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(folder / "small.onnx")
    (tmp_path / "empty").mkdir()
    cases = [
        ([model, "--against", "tensorflow"], "'tensorflow'"),
        ([model, "--target", "abacus"], "'abacus'"),
        ([model, "--tune", "much"], "'much'"),
        ([str(folder / "missing.onnx")], "does not exist"),
        ([str(tmp_path / "empty")], "not an artefact"),
    ]
    for arguments, word in cases:
        assert main(["bench", *arguments, "--json"]) == 2, arguments
        printed = capsys.readouterr()
        assert word in printed.err
        assert "Traceback" not in printed.err
        assert json.loads(printed.out)["exit_status"] == 2


def test_a_folder_without_its_exported_model_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = tensoropt.optimize(folder / "small.onnx", tune="off").save(tmp_path / "artefact")
    (artefact / "optimized.onnx").unlink()
    assert main(["bench", str(artefact)]) == 2
    assert "peers have nothing to run" in capsys.readouterr().err
