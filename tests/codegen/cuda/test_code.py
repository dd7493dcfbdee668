"""Programs compiled for CUDA without a GPU: what the artefact holds, and what says that it does not run here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import codegen.cuda.code
import codegen.cuda.loading
from codegen import artefact
from codegen.cuda.code import CudaCode, cuda_code
from codegen.cuda.driver import NoDevice
from codegen.device.build import BuiltDeviceProgram
from codegen.device.table import Place, Start
from codegen.targets.named import NAMED
from passes.derive.cost import EstimatedCosts
from passes.pipeline import compile_as_written
from tensoropt.api.compiling import compiled_for_device
from tensoropt.errors import ArtefactError, ModelError, UsageError
from tensoropt.pass_manager import Context
from tests.strategies.device_functions import reversed_blocks
from tests.strategies.fake_driver import FakeDriver
from tests.strategies.nvcc import needs_nvcc
from tests.strategies.small_models import model, program_of

pytestmark = needs_nvcc


def no_driver() -> object:
    raise NoDevice("no NVIDIA driver is installed")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltDeviceProgram:
    """A convolution with a softmax after it, for an A100."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TENSOROPT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        found = model(
            "a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w) b = Relu (a) y = Softmax <axis = 3> (b)",
            "float[1, 4, 9, 11] x", "float[1, 8, 9, 11] y", w=(8, 4, 3, 3),
        )  # fmt: skip
        program = compile_as_written(program_of(found), Context(EstimatedCosts()))
        return compiled_for_device(program, NAMED["a100"])


def test_kernels_say_what_they_need(built: BuiltDeviceProgram) -> None:
    launches = [launch for kernel in built.kernels_as_json() for launch in kernel["launches"]]
    assert len(launches) == len(built.starts) >= 2
    for launch in launches:
        assert 0 < launch["registers"] <= 255
        assert launch["spilled_store_bytes"] == launch["spilled_load_bytes"] == 0
        assert 0 < launch["occupancy"] <= 1
    assert json.loads(json.dumps(launches)) == launches


def test_running_it_here_is_one_sentence(
    built: BuiltDeviceProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codegen.cuda.code, "open_driver", no_driver)
    monkeypatch.setattr(codegen.cuda.loading, "open_driver", no_driver)
    with pytest.raises(UsageError, match="compiled for a100 does not run here: no NVIDIA driver is installed"):
        built.model()
    folder = artefact.save(built, tmp_path / "out")
    with pytest.raises(ArtefactError, match=r"out: the artefact runs on a GPU \(sm_80\), but no NVIDIA driver"):
        artefact.load(folder)


def test_an_artefact_is_loaded_where_its_gpu_is(
    built: BuiltDeviceProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    launches = [start for start in built.starts if isinstance(start, Start)]
    names = {start.kernel for start in launches}
    kernels = {name: lambda *arguments, name=name: started.append(name) for name in names}
    monkeypatch.setattr(codegen.cuda.loading, "open_driver", lambda: FakeDriver(kernels, capability=(8, 0)))
    folder = artefact.save(built, tmp_path / "out")
    loaded = artefact.load(folder)
    found = loaded.run({"x": np.zeros((1, 4, 9, 11), np.float32)})
    assert found["y"].shape == (1, 8, 9, 11)
    assert started == [start.kernel for start in launches], "as the table says"
    assert {path.name for path in folder.iterdir()} >= {"kernels.cu", "kernels.0.cubin", "cubins.json", "launches.json"}
    target = artefact.read_manifest(folder)["target"]
    assert (target["kind"], target["name"], target["arch"]) == ("cuda", "a100", "sm_80")
    monkeypatch.setattr(codegen.cuda.loading, "open_driver", lambda: FakeDriver(kernels, capability=(9, 0)))
    with pytest.raises(ArtefactError, match=r"compiled for sm_80 and the GPU here, a fake GPU, has sm_90"):
        artefact.load(folder)
    (folder / "kernels.0.cubin").write_bytes(b"other")
    with pytest.raises(ArtefactError, match=r"kernels\.0\.cubin"):
        artefact.load(folder)


def test_a_launch_that_does_not_fit_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path))
    target = NAMED["h200"]
    places = (Place("input"), Place("output"))
    fits = Start("kernel_1", (8, 1, 1), (128, 1, 1), places)
    code = cuda_code({"kernel_1": reversed_blocks(target)}, target, [fits])
    assert isinstance(code, CudaCode)
    assert code.needs("kernel_1")["limited_by"] == "threads"
    with pytest.raises(ModelError) as caught:
        cuda_code(
            {"kernel_1": reversed_blocks(target)}, target, [Start("kernel_1", (8, 70000, 1), (128, 1, 1), places)]
        )
    assert str(caught.value) == (
        "kernel_1 starts 70000 blocks along y where h200 has 65535; compile for a GPU with more, or use --target cpu"
    )
