"""NVIDIA's bindings, called as the runtime calls them, with a library of ours in the driver's place: names, orders, types.

In processes of their own, since a driver is loaded once. Nothing here says anything about a GPU.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMPILER = shutil.which("gcc") or shutil.which("cc")


def bindings_installed() -> bool:
    try:
        return importlib.util.find_spec("cuda.bindings.driver") is not None
    except ModuleNotFoundError:
        return False


pytestmark = pytest.mark.skipif(
    not bindings_installed() or COMPILER is None or sys.platform != "linux",
    reason="needs cuda-bindings and a C compiler",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our libcuda.so.1."""
    folder = tmp_path_factory.mktemp("driver")
    source = ROOT / "tests" / "strategies" / "fake_libcuda.c"
    command = [str(COMPILER), "-shared", "-fPIC", "-w", str(source), "-o", str(folder / "libcuda.so.1")]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def python(program: str, library: Path, log: Path, **settings: str) -> str:
    """What a program prints."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "LD_LIBRARY_PATH": str(library),
        "FAKE_LOG": str(log),
        **settings,
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


OPEN = """
from codegen.cuda.driver import NoDevice, open_driver
try:
    driver = open_driver()
    print(driver.device, driver.stream)
except NoDevice as error:
    print(error)
"""


def test_the_device_is_asked(library: Path, tmp_path: Path) -> None:
    said = python(OPEN, library, tmp_path / "log")
    assert said == (
        "Device(name='NVIDIA H200', capability=(9, 0), multiprocessors=132, memory_bytes=141000000000, driver=13000, "
        "dlpack=(2, 0)) 8192"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"FAKE_VERSION": "12020"}, "the NVIDIA driver knows CUDA 12.2 and 13.0 is needed; install a newer driver"),
        ({"FAKE_INIT": "100"}, "the NVIDIA driver finds no GPU that it can use (CUDA_ERROR_NO_DEVICE)"),
        ({"FAKE_COUNT": "0"}, "the NVIDIA driver finds no GPU"),
    ],
)
def test_a_driver_that_is_of_no_use(library: Path, tmp_path: Path, settings: dict[str, str], said: str) -> None:
    assert python(OPEN, library, tmp_path / "log", **settings) == said


def test_a_machine_without_a_driver(tmp_path: Path) -> None:
    said = python(OPEN, tmp_path, tmp_path / "log")
    assert said == "no NVIDIA driver is installed" or said.startswith("Device("), "a machine may have one"


MODEL = """
import gc, sys
import numpy as np
sys.path.insert(0, {tests!r})
from codegen.cuda.driver import open_driver
from codegen.cuda.runtime import CudaModel, Image
from tests.codegen.cuda.test_runtime import CODE, NONE, SIGNATURE, STARTS, WEIGHTS, X, on_host, same
from tensoropt.errors import TensoroptError

try:
    model = CudaModel(open_driver(), [Image(CODE, "sm_90", dict(add=0, double=4096))], STARTS, SIGNATURE, WEIGHTS)
    for turn in range(4):
        same(model.run(dict(x=X + turn, unused=NONE)), X + turn)
    for turn in range(3):
        found = model.run_on_device(dict(x=X - turn, unused=NONE))
        same({{name: on_host(value) for name, value in found.items()}}, X - turn)
        del found
    gc.collect()
    model.close()
    print("done")
except TensoroptError as error:
    print(error)
"""


def test_a_model_runs_through_the_bindings(library: Path, tmp_path: Path) -> None:
    assert python(MODEL.format(tests=str(ROOT)), library, tmp_path / "log") == "done"
    calls = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    names = [call[0] for call in calls]
    assert calls[0] == ["allow", "8", "4096"], "the attribute of dynamic shared memory"
    assert ["launch", "111", "11032"] in calls
    assert ["shared", "4096", "0"] in calls
    assert names.count("begin_capture") == names.count("drop") == 2
    assert names.count("replay") == 6
    assert names.count("allocate") == names.count("free")
    assert names.count("synchronise") == 1 + 4 + 3


def test_a_call_that_fails_is_named(library: Path, tmp_path: Path) -> None:
    said = python(MODEL.format(tests=str(ROOT)), library, tmp_path / "log", FAKE_FAILS="cuMemcpyDtoHAsync")
    assert said == "the GPU failed (cuMemcpyDtoHAsync: CUDA_ERROR_ILLEGAL_ADDRESS); optimize the model again"


EVENTS = """
from codegen.cuda.driver import open_driver
driver = open_driver()
first, last = driver.event(), driver.event()
driver.record(first)
driver.record(last)
driver.synchronise()
print(driver.seconds_between(first, last), driver.clocks())
"""


def test_events_tell_seconds(library: Path, tmp_path: Path) -> None:
    """There is no library for clocks beside this driver."""
    assert python(EVENTS, library, tmp_path / "log") == "0.0025 None"
    names = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert names == ["event", "event", "record", "record", "synchronise"]
