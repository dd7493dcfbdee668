"""Tensors of other libraries on a device, taken and handed over without a copy: DLPack's structures in a Python capsule.

The layout is that of ``dlpack.h`` before version 1.0, which every library still gives and takes when no version is asked for. A
capsule that is only read is kept alive meanwhile, and frees its tensor when it goes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tensoropt.ir.types import DataType

CPU, CUDA = 1, 2
_NAME = b"dltensor"


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("rank", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))

_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, _Destructor]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_raw_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_raw_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

_CODES: dict[DataType, tuple[int, int]] = {
    DataType.BOOL: (6, 8),
    DataType.INT8: (0, 8),
    DataType.INT16: (0, 16),
    DataType.INT32: (0, 32),
    DataType.INT64: (0, 64),
    DataType.UINT8: (1, 8),
    DataType.UINT16: (1, 16),
    DataType.UINT32: (1, 32),
    DataType.UINT64: (1, 64),
    DataType.FLOAT16: (2, 16),
    DataType.BFLOAT16: (4, 16),
    DataType.FLOAT32: (2, 32),
    DataType.FLOAT64: (2, 64),
}
_TYPES = {code: dtype for dtype, code in _CODES.items()}


@dataclass(frozen=True, slots=True)
class Foreign:
    """A tensor of another library: where it lies, and what keeps it there. ``dtype`` is None for a type that models do not have."""

    address: int
    device: tuple[int, int]
    shape: tuple[int, ...]
    dtype: DataType | None
    contiguous: bool
    keep: Any


def device_of(value: Any) -> tuple[int, int] | None:
    """The kind and number of the device that a value lies on; None for what knows no DLPack."""
    ask = getattr(value, "__dlpack_device__", None)
    if ask is None:
        return None
    kind, number = ask()
    return int(kind), int(number)


def taken(value: Any, stream: int | None) -> Foreign:
    """A value as it lies, once work on ``stream`` sees what its library has written. BufferError, TypeError where it refuses."""
    if hasattr(value, "detach"):
        value = value.detach()  # torch hands over no tensor that it follows for derivatives
    capsule = value.__dlpack__(stream=stream) if stream is not None else value.__dlpack__()
    found = _Managed.from_address(_pointer(capsule, _NAME)).tensor
    shape = tuple(found.shape[axis] for axis in range(found.rank))
    strides = tuple(found.strides[axis] for axis in range(found.rank)) if found.strides else None
    dtype = _TYPES.get((found.dtype.code, found.dtype.bits)) if found.dtype.lanes == 1 else None
    return Foreign(
        (found.data or 0) + found.byte_offset,
        (found.device.kind, found.device.number),
        shape,
        dtype,
        strides is None or _is_row_major(shape, strides),
        capsule,
    )


def _is_row_major(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def capsule_of(
    address: int, device: tuple[int, int], shape: tuple[int, ...], dtype: DataType, release: Callable[[], None]
) -> Any:
    """A capsule of a tensor in row-major order; ``release`` is called once, when whoever took it, if anyone, is done with it."""
    extents = (ctypes.c_int64 * len(shape))(*shape)
    steps = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        steps[axis] = steps[axis + 1] * shape[axis + 1]
    strides = (ctypes.c_int64 * len(shape))(*steps)
    managed = _Managed()
    managed.tensor.data = address
    managed.tensor.device = _Device(*device)
    managed.tensor.rank = len(shape)
    managed.tensor.dtype = _Type(*_CODES[dtype], 1)
    managed.tensor.shape = ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
    managed.tensor.strides = ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = _delete
    place = ctypes.addressof(managed)
    _handed_over[place] = (managed, extents, strides, release)
    return _new(place, _NAME, _destroy)


_handed_over: dict[int, tuple[Any, Any, Any, Callable[[], None]]] = {}
"""What capsules point to, by its address, until it is released."""


def _released(managed: Any) -> None:
    kept = _handed_over.pop(ctypes.addressof(managed.contents), None)
    if kept is not None:
        kept[3]()


def _untaken(capsule: int) -> None:
    """Of a capsule that nobody took: who takes one renames it."""
    if _raw_valid(capsule, _NAME):
        _released(ctypes.pointer(_Managed.from_address(_raw_pointer(capsule, _NAME))))


_delete, _destroy = _Deleter(_released), _Destructor(_untaken)
