"""DLPack both ways, against NumPy and torch, in host memory."""

from __future__ import annotations

import gc
from typing import Any, cast

import numpy as np
import pytest

from codegen.cuda.dlpack import CPU, capsule_of, device_of, taken
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType


class Handed:
    """An array's memory as ``capsule_of`` hands it over, and whether it was released."""

    def __init__(self, array: Array, dtype: DataType) -> None:
        self.array, self.dtype, self.released = array, dtype, 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0

    def __dlpack__(self, **_: object) -> Any:
        return capsule_of(self.array.ctypes.data, (CPU, 0), self.array.shape, self.dtype, self._release)

    def _release(self) -> None:
        self.released += 1


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (0, 3), (1, 1)])
@pytest.mark.parametrize("dtype", [DataType.FLOAT32, DataType.INT64, DataType.FLOAT16, DataType.BOOL, DataType.UINT8])
def test_numpy_takes_what_is_handed_over(shape: tuple[int, ...], dtype: DataType) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype.numpy)
    handed = Handed(array, dtype)
    got: Array = np.from_dlpack(cast(Any, handed))
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype
    if array.size:
        assert np.shares_memory(got, array)
    assert handed.released == 0
    del got
    gc.collect()
    assert handed.released == 1


def test_torch_takes_what_is_handed_over() -> None:
    torch = pytest.importorskip("torch")
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    handed = Handed(array, DataType.FLOAT32)
    got = torch.from_dlpack(handed)
    array[1, 2] = 100
    assert got[1, 2] == 100
    part = got[1:]
    del got
    gc.collect()
    assert handed.released == 0, "a view still uses it"
    del part
    gc.collect()
    assert handed.released == 1


def test_a_capsule_that_nobody_takes_is_released() -> None:
    handed = Handed(np.zeros(3, np.float32), DataType.FLOAT32)
    capsule = handed.__dlpack__()
    assert handed.released == 0
    del capsule
    gc.collect()
    assert handed.released == 1


def test_what_numpy_hands_over_is_read() -> None:
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    assert device_of(array) == (CPU, 0)
    found = taken(array, None)
    assert (found.address, found.shape, found.dtype, found.contiguous) == (
        array.ctypes.data,
        (2, 3, 4),
        DataType.INT32,
        True,
    )
    assert not taken(array.transpose(), None).contiguous
    assert not taken(array[:, ::2], None).contiguous
    assert taken(array[1:2], None).contiguous
    assert taken(array[1:], None).address == array.ctypes.data + 48
    assert taken(np.zeros(2, np.complex64), None).dtype is None
    assert device_of([1, 2]) is None


def test_what_torch_hands_over_is_read() -> None:
    torch = pytest.importorskip("torch")
    given = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).requires_grad_()
    found = taken(given, None)
    assert (found.address, found.shape, found.dtype) == (given.data_ptr(), (2, 3), DataType.BFLOAT16)
    assert not taken(torch.zeros(3, 4).t(), None).contiguous
