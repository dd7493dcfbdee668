"""Data types, extents, layouts and tensor types: the vocabulary that everything else is typed with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod

import ml_dtypes
import numpy as np


class DataType(Enum):
    """Element types; the value is the spelling in the text form."""

    BOOL = "bool"
    INT8 = "i8"
    INT16 = "i16"
    INT32 = "i32"
    INT64 = "i64"
    UINT8 = "u8"
    UINT16 = "u16"
    UINT32 = "u32"
    UINT64 = "u64"
    FLOAT16 = "f16"
    BFLOAT16 = "bf16"
    FLOAT32 = "f32"
    FLOAT64 = "f64"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy type with the same values."""
        return _NUMPY[self]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return _NUMPY[self].itemsize

    @property
    def is_float(self) -> bool:
        """Whether values round."""
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        """Whether values wrap; booleans are not integers."""
        return not self.is_float and self is not DataType.BOOL

    @staticmethod
    def from_numpy(dtype: np.dtype[np.generic]) -> DataType:
        """The type of a NumPy array; KeyError for strings, complex numbers and objects."""
        return _FROM_NUMPY[np.dtype(dtype)]


_NUMPY: dict[DataType, np.dtype[np.generic]] = {
    DataType.BOOL: np.dtype(np.bool_),
    DataType.INT8: np.dtype(np.int8),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.UINT16: np.dtype(np.uint16),
    DataType.UINT32: np.dtype(np.uint32),
    DataType.UINT64: np.dtype(np.uint64),
    DataType.FLOAT16: np.dtype(np.float16),
    DataType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DataType.FLOAT32: np.dtype(np.float32),
    DataType.FLOAT64: np.dtype(np.float64),
}
_FROM_NUMPY = {value: key for key, value in _NUMPY.items()}
HALVES = frozenset({DataType.FLOAT16, DataType.BFLOAT16})
"""Types of two bytes, which are summed up in f32."""
_FLOATS = HALVES | {DataType.FLOAT32, DataType.FLOAT64}


class Extent(int):
    """The number of elements along an axis.

    A type of its own so that symbolic extents can join later: code that needs a number calls ``int(extent)``,
    code that only passes extents on never looks inside. Today every extent is a non-negative integer.
    """

    def __new__(cls, value: int) -> Extent:
        if value < 0:
            raise ValueError(f"an extent cannot be negative: {value}")
        return super().__new__(cls, value)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the elements of a tensor lie in memory. Row-major is the only one so far."""

    name: str = "row_major"


ROW_MAJOR = Layout()


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type, shape (one extent per axis) and layout of a tensor."""

    dtype: DataType
    shape: tuple[Extent, ...]
    layout: Layout = ROW_MAJOR

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(Extent(extent) for extent in self.shape))

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in memory in bytes."""
        return self.elements * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.value}[{', '.join(str(int(extent)) for extent in self.shape)}]"
