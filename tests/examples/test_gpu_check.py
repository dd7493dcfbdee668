"""The script for machines with a GPU: whole, with small models, on an OpenCL device; and what it says where there is no GPU."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import codegen.cuda.driver
from codegen.cuda.driver import NoDevice
from examples.benchmark import BATCHED
from examples.gpu import check, measuring
from examples.gpu.check import chosen, main, table
from examples.gpu.measuring import Case, built, furthest, measure, ours, prepare
from examples.models import MODELS
from tests.strategies.small_models import model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def small(batch: int) -> onnx.ModelProto:
    """A convolution, and a product with a softmax."""
    found = model(
        "a = Conv <kernel_shape = [3, 3]> (x, w) b = Relu (a) c = GlobalAveragePool (b) d = Flatten (c) "
        "e = MatMul (d, v) y = Softmax <axis = 1> (e)",
        f"float[{batch}, 4, 9, 9] x", f"float[{batch}, 10] y", w=(8, 4, 3, 3), v=(8, 10),
    )  # fmt: skip
    return onnx.shape_inference.infer_shapes(found)


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def no_driver() -> object:
        raise NoDevice("no NVIDIA driver is installed")

    monkeypatch.setattr(codegen.cuda.driver, "open_driver", no_driver)
    monkeypatch.setattr(check, "open_driver", no_driver)
    monkeypatch.setattr("codegen.targets.here.open_driver", no_driver)
    assert main([]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err == (
        "examples.gpu.check: this is for a machine with a GPU, and no NVIDIA driver is installed; "
        "--target opencl tries it out without one\n"
    )
    assert main(["--target", "cuda:h200"]) == 2
    assert "--target cuda:h200 does not run here: no NVIDIA driver is installed" in capsys.readouterr().err
    assert main(["--target", "cpu"]) == 2
    assert "--target cpu is no GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--types", "f32,f8"], "'f32,f8' is not a list of f32, f16"),
        (["--batches", "1,none"], "'1,none' is not a list of positive numbers"),
        (["--batches", "0"], "'0' is not a list of positive numbers"),
        (["abacus"], "invalid choice: 'abacus'"),
    ],
)
def test_wrong_arguments(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert part in capsys.readouterr().err


def test_the_most_wanted_rows_come_first() -> None:
    rows = chosen([], [1, 16], ["f32", "f16"])
    assert rows[: len(MODELS)] == [(name, 1, "f32") for name in MODELS]
    assert len(rows) == 2 * (len(MODELS) + len(BATCHED)) == 46
    assert chosen(["gcn"], [16], ["f16"]) == [("gcn", 16, "f16")]


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_a_model_is_prepared_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr(measuring, "BUILDERS", {"small": small})
    case = Case("small", 2, dtype, "opencl", tmp_path / "case")
    kind = onnx.TensorProto.FLOAT if dtype == "f32" else onnx.TensorProto.FLOAT16
    assert built("small", 2, dtype).graph.output[0].type.tensor_type.elem_type == kind
    prepared = prepare(case)
    assert prepared["check"]["ok"]
    row = measure(case, prepared)
    assert 0 <= row["difference"] <= (1e-5 if dtype == "f32" else 2e-2)
    assert set(row["milliseconds"]) >= {"tensoropt", "control"}
    if find_spec("torch") is not None:
        assert set(row["milliseconds"]) == {"tensoropt", "torch", "torch.compile", "control"}
        assert row["error"] <= (1e-5 if dtype == "f32" else 2e-2)
        assert dtype == "f32" or row["error"] > 1e-6, "f64 is not compared with itself"
    assert json.loads(json.dumps(row)) == row


def test_a_model_that_was_not_compiled_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not compiled: it took too long"):
        measure(Case("dcgan", 1, "f32", "opencl", tmp_path), {"failed": "not compiled: it took too long"})


def test_when_the_time_is_up_every_row_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dcgan", "gcn", "--target", "opencl", "--seconds", "0"]) == 1
    lines = [entry for entry in capsys.readouterr().out.splitlines() if entry.startswith("| ")]
    assert len(lines) == 2 + 8
    assert all("there was no time left for it" in entry for entry in lines[2:])


def test_differences_are_shares_of_the_largest_value() -> None:
    exact = {"y": np.array([4.0, 0.0]), "z": np.zeros(2)}
    assert furthest({"y": np.array([3.0, 0.0], np.float16), "z": np.zeros(2, np.float32)}, exact) == 0.25
    assert np.isnan(furthest({"y": np.array([np.nan, 0.0])}, exact))


def test_tensors_on_the_device_stay_there() -> None:
    class Loaded:
        def run(self, feeds: Any) -> str:
            return "copied"

        def run_on_device(self, feeds: Any) -> str:
            return "stayed"

    assert ours(Loaded(), {"x": object()})() == "stayed"
    assert ours(Loaded(), {"x": np.zeros(1)})() == "copied"


def test_a_torch_that_does_not_take_the_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = model("y = Mystery (x)", "float[2] x", "float[2] y")
    case = Case("mystery", 1, "f32", "opencl", tmp_path)
    onnx.save(found, case.model)
    refused, peers, exact, tensors = measuring._torch(case, {"x": np.zeros(2, np.float32)})
    assert refused["torch"].endswith("the operator Mystery is not written for torch")
    assert (peers, exact, tensors) == ({}, None, None)


def test_the_table() -> None:
    measured: dict[str, Any] = {
        "milliseconds": {"tensoropt": 1.0, "torch": 4.0, "torch.compile": 2.0, "control": 0.5},
        "difference": 1e-6, "error": 2e-6, "onnxruntime_error": 3e-6, "optimize_seconds": 12.0,
    }  # fmt: skip
    alone = {
        **measured,
        "milliseconds": {"tensoropt": 1.0, "control": 1.0},
        "refused": {"torch": "no such operator"},
        "copies": True,
    }
    lines = table({"a": measured, "b": alone, "c": {"failed": "the process died"}}).splitlines()
    assert lines[2] == "| a | 1.000 | 4.000 | 0.25 | 2.000 | 0.50 | 2.00 | 1.0e-06 | 2.0e-06 | 3.0e-06 | 12 |"
    assert lines[3].startswith("| b | 1.000 |  |  |  |  | 1.00 |")
    assert len({entry.count("|") for entry in lines[:5]}) == 1
    assert lines[6:] == [
        "- b: torch takes no part: no such operator",
        "- Ours is timed with copies from the host and back: b.",
    ]


@pytest.mark.slow
def test_the_whole_script_on_an_opencl_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.json"
    arguments = ["fsrcnn", "infogan", "--target", "opencl", "--types", "f32", "--batches", "1", "--workers", "1"]
    assert main([*arguments, "--json", str(rows)]) == 0
    found = json.loads(rows.read_text())
    assert set(found["rows"]) == {"fsrcnn, f32, batch 1", "infogan, f32, batch 1"}
    assert found["machine"]["target"]
    assert "| fsrcnn, f32, batch 1 |" in capsys.readouterr().out
