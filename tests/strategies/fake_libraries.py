"""Libraries without a GPU: operations on host addresses by NumPy, on the stream of a fake driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from codegen.libraries.finding import NoLibrary
from codegen.libraries.library import Library, NotSupported, Open, Prepared
from codegen.libraries.operations import CUBLASLT, CUDNN, NAMES, Convolution, LibraryCall, Matrix, Product
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType
from tests.strategies.fake_driver import FakeDriver

VERSIONS = {CUBLASLT: "13.10.0", CUDNN: "9.28.1"}


def variant(library: str, way: int | str = 0) -> dict[str, Any]:
    """Schedule parameters that name a fake library."""
    return {"library": library, "version": VERSIONS[library], "way": way}


class FakeLibrary:
    """`codegen.libraries.library.Library` that knows so many ``ways`` and checks where its pointers point."""

    def __init__(self, driver: FakeDriver, name: str, version: str, ways: int) -> None:
        self.version = version
        self._driver, self._name, self._ways = driver, name, ways

    def prepared(self, call: LibraryCall) -> Prepared:
        assert call.library == self._name
        if isinstance(call.way, int) and call.way >= self._ways:
            raise NotSupported(f"{NAMES[self._name]} knows {self._ways} algorithms")
        self._driver._called(f"prepared {self._name}")
        compute = _product if isinstance(call.operation, Product) else _convolution

        def run(addresses: Sequence[int]) -> None:
            self._driver._called(self._name)
            *tensors, scratch = addresses
            assert scratch % 256 == 0
            self._driver._do(lambda: _work(compute, call, tensors, scratch))

        return run


def fake_libraries(driver: FakeDriver, versions: Mapping[str, str] = VERSIONS, ways: int = 3) -> Open:
    """What opens the fake libraries that have a version; others are not installed."""

    def opened(name: str, stream: int) -> Library:
        if name not in versions:
            raise NoLibrary(f"{NAMES[name]} is not installed")
        assert stream == driver.stream
        return FakeLibrary(driver, name, versions[name], ways)

    return opened


def _work(compute: Callable[..., None], call: LibraryCall, tensors: Sequence[int], scratch: int) -> None:
    ctypes.memset(scratch, 0xEE, call.workspace_bytes)
    compute(call.operation, *tensors)
    ctypes.memset(scratch, 0xEE, call.workspace_bytes)


def _strided(address: int, dtype: str, shape: Sequence[int], strides: Sequence[int]) -> Array:
    """Memory as an array, its strides in elements."""
    kind = DataType(dtype).numpy
    span = 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
    flat = np.ctypeslib.as_array((ctypes.c_uint8 * (span * kind.itemsize)).from_address(address)).view(kind)
    return as_strided(flat, shape, [stride * kind.itemsize for stride in strides])


def _matrix(address: int, dtype: str, matrix: Matrix, batches: int, rows: int, columns: int) -> Array:
    first = address + matrix.start * DataType(dtype).numpy.itemsize
    assert first % matrix.aligned == 0
    assert matrix.leading >= (columns if matrix.transposed else rows)
    within = (matrix.leading, 1) if matrix.transposed else (1, matrix.leading)
    return _strided(first, dtype, (batches, rows, columns), (matrix.batch_stride, *within))


def _product(one: Product, left: int, right: int, *rest: int) -> None:
    *bias, out = rest
    a = _matrix(left, one.operands, one.left, one.batches, one.rows, one.depth).astype(np.float64)
    b = _matrix(right, one.operands, one.right, one.batches, one.depth, one.columns).astype(np.float64)
    sums = a @ b
    if one.bias:
        sums += _strided(bias[0], one.result, (one.rows, 1), (1, 0)).astype(np.float64)
    written = _matrix(out, one.result, one.out, one.batches, one.rows, one.columns)
    written[...] = (np.maximum(sums, 0) if one.relu else sums).astype(written.dtype)


def _convolution(one: Convolution, image: int, weights: int, *rest: int) -> None:
    *bias, out = rest
    assert not any(address % 16 for address in (image, weights, *rest))
    width, count = one.channels // one.groups, one.filters // one.groups
    x = _strided(image, one.operands, (one.images, one.channels, *one.size), _row_major(one.channels, *one.size))
    w = _strided(weights, one.operands, (one.filters, width, *one.kernel), _row_major(width, *one.kernel))
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *((pad, pad) for pad in one.pads)))
    rows, columns = one.out_size
    sums = np.zeros((one.images, one.filters, rows, columns))
    for r in range(one.kernel[0]):
        for s in range(one.kernel[1]):
            top, beside = r * one.dilations[0], s * one.dilations[1]
            seen = padded[:, :, top :: one.strides[0], beside :: one.strides[1]][:, :, :rows, :columns]
            for group in range(one.groups):
                own, filters = slice(group * width, (group + 1) * width), slice(group * count, (group + 1) * count)
                taps = w[filters, :, r, s].astype(np.float64)
                sums[:, filters] += np.einsum("ncyx,fc->nfyx", seen[:, own], taps)
    if one.bias:
        sums += _strided(bias[0], one.operands, (one.filters, 1, 1), (1, 0, 0)).astype(np.float64)
    written = _strided(out, one.operands, sums.shape, one.out_strides)
    written[...] = (np.maximum(sums, 0) if one.relu else sums).astype(written.dtype)


def _row_major(*inner: int) -> tuple[int, ...]:
    strides = [1]
    for extent in reversed(inner):
        strides.insert(0, strides[0] * extent)
    return tuple(strides)
