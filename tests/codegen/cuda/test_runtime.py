"""The runtime with a driver that does in host memory what a GPU would be told to do. No GPU has run it."""

from __future__ import annotations

import gc
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codegen.cuda.loading
from codegen.cuda.dlpack import CUDA, capsule_of, taken
from codegen.cuda.driver import NoDevice
from codegen.cuda.files import INDEX, read_images, write_cubins
from codegen.cuda.loading import load_cuda
from codegen.cuda.resources import Resources
from codegen.cuda.runtime import CudaModel, Image
from codegen.device.table import Place, Start
from codegen.signature import OutputSource, Signature
from tensoropt.errors import ArtefactError, InputError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.fake_driver import FakeDriver, Kernel, floats

CODE = b"\x7fELF code"
COUNT = 6


def tensor(name: str, *shape: int, dtype: DataType = DataType.FLOAT32) -> Tensor:
    return Tensor(name, TensorType(dtype, tuple(Extent(extent) for extent in shape)))


def add(x: int, w: int, y: int) -> None:
    floats(y, COUNT)[:] = floats(x, COUNT) + floats(w, COUNT)


def double(x: int, y: int) -> None:
    floats(y, COUNT)[:] = 2 * floats(x, COUNT)


KERNELS: dict[str, Kernel] = {"add": add, "double": double}
WEIGHTS = np.zeros(512, np.uint8)
WEIGHTS[256 : 256 + 4 * COUNT].view(np.float32)[:] = np.arange(COUNT)
STARTS = (  # y = 2 (x + w), by way of the arena
    Start("add", (1, 1, 1), (32, 1, 1), (Place("input"), Place("weights", 256), Place("arena", 512))),
    Start("double", (1, 1, 1), (32, 1, 1), (Place("arena", 512), Place("output"))),
)
SIGNATURE = Signature(
    (tensor("x", 2, 3), tensor("unused", 0)),
    (tensor("y", 2, 3), tensor("x", 2, 3), tensor("again", 2, 3), tensor("w", 2, 3)),
    (OutputSource("output", 0), OutputSource("input", 0), OutputSource("output", 0), OutputSource("weights", 256)),
    1,
    1024,
    1,
)
X = np.arange(COUNT, dtype=np.float32).reshape(2, 3) + 10
NONE = np.zeros(0, np.float32)


def model(driver: FakeDriver, signature: Signature = SIGNATURE) -> CudaModel:
    return CudaModel(driver, [Image(CODE, "sm_90", {"add": 0, "double": 4096})], STARTS, signature, WEIGHTS)


def expected(x: Array) -> dict[str, Array]:
    w = np.arange(COUNT, dtype=np.float32).reshape(2, 3)
    return {"y": 2 * (x + w), "x": x, "again": 2 * (x + w), "w": w}


def same(found: dict[str, Any], x: Array) -> None:
    wanted = expected(x)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


class OnGpu:
    """An array as a tensor of another library on the GPU."""

    def __init__(self, array: Array, dtype: DataType = DataType.FLOAT32, device: tuple[int, int] = (CUDA, 0)) -> None:
        self.array, self.dtype, self.device, self.streams = array, dtype, device, [0]

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, stream: int = 0) -> Any:
        self.streams.append(stream)
        return capsule_of(self.array.ctypes.data, self.device, self.array.shape, self.dtype, lambda: None)


def aligned(x: Array) -> Array:
    """A copy that starts at a multiple of 64 bytes."""
    raw = np.zeros(x.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def on_host(found: Any) -> Array:
    seen = taken(found, None)
    assert (seen.device, seen.dtype, seen.contiguous) == ((CUDA, 0), DataType.FLOAT32, True)
    return floats(seen.address, COUNT).reshape(seen.shape).copy()


def test_runs_agree_and_are_captured_once() -> None:
    driver = FakeDriver(KERNELS)
    ready = model(driver)
    assert driver.count("upload") == 1, "the weights"
    for turn in range(5):
        before = list(driver.calls)
        same(ready.run({"x": X + turn, "unused": NONE}), X + turn)
        calls = driver.calls[len(before) :]
        assert calls.count("synchronise") == 1
        assert calls[-1] == "synchronise"
        assert calls.count("upload") == 1, "the input"
        assert calls.count("download") == 1, "the output"
        assert calls.count("launch") == (2 if turn < 2 else 0)
    assert driver.count("end_capture") == 1
    assert driver.count("replay") == 4
    assert driver.count("allocate") == 2


def test_outputs_are_the_callers() -> None:
    ready = model(FakeDriver(KERNELS))
    first = ready.run({"x": X, "unused": NONE})
    second = ready.run({"x": X + 1, "unused": NONE})
    same(first, X)
    same(second, X + 1)
    first["x"][:] = 0
    first["w"][:] = 0
    same(ready.run({"x": X, "unused": NONE}), X)


def test_tensors_on_the_gpu_are_used_where_they_are() -> None:
    driver = FakeDriver(KERNELS)
    ready = model(driver)
    given = OnGpu(aligned(X))
    for turn in range(4):
        given.array[...] = X + turn
        same(ready.run({"x": given, "unused": NONE}), X + turn)
    assert given.streams[1:] == [driver.stream] * 4, "our stream waits for theirs"
    assert driver.count("upload") == 1, "the weights alone"
    other = OnGpu(aligned(X + 40))
    same(ready.run({"x": other, "unused": NONE}), X + 40)
    assert driver.count("end_capture") == 2, "another address, another graph"


@pytest.mark.parametrize("start", [1, 2, 3, 4])
def test_a_tensor_that_starts_at_no_multiple_of_16_bytes_is_copied(start: int) -> None:
    driver = FakeDriver(KERNELS)
    ready = model(driver)
    seen: list[int] = []

    def add_seen(x: int, w: int, y: int) -> None:
        seen.append(x)
        add(x, w, y)

    driver.kernels = {**KERNELS, "add": add_seen}
    given = OnGpu(aligned(np.zeros(12, np.float32))[start : start + 6].reshape(2, 3))
    for turn in range(4):
        given.array[...] = X + turn
        same(ready.run({"x": given, "unused": NONE}), X + turn)
        found = ready.run_on_device({"x": given, "unused": NONE})
        np.testing.assert_array_equal(on_host(found["y"]), expected(X + turn)["y"])
        np.testing.assert_array_equal(on_host(found["x"]), X + turn)
    assert not any(address % 16 for address in seen)
    assert (seen[0] == given.array.ctypes.data) == (start == 4), "used where it is if that is possible"


def test_outputs_stay_on_the_gpu() -> None:
    driver = FakeDriver(KERNELS)
    ready = model(driver)
    first = ready.run_on_device({"x": X, "unused": NONE})
    second = ready.run_on_device({"x": X + 1, "unused": NONE})
    same({name: on_host(value) for name, value in first.items()}, X)
    same({name: on_host(value) for name, value in second.items()}, X + 1)
    assert driver.count("download") == 0
    assert len({value.address for value in (*first.values(), *second.values())}) == 8, "each has memory of its own"
    allocated = driver.count("allocate")
    del first, second
    gc.collect()
    for turn in range(3):
        found = ready.run_on_device({"x": X + turn, "unused": NONE})
        same({name: on_host(value) for name, value in found.items()}, X + turn)
        del found
    assert driver.count("allocate") == allocated, "memory that was let go of is used again"
    assert driver.count("settle") == 3


def test_memory_that_a_consumer_still_has_is_not_used_again() -> None:
    ready = model(FakeDriver(KERNELS))
    found = ready.run_on_device({"x": X, "unused": NONE})
    kept = taken(found["y"], None)
    del found
    gc.collect()
    for turn in range(3):
        ready.run_on_device({"x": X + 50 + turn, "unused": NONE})
    np.testing.assert_array_equal(floats(kept.address, COUNT).reshape(2, 3), expected(X)["y"])


def test_few_graphs_are_kept() -> None:
    driver = FakeDriver(KERNELS)
    ready = model(driver)
    given = [OnGpu(aligned(X + number)) for number in range(12)]
    for _ in range(2):
        for number, one in enumerate(given):
            same(ready.run({"x": one, "unused": NONE}), X + number)
    assert driver.count("end_capture") - driver.count("drop") == 8


def test_threads_take_turns() -> None:
    driver = FakeDriver(KERNELS)
    ready = model(driver)
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(20):
            x = X + 100 * number + turn
            if not np.array_equal(ready.run({"x": x, "unused": NONE})["y"], expected(x)["y"]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong
    assert driver.count("bind") == 81


def test_closing_gives_the_memory_back() -> None:
    driver = FakeDriver(KERNELS)
    ready = model(driver)
    ready.run({"x": X, "unused": NONE})
    ready.run_on_device({"x": X, "unused": NONE})
    gc.collect()
    ready.close()
    assert not driver.allocations
    assert driver.count("drop") == driver.count("end_capture")


@pytest.mark.parametrize(
    ("feeds", "part"),
    [
        ({"x": X}, "'unused'"),
        ({"x": X, "unused": NONE, "z": X}, "no input 'z'"),
        ({"x": X.astype(np.float64), "unused": NONE}, "float64"),
        ({"x": X.T, "unused": NONE}, "shape"),
        ({"x": OnGpu(aligned(X.T.copy())), "unused": NONE}, "'x' has shape (3, 2), the model takes (2, 3)"),
        ({"x": OnGpu(X.astype(np.int32), DataType.INT32), "unused": NONE}, "'x' is int32, the model takes float32"),
        ({"x": OnGpu(aligned(X), device=(CUDA, 1)), "unused": NONE}, "'x' lies on another device"),
    ],
)
def test_inputs_that_do_not_fit(feeds: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as caught:
        model(FakeDriver(KERNELS)).run(feeds)
    assert part in str(caught.value)


def test_a_tensor_that_is_not_handed_over() -> None:
    class Refusing(OnGpu):
        def __dlpack__(self, stream: int = 0) -> Any:
            raise BufferError("it is sparse")

    with pytest.raises(InputError, match=r"'x' cannot be taken from the GPU \(it is sparse\)"):
        model(FakeDriver(KERNELS)).run({"x": Refusing(X), "unused": NONE})


def test_an_index_out_of_range_is_the_callers_error() -> None:
    signature = replace(SIGNATURE, failures=("g: an index is out of range", "h: an index is out of range"))
    driver = FakeDriver(dict(KERNELS))
    ready = model(driver, signature)
    place = ready._error_address
    same(ready.run({"x": X, "unused": NONE}), X)
    driver.kernels["double"] = lambda x, y: floats(place, 1).view(np.int32).__setitem__(0, 2)
    for _ in range(2):
        with pytest.raises(InputError, match="h: an index"):
            ready.run({"x": X, "unused": NONE})
    driver.kernels["double"] = double
    same(ready.run({"x": X, "unused": NONE}), X)


def test_out_of_device_memory_is_one_sentence() -> None:
    with pytest.raises(ArtefactError) as caught:
        model(FakeDriver(KERNELS, memory_bytes=1000))
    said = str(caught.value)
    assert said.startswith("a fake GPU has 0.00 GB of memory free where the model needs 0.00 GB; ")
    assert said.endswith("free memory there, or run a smaller batch"), "there are no budgets for GPUs"


@pytest.mark.parametrize(("capability", "fits"), [((9, 0), True), ((8, 0), False), ((10, 0), False), ((9, 3), True)])
def test_an_artefact_for_another_architecture(capability: tuple[int, int], fits: bool) -> None:
    driver = FakeDriver(KERNELS, capability=capability)
    if fits:
        same(model(driver).run({"x": X, "unused": NONE}), X)
        return
    with pytest.raises(ArtefactError, match=r"compiled for sm_90 and the GPU here, a fake GPU, has sm_.*--target cuda"):
        model(driver)


@pytest.mark.parametrize(
    ("call", "code", "part"),
    [
        ("load", "CUDA_ERROR_NO_BINARY_FOR_GPU", "compiled for sm_90"),
        ("load", "CUDA_ERROR_INVALID_IMAGE", "does not take the compiled kernels (load: CUDA_ERROR_INVALID_IMAGE)"),
        ("kernel", "CUDA_ERROR_NOT_FOUND", "CUDA_ERROR_NOT_FOUND"),
        ("bind", "CUDA_ERROR_DEINITIALIZED", "the GPU failed (bind: CUDA_ERROR_DEINITIALIZED)"),
        ("upload", "CUDA_ERROR_UNKNOWN", "the GPU failed"),
    ],
)
def test_what_fails_when_a_model_is_loaded(call: str, code: str, part: str) -> None:
    driver = FakeDriver(KERNELS)
    driver.failing[call] = code
    with pytest.raises(ArtefactError) as caught:
        model(driver)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "call", ["launch", "begin_capture", "end_capture", "replay", "synchronise", "download", "upload"]
)
def test_what_fails_in_a_run(call: str) -> None:
    driver = FakeDriver(KERNELS)
    ready = model(driver)
    ready.run({"x": X, "unused": NONE})
    driver.failing[call] = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(ArtefactError, match=rf"the GPU failed \({call}: CUDA_ERROR_ILLEGAL_ADDRESS\)"):
        ready.run({"x": X, "unused": NONE})


def folder_of(path: Path) -> Path:
    write_cubins(
        path, "sm_90", [(CODE, {"add": Resources(16)}), (CODE + b"2", {"double": Resources(20)})], {"double": 4096}
    )
    return path


def test_a_folder_is_read_back(tmp_path: Path) -> None:
    images = read_images(folder_of(tmp_path))
    assert images == [Image(CODE, "sm_90", {"add": 0}), Image(CODE + b"2", "sm_90", {"double": 4096})]
    kept = json.loads((tmp_path / INDEX).read_text())
    assert kept["cubins"][1]["kernels"]["double"]["registers"] == 20


@pytest.mark.parametrize("harm", ["missing", "index", "changed", "shape"])
def test_a_damaged_folder(tmp_path: Path, harm: str) -> None:
    folder = folder_of(tmp_path)
    match harm:
        case "missing":
            (folder / "kernels.1.cubin").unlink()
        case "index":
            (folder / INDEX).unlink()
        case "changed":
            (folder / "kernels.0.cubin").write_bytes(b"other")
        case _:
            (folder / INDEX).write_text('{"arch": "sm_90", "cubins": [1]}')
    with pytest.raises(ArtefactError, match="optimize the model again") as caught:
        read_images(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "why",
    ["no NVIDIA driver is installed", "the NVIDIA driver knows CUDA 12.2 and 13.0 is needed; install a newer driver"],
)
def test_a_machine_that_cannot_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    def fail() -> object:
        raise NoDevice(why)

    monkeypatch.setattr(codegen.cuda.loading, "open_driver", fail)
    with pytest.raises(ArtefactError) as caught:
        load_cuda(folder_of(tmp_path), STARTS, SIGNATURE, WEIGHTS)
    assert str(caught.value) == f"{tmp_path}: the artefact runs on a GPU (sm_90), but {why}"


def test_a_folder_on_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codegen.cuda.loading, "open_driver", lambda: FakeDriver(KERNELS))
    same(load_cuda(folder_of(tmp_path), STARTS, SIGNATURE, WEIGHTS).run({"x": X, "unused": NONE}), X)
    monkeypatch.setattr(codegen.cuda.loading, "open_driver", lambda: FakeDriver(KERNELS, capability=(8, 9)))
    with pytest.raises(ArtefactError, match="compiled for sm_90"):
        load_cuda(tmp_path, STARTS, SIGNATURE, WEIGHTS)


def test_a_launch_without_its_code() -> None:
    with pytest.raises(ArtefactError, match="the code of double is missing"):
        CudaModel(FakeDriver(KERNELS), [Image(CODE, "sm_90", {"add": 0})], STARTS, SIGNATURE, WEIGHTS)
