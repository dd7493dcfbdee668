"""The bindings of cuBLASLt and cuDNN with a library of ours in their place, which computes from the descriptors alone.

What they give is compared with the same operation by NumPy, from its plain data. Nothing here says anything about a GPU.
"""

from __future__ import annotations

import ctypes
import gc
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from codegen.libraries.blaslt import BlasLt
from codegen.libraries.cudnn import ALGORITHMS, Cudnn
from codegen.libraries.library import Library, LibraryError, NotSupported
from codegen.libraries.operations import CUBLASLT, CUDNN, LibraryCall
from codegen.lower.device import Call, lower
from tensoropt.errors import ArtefactError
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType
from tests.codegen.libraries import test_convolutions as convolutions
from tests.codegen.libraries import test_products as products
from tests.strategies import fake_libraries
from tests.strategies.fake_driver import FakeDriver
from tests.strategies.library_runs import TARGET

COMPILER = shutil.which("gcc") or shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C compiler")
ROOT = Path(__file__).resolve().parents[3]
STREAM = 77


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Our library in the place of both."""
    path = tmp_path_factory.mktemp("libraries") / "fake.so"
    source = ROOT / "tests" / "strategies" / "fake_libraries.c"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-w", str(source), "-o", str(path)], check=True)
    return ctypes.CDLL(str(path))


def call_of(scope: Scope, library: str, way: int | str) -> tuple[LibraryCall, list[Tensor]] | None:
    """The call that is the whole kernel, and the tensors that its pointers are, scratch memory apart."""
    kernel = lower(Tensor("y", scope.type), scope, TARGET, variant=fake_libraries.variant(library, way))
    match kernel.entries:
        case [Call() as only]:
            return only.call, [one for one in only.arguments if isinstance(one, Tensor)]
        case _:
            return None


def aligned(size: int) -> Array:
    """Bytes from a multiple of 256 on."""
    whole = np.full(size + 256, 0xFF, np.uint8)
    start = -whole.ctypes.data % 256
    return whole[start : start + size]


def agrees(library: Library, call: LibraryCall, tensors: list[Tensor]) -> None:
    """The library and NumPy write the same result, and nothing else."""
    generator = np.random.default_rng(0)
    held = [aligned(tensor.type.bytes) for tensor in tensors]
    for memory in held[:-1]:
        memory.view(np.float32)[:] = generator.integers(-3, 4, memory.nbytes // 4)
    before = [memory.copy() for memory in held[:-1]]
    scratch = aligned(call.workspace_bytes)
    library.prepared(call)([*(memory.ctypes.data for memory in held), scratch.ctypes.data])
    found = held[-1].copy()
    held[-1][:] = 0xFF
    driver = FakeDriver({})
    expected = fake_libraries.FakeLibrary(driver, call.library, call.version, 8).prepared(call)
    expected([*(memory.ctypes.data for memory in held), scratch.ctypes.data])
    np.testing.assert_array_equal(found.view(np.float32), held[-1].view(np.float32))
    assert all(np.array_equal(one, other) for one, other in zip(before, held, strict=False))


@settings(max_examples=200, deadline=None)
@given(case=products.cases())
def test_products(fake: ctypes.CDLL, case: products.Case) -> None:
    found = call_of(replace(case, dtype=DataType.FLOAT32).scope(), CUBLASLT, 0)
    if found is not None:  # about every third
        agrees(BlasLt(fake, STREAM), *found)


@settings(max_examples=100, deadline=None)
@given(case=convolutions.cases())
def test_convolutions(fake: ctypes.CDLL, case: convolutions.Case) -> None:
    found = call_of(replace(case, dtype=DataType.FLOAT32).scope(), CUDNN, "implicit_precomp_gemm")
    if found is not None:  # about every third
        agrees(Cudnn(fake, STREAM), *found)


def product() -> tuple[LibraryCall, list[Tensor]]:
    found = call_of(products.KNOWN["bias and relu"].scope(), CUBLASLT, 0)
    assert found is not None
    return found


def convolution(way: str = "implicit_gemm") -> tuple[LibraryCall, list[Tensor]]:
    found = call_of(convolutions.KNOWN["plain"].scope(), CUDNN, way)
    assert found is not None
    return found


def test_versions(fake: ctypes.CDLL) -> None:
    assert BlasLt(fake, STREAM).version == "13.10.0"
    assert Cudnn(fake, STREAM).version == "9.28.1"


def test_a_number_is_that_of_an_algorithm_that_works(fake: ctypes.CDLL) -> None:
    """The library knows three, and the second does not work."""
    call, tensors = product()
    library = BlasLt(fake, STREAM)
    agrees(library, replace(call, way=1), tensors)
    with pytest.raises(ArtefactError, match=r"knows 2 algorithms here for the product .* and number 2 is wanted"):
        library.prepared(replace(call, way=2))


def test_what_it_does_not_support_costs_the_candidate_alone(fake: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STATUS", "15")
    monkeypatch.setenv("FAKE_FAILS", "cublasLtMatmulAlgoGetHeuristic")
    with pytest.raises(ArtefactError, match="knows 0 algorithms"):
        BlasLt(fake, STREAM).prepared(product()[0])
    monkeypatch.setenv("FAKE_FAILS", "cublasLtMatmul")
    with pytest.raises(NotSupported, match=r"cublasLtMatmul: CUBLAS_STATUS_NOT_SUPPORTED\); optimize the model again"):
        agrees(BlasLt(fake, STREAM), *product())
    monkeypatch.setenv("FAKE_STATUS", "3000")
    monkeypatch.setenv("FAKE_FAILS", "cudnnGetConvolutionForwardWorkspaceSize")
    with pytest.raises(NotSupported, match="CUDNN_STATUS_NOT_SUPPORTED"):
        Cudnn(fake, STREAM).prepared(convolution()[0])


@pytest.mark.parametrize("name", ["cublasLtCreate", "cublasLtMatmul"])
def test_a_call_that_fails_is_named(fake: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("FAKE_FAILS", name)
    with pytest.raises(LibraryError, match=f"{name}: CUBLAS_STATUS_EXECUTION_FAILED"):
        agrees(BlasLt(fake, STREAM), *product())


@pytest.mark.parametrize("way", [way for way in ALGORITHMS if way != "fft"])
def test_every_algorithm(fake: ctypes.CDLL, way: str) -> None:
    agrees(Cudnn(fake, STREAM), *convolution(way))


def test_more_scratch_memory_than_was_planned(fake: ctypes.CDLL) -> None:
    with pytest.raises(
        ArtefactError, match=r"cuDNN's fft needs 1099511627776 bytes of scratch memory here for the conv"
    ):
        Cudnn(fake, STREAM).prepared(convolution("fft")[0])


def test_handles_are_given_back(fake: ctypes.CDLL) -> None:
    gc.collect()
    before = fake.fake_live()
    kept = [BlasLt(fake, STREAM).prepared(product()[0]), Cudnn(fake, STREAM).prepared(convolution()[0])]
    assert fake.fake_live() > before
    del kept
    gc.collect()
    assert fake.fake_live() == before
