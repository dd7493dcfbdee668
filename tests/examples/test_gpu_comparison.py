"""The comparison on a GPU: what is chosen, prepared, measured and printed; whole on an OpenCL device."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.reading import WEIGHTS
from codegen.targets.parsing import parse_target
from examples.gpu import peers, prepared, turns
from examples.gpu.cases import SEVEN, Case, chosen
from examples.gpu.comparison import main
from examples.gpu.comparison_tables import latencies, shares, summary
from examples.gpu.operators import KERNELS, PUBLISHED, SMALL, Convolution, Product
from examples.gpu.peers import PEERS, Contender, Setting
from examples.gpu.plain_tvm import RUNTIME, compile_plain
from tensoropt.check import random_feeds
from tensoropt.errors import CheckError, UsageError
from tensoropt.frontend import load_program
from tensoropt.ir.program import Array
from tensoropt.peers.peer import Refused
from tests.strategies.fake_driver import FakeDriver, Kernel
from tests.strategies.nvcc import needs_nvcc
from tests.strategies.small_models import model

ROOT = Path(__file__).resolve().parents[2]
GEMM = Case("small", "GEMM, small", "f32")
QUICK = Setting(blocks=5)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (peers, turns):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name == "torch" else find_spec(name))


def test_the_rows() -> None:
    rows = chosen(["models", "operators", "kernels"], [], [1, 16], ["f32", "f16", "bf16"])
    assert [case.name for case in rows[:7]] == list(SEVEN)
    models = [case for case in rows if case.group == "models"]
    assert len(models) == len(set(models)) == 7 * 2 * 2
    assert len([case for case in rows if case.group == "operators"]) == 2 * len(PUBLISHED) == 8
    kernels = [case for case in rows if case.group == "kernels"]
    assert {case.name for case in kernels if case.dtype == "bf16"} == {
        name for name, one in KERNELS.items() if isinstance(one, Product)
    }
    assert len({case.folder for case in rows}) == len({case.label for case in rows}) == len(rows)
    assert all(
        set(case.folder) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for case in rows
    )
    unchecked = {case.name.split()[0] for case in rows if not case.checked and case.dtype != "bf16"}
    assert unchecked == {"band", "GEMM"}
    assert chosen(["models", "kernels"], ["gcn"], [1], ["f16"]) == [Case("models", "gcn", "f16")]
    assert {case.name for case in chosen(["operators"], ["Conv "], [1], ["f32"])} == set(list(PUBLISHED)[::2])


@pytest.mark.parametrize("operator", [*SMALL.values(), Convolution(1, 3, 2, 9, 5, 2), Convolution(1, 3, 2, 9, 3, 0, 2)])
def test_what_an_operator_must_do(operator: Any) -> None:
    found = operator.model("f32")
    (output,) = found.graph.output
    shape = [one.dim_value for one in output.type.tensor_type.shape.dim]
    inputs = [[one.dim_value for one in value.type.tensor_type.shape.dim] for value in found.graph.input]
    weights = [list(tensor.dims) for tensor in found.graph.initializer]
    assert operator.elements == sum(int(np.prod(one)) for one in [shape, *inputs, *weights])
    if isinstance(operator, Product):
        assert operator.operations == 2 * np.prod(shape) * inputs[0][1]
    else:
        points = int(np.prod(inputs[0] if operator.transposed else shape)) // (
            operator.channels if operator.transposed else operator.filters
        )
        assert operator.operations == 2 * points * np.prod(weights[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prepare", "{}", "--target", "cpu"], "--target cpu is no GPU; `python -m examples.benchmark` is for CPUs"),
        (["--prepare", "{}", "nothing"], "nothing is called nothing in models, operators, kernels"),
        (["--prepared", "{}/none"], "there is no folder {}/none; run `--prepare {}/none` first"),
    ],
)
def test_options_that_mean_nothing(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([one.replace("{}", str(tmp_path)) for one in arguments]) == 2
    assert capsys.readouterr().err == f"examples.gpu.comparison: {said.replace('{}', str(tmp_path))}\n"


def test_a_case_is_prepared_and_measured_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("small", "Conv 3×3, small", "f16")
    report = prepared.prepare(case, "opencl", None, False, tmp_path / case.folder)
    assert report["variants"].keys() == {"tensoropt", "as written"}
    assert all(one["check"]["ok"] and one["sent_bytes"] == 0 for one in report["variants"].values())
    assert not list(tmp_path.rglob(WEIGHTS))
    assert not list(tmp_path.glob(".*")), "nothing half-written is left"
    without_torch(monkeypatch)
    row = turns.measure(case, tmp_path, QUICK)
    assert row["engines"].keys() == {"tensoropt", "as written"}
    assert row["reference"] == "ONNX Runtime on Conv 3×3, small"
    assert 0 < row["engines"]["tensoropt"]["difference"] < 2e-2
    assert row["skipped"]["torch"] == "torch is not installed"
    assert row["copies"]
    assert row["operations"] == SMALL[case.name].operations
    assert "least_ms" not in row, "nothing was there to measure a peak with"
    assert json.loads(json.dumps(row)) == row
    with pytest.raises(UsageError, match=r"was not prepared; run `--prepare .*` first"):
        turns.measure(replace(case, dtype="f32"), tmp_path, QUICK)


class Anything(dict[str, Kernel]):
    """Kernels of every name, which do nothing."""

    def __missing__(self, name: str) -> Kernel:
        return lambda *_: None


@needs_nvcc
def test_what_is_prepared_for_cuda_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("small", "Conv 3×3, small", "f32")
    prepared.prepare(case, "cuda:h200", "off", False, tmp_path / case.folder)
    driver = FakeDriver(Anything())
    monkeypatch.setattr("codegen.cuda.loading.open_driver", lambda: driver)
    program = load_program(case.model()).program
    for variant in prepared.VARIANTS:
        launches = driver.count("launch")
        loaded = prepared.load(tmp_path / case.folder / variant, program.constants)
        outputs = loaded.run(random_feeds(program.inputs, 0))
        assert {name: array.shape for name, array in outputs.items()} == {"result": (1, 16, 7, 7)}
        assert driver.count("launch") > launches


def test_results_that_differ_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared.prepare(GEMM, "opencl", None, False, tmp_path / GEMM.folder)
    without_torch(monkeypatch)
    _, exact = peers.reference(GEMM, feeds_of(GEMM), "cpu")
    wrong = {name: array + 1 for name, array in exact.items()}
    offered = {"good": Contender(lambda: 0, exact), "bad": Contender(lambda: 0, wrong)}
    monkeypatch.setattr(turns, "found_peers", lambda *_: (dict(offered), {"absent": "not here"}))
    row = turns.measure(GEMM, tmp_path, QUICK)
    assert row["engines"].keys() == {"tensoropt", "as written", "good"}
    assert row["skipped"]["absent"] == "not here"
    assert "it differs from ONNX Runtime" in row["skipped"]["bad"]
    monkeypatch.setattr(turns, "reference", lambda *_: ("something else", wrong))
    with pytest.raises(CheckError, match="tensoropt: it differs from something else"):
        turns.measure(GEMM, tmp_path, QUICK)


def feeds_of(case: Case) -> dict[str, Array]:
    return random_feeds(load_program(case.model()).program.inputs, 0)


def test_what_tvm_does_not_compile(tmp_path: Path) -> None:
    found = model("y = Mystery (x)", "float[2] x", "float[2] y")
    with pytest.raises(Refused, match="TVM does not compile the model"):
        compile_plain(found, parse_target("opencl"), tmp_path)


def test_both_steps_go_on_where_they_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, rows = tmp_path / "prepared", tmp_path / "rows.json"
    small = ["GEMM", "--groups", "small", "--types", "f32", "--against", "tvm", "--blocks", "5"]
    assert main([*small, "--target", "opencl", "--prepare", str(folder), "--seconds", "0"]) == 1
    assert "GEMM, small, f32: failed: there was no time left for it" in capsys.readouterr().out
    assert main([*small, "--target", "opencl", "--prepare", str(folder)]) == 0
    assert main([*small, "--target", "opencl", "--prepare", str(folder)]) == 0
    assert "GEMM, small, f32: prepared before" in capsys.readouterr().out
    assert main([*small, "--target", "opencl", "--tune", "off", "--prepare", str(folder)]) == 0
    assert "prepared before" not in capsys.readouterr().out, "it was prepared otherwise"
    assert (folder / RUNTIME / "libtvm_runtime.so").is_file()
    timed = [*small, "--prepared", str(folder), "--json", str(rows)]
    assert main([*timed, "--seconds", "0"]) == 1
    assert json.loads(rows.read_text())["rows"]["GEMM, small, f32"]["failed"] == "there was no time left for it"
    assert main(timed) == 0
    first = json.loads(rows.read_text())
    assert main(timed) == 0
    assert json.loads(rows.read_text())["rows"] == first["rows"]
    assert "| GEMM, small, f32 | " in capsys.readouterr().out


@pytest.mark.slow
def test_every_peer_where_the_compiler_is_not_installed(tmp_path: Path) -> None:
    """The second step as the machine with the GPU runs it: no TVM there but its runtime, which was sent."""
    pytest.importorskip("torch")
    block = tmp_path / "block"
    block.mkdir()
    (block / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "found = PathFinder.find_spec\n"
        "def find_spec(name, path=None, target=None):\n"
        "    absent = name.partition('.')[0] in ('tvm', 'ortools', 'openvino')\n"
        "    return None if absent else found(name, path, target)\n"
        "PathFinder.find_spec = find_spec\n"
    )
    rows = tmp_path / "rows.json"
    common = ["--groups", "small", "--types", "f32,bf16"]
    assert main([*common, "--target", "opencl", "--prepare", str(tmp_path / "prepared")]) == 0
    command = [sys.executable, "-m", "examples.gpu.comparison", *common, "--prepared", str(tmp_path / "prepared")]
    done = subprocess.run(
        [*command, "--blocks", "5", "--json", str(rows)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{block}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(rows.read_text())["rows"]
    general = {"tensoropt", "as written", "torch", "torch-graph", "torch.compile", "max-autotune", "tvm"}
    assert found["GEMM, small, f32"]["engines"].keys() == {*general, "cuBLAS"}
    assert found["GEMM, small, bf16"]["engines"].keys() >= general - {"tvm"} | {"cuBLAS"}
    for name in ("Conv 3×3, small, f32", "ConvTranspose 4×4 s2, small, f32"):
        direct = {"cuDNN", "cuDNN, channels last", "cuBLAS and a sum"}
        assert found[name]["engines"].keys() == {*general, *direct}
        assert found[name]["bound"] in ("arithmetic", "memory")
        assert not found[name]["skipped"]
    assert all(one["difference"] < 1e-5 for one in found["Conv 3×3, small, f32"]["engines"].values())
    assert set(PEERS) - {"direct"} <= general


def test_a_cuda_graph_is_recorded_once_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from examples.gpu.torch_runs import graphed

    told: list[str] = []

    class Graph:
        def replay(self) -> None:
            told.append("replay")

    @contextlib.contextmanager
    def within(name: str) -> Iterator[None]:
        told.append(f"{name} begins")
        yield
        told.append(f"{name} ends")

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: told.append("wait"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: "side")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: within(stream))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: within("graph"))

    def work() -> str:
        told.append("work")
        return "result"

    call = graphed(work, "cuda")
    once = ["wait", "side begins", "work", "work", "work", "side ends", "wait", "graph begins", "work", "graph ends"]
    assert told == once, "nothing waits while work is recorded"
    assert call() == call() == "result"
    assert told[len(once) :] == ["replay", "wait"] * 2


def engines(**times: float) -> dict[str, Any]:
    return {name: {"median_ms": value, "difference": 1e-6} for name, value in times.items()}


def test_the_tables() -> None:
    common = {"control": {"ratio": 1.0}, "skipped": {}, "copies": False, "dtype": "f32", "batch": 1}
    rows: dict[str, Any] = {
        "a, f32, batch 1": {
            **common, "group": "models", "engines": engines(tensoropt=1.0, **{"as written": 2.0, "torch": 4.0, "tvm": 1.5}),
        },
        "b, f32, batch 1": {
            **common, "group": "models", "engines": engines(tensoropt=1.0, **{"as written": 1.0, "torch": 0.5}),
            "skipped": {"tvm": "it does not"}, "copies": True,
        },
        "c": {"failed": "the process died"},
        "k": {
            **common, "group": "kernels", "engines": engines(tensoropt=2.0, **{"as written": 2.0, "torch": 1.0}),
            "operations": 1e12, "bytes": 1e9, "bound": "arithmetic", "least_ms": 0.8,
        },
    }  # fmt: skip
    lines = latencies(rows).splitlines()
    assert lines[2] == "| a, f32, batch 1 | 1.0000 | 2.0000 | 4.0000 | 1.5000 | tvm | 0.67 | 1.00 | 1.0e-06 |"
    assert lines[3] == "| b, f32, batch 1 | 1.0000 | 1.0000 | 0.5000 |  | torch | 2.00 | 1.00 | 1.0e-06 |"
    assert lines[4].startswith("| c | failed: the process died |")
    assert len({entry.count("|") for entry in lines}) == 1
    assert shares(rows).splitlines()[2] == ("| k | 500.0 TFLOP/s | 1250.0 TFLOP/s | 40% | torch | 80% | arithmetic |")
    assert shares({"c": rows["c"]}) == ""
    said = summary(rows)
    # over the best peers 1.5 and 0.5, over torch 4 and 0.5, over ours as written 2 and 1
    assert (
        "- models, geometric mean of speed-ups: 0.87 over the best peer (2); 1.41 over torch (2); 1.50 over tvm (1); "
        "1.41 over as written (2); smallest over the best peer 0.50 (b, f32, batch 1)."
    ) in said
    assert "- Ours was timed with copies from the host and back: b, f32, batch 1." in said
    assert "- Failed: c." in said
    assert "- b, f32, batch 1: tvm is skipped: it does not" in said


def test_ours_without_libraries_is_no_peer() -> None:
    common = {"control": {"ratio": 1.0}, "skipped": {}, "copies": False, "dtype": "f32", "batch": 1, "group": "models"}
    free = {"without libraries": 3.0, "as written, without libraries": 5.0}
    rows: dict[str, Any] = {
        "a": {**common, "engines": engines(tensoropt=1.0, **{"as written": 2.0, **free, "torch": 4.0})}
    }
    lines = latencies(rows).splitlines()
    assert lines[0].startswith(
        "| case | tensoropt ms | as written ms | without libraries ms | as written, without libraries ms |"
    )
    assert lines[2] == "| a | 1.0000 | 2.0000 | 3.0000 | 5.0000 | 4.0000 | torch | 0.25 | 1.00 | 1.0e-06 |"
    assert (
        "4.00 over the best peer (1); 4.00 over torch (1); 2.00 over as written (1); 3.00 over without libraries"
        in summary(rows)
    )


def test_ours_without_libraries_is_prepared_where_kernels_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepared.variants_for("cuda:h200", None).keys() == prepared.VARIANTS.keys()
    monkeypatch.setattr("codegen.targets.here.open_driver", lambda: FakeDriver({}))
    assert tuple(prepared.variants_for("cuda:h200", None)) == prepared.OWN
    assert prepared.variants_for("cuda:h200", "off").keys() == prepared.VARIANTS.keys()
    assert prepared.variants_for("cuda:a100", None).keys() == prepared.VARIANTS.keys()
