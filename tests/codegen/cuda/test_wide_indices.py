"""Tensors with more than 2^31 elements: indices of 64 bits in every product, and elements behind the 2^31st found."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from codegen.cuda.cubins import compile_functions
from codegen.cuda.source import cuda_source
from codegen.device.kernel import starts_of
from codegen.device.table import Place, Start
from codegen.lower.device import DeviceKernel, lower
from codegen.targets.named import NAMED
from tensoropt.ir.expression import Access, Reducer, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.cuda_on_host import available, compiled, kernels_of
from tests.strategies.nvcc import needs_nvcc

ROWS, COLUMNS = (1 << 11) + 1, 1 << 20
"""An element of a byte each: a row more than 2^31 of them."""

TARGET = NAMED["h200"]
X = Tensor("x", TensorType(DataType.UINT8, (Extent(ROWS), Extent(COLUMNS))))
ROW, J, K, FEW = Iterator("i", ROWS), Iterator("j", COLUMNS), Iterator("k", ROWS), Iterator("few", 3)

SCOPES = {
    "injective": Scope([ROW], Access(X, [ROW, Index.of(COLUMNS - 1)])),
    "reduction by blocks": Scope([FEW], Access(X, [K, Index.of(FEW) * 500000]), [K], Reducer.MAX),
    "reduction by threads": Scope([J], Access(X, [K, J]), [K], Reducer.MAX),
    "injective, written": Scope([J, ROW], Access(X, [ROW, J])),
}


def kernel_of(name: str) -> DeviceKernel:
    scope = SCOPES[name]
    found = lower(Tensor("y", scope.type), scope, TARGET)
    assert found.schedules == (name.split(",")[0],)
    return found


@pytest.mark.parametrize("name", SCOPES)
def test_numbers_of_blocks_are_wide_before_they_are_multiplied(name: str) -> None:
    (launch,) = kernel_of(name).launches
    source = cuda_source({"kernel": launch.function}, TARGET)
    text = source[source.rindex('extern "C"') :]
    assert "int64_t" in text
    assert text.count("blockIdx.x") == text.count("((int64_t)((int)blockIdx.x))") > 0
    narrow = re.findall(r"(?<!int64_t\))\b\d{6,}", text)
    assert not narrow, "every constant that large is of 64 bits"


@needs_nvcc
def test_they_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path))
    functions = {f"kernel_{number}": kernel_of(name).launches[0].function for number, name in enumerate(SCOPES)}
    (made,) = compile_functions(functions, TARGET)
    assert made.kernels.keys() == functions.keys()
    assert all(0 < needed.registers <= 40 and not needed.spills for needed in made.kernels.values())


@pytest.mark.skipif(not available(), reason="needs a C++ compiler with barriers and 16-bit floats")
@pytest.mark.parametrize("name", ["injective", "reduction by blocks"])
def test_elements_far_apart_are_found(tmp_path: Path, name: str) -> None:
    """The kernel runs on the host, over two GiB of which it touches a page for each row: the others take no memory."""
    try:
        x = np.zeros((ROWS, COLUMNS), np.uint8)
    except MemoryError:
        pytest.skip("this machine does not lend two GiB of addresses")
    kernel = kernel_of(name)
    columns = [COLUMNS - 1] if name == "injective" else [0, 500000, 1000000]
    for number, column in enumerate(columns):
        x[:, column] = (np.arange(ROWS) + 7 * number) % 200
        x[ROWS - 1, column] = 201 + number  # only there
    library = compiled(cuda_source({"kernel_0": kernel.launches[0].function}, TARGET), tmp_path, contracted=False)
    (start,) = starts_of(kernel, ["kernel_0"], {X: Place("input"), kernel.output: Place("output")}, Place("arena"))
    assert isinstance(start, Start)
    y = np.zeros(tuple(int(extent) for extent in kernel.output.shape), np.uint8)
    addresses = {"input": x.ctypes.data, "output": y.ctypes.data}
    kernels_of(library, [start])["kernel_0"](*(addresses[place.region] for place in start.arguments))
    expected = x[:, COLUMNS - 1] if name == "injective" else [201, 202, 203]
    np.testing.assert_array_equal(y, expected)
