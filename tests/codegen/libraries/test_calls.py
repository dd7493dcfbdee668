"""Calls in the table of launches: as plain data, and on a driver that says what goes wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from codegen.cuda.bench import CudaBench
from codegen.cuda.runtime import CudaModel
from codegen.device.bench import DeviceFailed
from codegen.device.table import Called, Entry, Place, Start, as_json, from_json
from codegen.libraries.library import LibraryError, NotSupported, Open, Prepared
from codegen.libraries.operations import CUBLASLT, CUDNN, Convolution, LibraryCall, Matrix, Product
from codegen.signature import OutputSource, Signature
from tensoropt.errors import ArtefactError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.fake_driver import FakeDriver
from tests.strategies.fake_libraries import VERSIONS, fake_libraries

PRODUCT = LibraryCall(
    CUBLASLT, VERSIONS[CUBLASLT], 1, Product(1, 2, 3, 2, Matrix(2), Matrix(2), Matrix(2), "f32", "f32", bias=True), 256
)
CONVOLUTION = LibraryCall(
    CUDNN,
    VERSIONS[CUDNN],
    "fft",
    Convolution(1, 2, (3, 4), 2, (1, 2), (0, 1), (1, 1), (1, 2), 2, (18, 9, 3, 1), "f16"),
    512,
)
TABLE: tuple[Entry, ...] = (
    Start("kernel_0_0", (1, 2, 3), (32, 1, 1), (Place("input"), Place("arena", 512))),
    Called(PRODUCT, (Place("input"), Place("weights", 256), Place("input", 0, 1), Place("output"), Place("arena"))),
    Called(CONVOLUTION, (Place("input"), Place("weights"), Place("output"), Place("arena", 256))),
)


def test_a_table_is_read_back() -> None:
    assert from_json(json.loads(json.dumps(as_json(TABLE)))) == TABLE


def test_tables_of_before_there_were_calls_are_read() -> None:
    old = [{"kernel": "k", "grid": [1, 2, 3], "block": [4, 5, 6], "arguments": [["input", 0, 0], ["output", 16, 1]]}]
    assert from_json(old) == (Start("k", (1, 2, 3), (4, 5, 6), (Place("input"), Place("output", 16, 1))),)
    assert as_json(from_json(old)) == old


@pytest.mark.parametrize(
    "damage", [{"kind": "sum"}, {"library": "mkl"}, {"operation": {}}, {"operation": 3}, {"workspace_bytes": "many"}]
)
def test_a_damaged_call_is_found_out(damage: dict[str, object]) -> None:
    entry = as_json(TABLE)[1]
    entry["call"] |= damage
    with pytest.raises((KeyError, TypeError, ValueError)):
        from_json([entry])


def tensor(name: str, *shape: int) -> Tensor:
    return Tensor(name, TensorType(DataType.FLOAT32, tuple(map(Extent, shape))))


SIGNATURE = Signature(
    (tensor("x", 2, 2), tensor("b", 2)), (tensor("y", 3, 2),), (OutputSource("output", 0),), 1, 256, threads=1
)
WEIGHTS = np.zeros(512, np.uint8)
WEIGHTS[256 : 256 + 24].view(np.float32)[:] = np.arange(6)


def failing(error: Exception) -> Open:
    """Libraries whose calls fail."""

    class Failing:
        version = VERSIONS[CUBLASLT]

        def prepared(self, call: LibraryCall) -> Prepared:
            def run(addresses: object) -> None:
                raise error

            return run

    return lambda name, stream: Failing()


def model(driver: FakeDriver, opened: Open, call: LibraryCall = PRODUCT) -> CudaModel:
    return CudaModel(driver, [], [Called(call, TABLE[1].arguments)], SIGNATURE, WEIGHTS, opened)


FEEDS = {"x": np.array([[1, 2], [3, 4]], np.float32), "b": np.array([10, 20], np.float32)}


def test_a_call_is_part_of_the_graph() -> None:
    driver = FakeDriver({})
    ready = model(driver, fake_libraries(driver))
    columns = np.arange(6, dtype=np.float32).reshape(3, 2)
    for _ in range(4):
        np.testing.assert_array_equal(ready.run(FEEDS)["y"], columns @ FEEDS["x"] + FEEDS["b"])
    assert driver.count(CUBLASLT) == 2, "once as it is, once recorded"
    assert driver.count("replay") == 3
    assert driver.count(f"prepared {CUBLASLT}") == 1


def test_what_a_library_fails_at_is_one_sentence() -> None:
    with pytest.raises(
        ArtefactError, match=r"^the GPU failed \(cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED\); optimize"
    ):
        model(FakeDriver({}), failing(LibraryError("CUBLAS_STATUS_EXECUTION_FAILED", "cublasLtMatmul"))).run(FEEDS)
    driver = FakeDriver({})
    with pytest.raises(ArtefactError, match=r"knows 3 algorithms"):
        model(driver, fake_libraries(driver), replace(PRODUCT, way=7))


def test_candidates_that_fail() -> None:
    """What a library does not support costs the candidate, another failure the process too."""
    entries = [Called(PRODUCT, ())]
    for error, seen in (
        (LibraryError("CUBLAS_STATUS_EXECUTION_FAILED", "cublasLtMatmul"), DeviceFailed),
        (NotSupported("it is not supported here"), ArtefactError),
    ):
        bench = CudaBench(FakeDriver({}), [], 0, failing(error))
        launches = bench.launches(entries, lambda place: 0)
        with pytest.raises(seen, match=str(error)[:20]):
            bench.run(launches)
    driver = FakeDriver({})
    bench = CudaBench(driver, [], 0, fake_libraries(driver, {}))
    with pytest.raises(ArtefactError, match=r"cuBLASLt is not installed; pip install 'tensoropt\[libraries\]'"):
        bench.launches(entries, lambda place: 0)
