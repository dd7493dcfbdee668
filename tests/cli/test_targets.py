"""``tensoropt targets`` and ``--target``: what is known, what runs here, and one sentence for what does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import codegen.targets.here
from codegen.cuda.driver import Device, NoDevice
from codegen.targets.named import NAMED
from tensoropt import api
from tensoropt.cli import main
from tensoropt.errors import UsageError
from tests.strategies.small_models import model


def no_driver() -> object:
    raise NoDevice("no NVIDIA driver is installed")


class L40s:
    """A machine's GPU."""

    device = Device("NVIDIA L40S", (8, 9), 142, 48 << 30, 13000)


def test_the_list_says_what_runs_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(codegen.targets.here, "open_driver", L40s)
    assert main(["targets", "--json"]) == 0
    found = {target["name"]: target for target in json.loads(capsys.readouterr().out)["targets"]}
    assert found.keys() - {"opencl"} == {"cpu", *(f"cuda:{name}" for name in NAMED)}
    here = {name for name, target in found.items() if target["here"] and name != "opencl"}
    assert here == {"cpu", "cuda:l40s", "cuda:l4", "cuda:rtx4090", "cuda:a10", "cuda:a40", "cuda:rtxa6000", "cuda:rtx3090"} | {
        "cuda:a100", "cuda:a100-40gb", "cuda:a30"
    }  # fmt: skip
    assert found["cuda:h200"]["why"] == "the GPU here, NVIDIA L40S, has the architecture sm_89"
    assert found["cuda:h200"]["ceilings"]["memory_bytes"] == 141e9


def test_the_list_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(codegen.targets.here, "open_driver", no_driver)
    assert main(["targets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.endswith("(this machine)")} - {"opencl"} == {"cpu"}
    assert lines[-1].endswith("no NVIDIA driver is installed.")
    assert {line.split()[0] for line in lines[:-1]} - {"opencl"} == {"cpu", *(f"cuda:{name}" for name in NAMED)}


def test_an_unknown_target_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", "absent.onnx", "--target", "cuda:h20"]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--threads", "2"], ["--memory-budget", "80%"]])
def test_options_of_cpus_are_refused_before_any_work(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", "absent.onnx", "--target", "cuda:h200", *option]) == 2
    assert f"{option[0]} is for the target cpu, not for cuda:h200" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["optimize", "tune", "bench"])
@pytest.mark.parametrize(("target", "named"), [("cpu", "cpu"), ("cuda:sm_75", "cuda:sm_75"), ("cuda:t4", "cuda:t4")])
def test_tf32_is_refused_where_nothing_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, target: str, named: str
) -> None:
    monkeypatch.setattr(codegen.targets.here, "why_not_here", lambda targets: {target.name: "" for target in targets})
    assert main([verb, "absent.onnx", "--target", target, "--tf32"]) == 2
    assert f"sm_80 on multiply, and {named} has none; leave --tf32 out" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["tune", "bench"])
def test_tf32_is_for_models(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, str(tmp_path), "--target", "cuda:h200", "--tf32"]) == 2
    assert "--tf32 is for compiling a model" in capsys.readouterr().err


def test_kernels_of_an_absent_gpu_cannot_be_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codegen.targets.here, "open_driver", no_driver)
    with pytest.raises(
        UsageError, match=r"cuda:h200 compiles here and cannot be timed here: no NVIDIA driver is installed"
    ):
        api.bench("absent.onnx", target="cuda:h200")
    with pytest.raises(
        UsageError,
        match=r"cuda:h200 are tuned where they run, and not here: no NVIDIA driver is installed; run this on",
    ):
        api.tune("absent.onnx", target="cuda:h200")
    with pytest.raises(
        UsageError, match=r"--db is for kernels that are measured, and those for cuda:h200 cannot be here: no"
    ):
        api.optimize("absent.onnx", target="cuda:h200", db="times.sqlite")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_a_model_is_optimized_for_a_gpu_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))
    for place in ("codegen.targets.here", "codegen.cuda.loading", "codegen.cuda.code"):
        monkeypatch.setattr(f"{place}.open_driver", no_driver)
    found = model(
        "a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 4> (x, w) b = Relu (a) y = Conv (b, v)",
        "float[1, 16, 14, 14] x", "float[1, 32, 14, 14] y", w=(16, 4, 3, 3), v=(32, 16, 1, 1),
    )  # fmt: skip
    path, folder = tmp_path / "model.onnx", tmp_path / "out"
    path.write_bytes(found.SerializeToString())
    assert main(["optimize", str(path), "-o", str(folder), "--target", "cuda:a100"]) == 0
    said = capsys.readouterr().err
    assert "latency   not measured" in said
    assert "agrees with ONNX Runtime" in said
    assert (
        "the kernels for a100 have not run here (no NVIDIA driver is installed); the program was checked on the CPU"
        in said
    )
    assert list(folder.glob("*.cubin"))
    trace = json.loads((folder / "trace.json").read_text())
    predicted = [entry for entry in trace["derivations"] if entry["cost_source"] == "predicted"]
    assert all(entry["cost_terms"] for entry in predicted)
    assert predicted
    given = ["--target", "cuda:a100", "--exclude-rule", "all", "--tune", "off", "--no-check"]
    assert main(["optimize", str(path), "-o", str(tmp_path / "as written"), *given]) == 0
    assert not json.loads((tmp_path / "as written" / "trace.json").read_text())["derivations"]
    assert main(["run", str(folder)]) == 2
    assert "the artefact runs on a GPU (sm_80), but no NVIDIA driver is installed" in capsys.readouterr().err
