"""From a model to a run with libraries: measured beside our kernels, chosen where faster, kept in the artefact, called from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensoropt
from codegen.device.files import LAUNCHES
from codegen.libraries.operations import CUBLASLT, CUDNN
from codegen.targets.parsing import parse_target
from codegen.tune import session, tuning
from codegen.tune.remote.description import Description
from codegen.tune.space import is_usable
from tensoropt import api
from tensoropt.cli import main
from tensoropt.errors import ArtefactError, UsageError
from tests.strategies.cuda_on_host import available
from tests.strategies.fake_gpu_machine import MEASURING, HostDriver, become_gpu_machine
from tests.strategies.fake_libraries import VERSIONS
from tests.strategies.small_models import expected, model

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(not available(), reason="needs a C++ compiler with barriers and 16-bit floats")

MODEL = model(
    "a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, c) b = Relu (a) f = Flatten (b) y = MatMul (f, m)",
    "float[2, 3, 5, 5] x", "float[2, 6] y", w=(4, 3, 3, 3), c=(4,), m=(100, 6),
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def gpu(monkeypatch: pytest.MonkeyPatch, versions: Mapping[str, str] = VERSIONS) -> HostDriver:
    """Makes this a machine with a GPU and libraries of these versions."""
    monkeypatch.setenv("FAKE_LIBRARIES", json.dumps(dict(versions)))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setitem(session.MEASURING, "cuda", MEASURING)
    monkeypatch.setitem(tuning.TRIALS, "fast", 3)
    driver = HostDriver()
    become_gpu_machine(monkeypatch.setattr, driver, versions)
    return driver


def libraries_of(folder: Path) -> list[str]:
    """The libraries that an artefact calls."""
    table = json.loads((folder / LAUNCHES).read_text())
    return [entry["call"]["library"] for entry in table if "call" in entry]


def feeds() -> dict[str, Any]:
    return {"x": np.random.default_rng(1).standard_normal((2, 3, 5, 5)).astype(np.float32)}


def test_what_is_faster_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch)
    compiled = api.optimize(MODEL, "cuda", tune="fast", exclude_rules="all")
    compiled.save(tmp_path / "folder")
    assert libraries_of(tmp_path / "folder") == [CUDNN, CUBLASLT]
    labels = [schedule for kernel in compiled.report()["kernels"] for schedule in kernel["schedules"]]
    assert labels[0] == "cuDNN convolution 3x3 of 2x3x5x5 to 4 f32 + bias, relu, algorithm implicit_precomp_gemm"
    assert labels[-1] == "cuBLASLt product 6x2x100 f32, algorithm 0"
    values = feeds()
    loaded = tensoropt.load(tmp_path / "folder")
    for _ in range(2):
        np.testing.assert_allclose(loaded.run(values)["y"], expected(MODEL, values)[0], rtol=1e-4, atol=1e-4)

    driver = gpu(monkeypatch, {CUDNN: VERSIONS[CUDNN]})
    with pytest.raises(ArtefactError) as caught:
        tensoropt.load(tmp_path / "folder")
    assert str(caught.value) == (
        f"{tmp_path / 'folder'}: it calls cuBLASLt 13.10.0 and cuBLASLt is not installed; pip install 'tensoropt[libraries]', "
        "or optimize the model with --libraries none"
    )
    assert not driver.allocations
    gpu(monkeypatch, {**VERSIONS, CUDNN: "9.99.0"})
    with pytest.raises(ArtefactError, match=r"it calls cuDNN 9\.28\.1 and 9\.99\.0 is installed; install 9\.28\.1, or"):
        tensoropt.load(tmp_path / "folder")


def test_nothing_is_called_unmeasured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch)
    api.optimize(MODEL, "cuda", tune="off", exclude_rules="all").save(tmp_path / "folder")
    assert libraries_of(tmp_path / "folder") == []


@pytest.mark.slow
def test_a_folder_is_tuned_as_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch)
    for name, said in (("with", "auto"), ("without", "none")):
        made = api.optimize(MODEL, "cuda", tune="off", exclude_rules="all", libraries=said)
        assert made.report()["libraries"] == said
        made.save(tmp_path / name)
        api.tune(tmp_path / name, "cuda", trials=2)
    assert libraries_of(tmp_path / "with") == [CUDNN, CUBLASLT]
    assert libraries_of(tmp_path / "without") == []
    api.tune(tmp_path / "without", "cuda", trials=2, libraries="auto")
    assert libraries_of(tmp_path / "without") == [CUDNN, CUBLASLT]


def test_a_library_of_another_version_is_another_variant() -> None:
    key = json.dumps({"library": CUBLASLT, "version": "13.1.0", "way": 0})
    assert is_usable(key, {CUBLASLT: "13.1.0"})
    assert not is_usable(key, {CUBLASLT: "13.2.0"})
    assert not is_usable(key, {})
    assert is_usable(json.dumps({"contraction": 1}), {})


def test_what_the_option_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="--libraries is auto or none, not 'some'"):
        api.optimize(MODEL, libraries="some")
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL.SerializeToString())
    for verb in ("optimize", "tune"):
        assert main([verb, str(path), "--libraries", "some"]) == 2
        assert capsys.readouterr().err == "tensoropt: --libraries is auto or none, not 'some'\n"


def test_a_server_says_which_libraries_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch)
    target = parse_target("cuda")
    said = Description.here(target)
    assert dict(said.libraries) == VERSIONS
    assert Description.parse(said.as_text()) == said
    for damaged in ("[]", '{"cudnn": 9}', "3"):
        with pytest.raises(ValueError):
            Description.parse(said.as_text().replace(json.dumps(VERSIONS, sort_keys=True), damaged))
