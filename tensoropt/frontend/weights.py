"""ONNX tensors as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tensoropt.errors import ModelError
from tensoropt.frontend.external_data import ExternalData
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType

if TYPE_CHECKING:
    import onnx


def data_type_of(element_type: int) -> DataType | None:
    """The IR's type for an ONNX element type, None for those that the IR does not have (strings, complex, 8-bit floats, 4-bit)."""
    return _DATA_TYPES.get(element_type)


_DATA_TYPES = {
    1: DataType.FLOAT32,
    2: DataType.UINT8,
    3: DataType.INT8,
    4: DataType.UINT16,
    5: DataType.INT16,
    6: DataType.INT32,
    7: DataType.INT64,
    9: DataType.BOOL,
    10: DataType.FLOAT16,
    11: DataType.FLOAT64,
    12: DataType.UINT32,
    13: DataType.UINT64,
    16: DataType.BFLOAT16,
}
ELEMENT_TYPES = {dtype: number for number, dtype in _DATA_TYPES.items()}


def type_name(element_type: int) -> str:
    """ONNX's name of an element type, for messages."""
    import onnx

    try:
        return str(onnx.TensorProto.DataType.Name(element_type))
    except ValueError:
        return f"type {element_type}"


@dataclass(frozen=True, slots=True)
class TensorReader:
    """Turns ``TensorProto`` into arrays; large ones stay views of the message or memory maps."""

    label: str
    external: ExternalData

    def read(self, tensor: onnx.TensorProto) -> Array:
        """The array of a tensor; ModelError for damaged data."""
        import onnx
        from onnx import numpy_helper

        shape = tuple(tensor.dims)
        dtype = data_type_of(tensor.data_type)
        if any(extent < 0 for extent in shape):
            raise ModelError(
                f"{self.label}: the constant {tensor.name!r} has a negative extent in its shape {list(shape)}"
            )
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            if dtype is None:
                raise ModelError(
                    f"{self.label}: the constant {tensor.name!r} has the unsupported type {type_name(tensor.data_type)}"
                )
            return self.external.load(tensor, dtype.numpy)
        if dtype is not None and tensor.HasField("raw_data"):
            raw = tensor.raw_data
            if len(raw) != prod(shape) * dtype.itemsize:
                raise ModelError(
                    f"{self.label}: the constant {tensor.name!r} of shape {list(shape)} holds {len(raw)} bytes of data"
                )
            return np.frombuffer(raw, dtype.numpy).reshape(shape)
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{self.label}: the constant {tensor.name!r} is damaged ({first_line(error)})") from None

    def read_sparse(self, sparse: onnx.SparseTensorProto) -> Array:
        """The dense array of a sparse initializer."""
        values, indices = self.read(sparse.values), self.read(sparse.indices)
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), tuple(sparse.dims))
        dense.reshape(-1)[flat] = values
        return dense


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its type."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
