"""Values that are known while a model is read: arrays, and fills, which are never written out."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType, Extent, TensorType

_PROBE = 64
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Fill:
    """A constant tensor whose elements are all ``value`` (an array of no axes)."""

    value: Array
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size if it were written out."""
        return int(prod(self.shape) * self.value.dtype.itemsize)


Known = np.ndarray | Fill


def known_type(known: Known) -> TensorType:
    """The tensor type; KeyError for element types that the IR does not have."""
    dtype = known.value.dtype if isinstance(known, Fill) else known.dtype
    return TensorType(DataType.from_numpy(dtype), tuple(Extent(extent) for extent in known.shape))


def materialised(known: Known) -> Array:
    """The value as an array; a fill becomes a read-only broadcast view that takes no memory."""
    if isinstance(known, Fill):
        return np.broadcast_to(known.value, known.shape)
    return known


def uniform_value(known: Known) -> Array | None:
    """The value that all elements share, bit for bit, as an array of no axes; None where they differ or there are none."""
    if isinstance(known, Fill):
        return known.value
    if known.size == 0:
        return None
    first = known.reshape(-1)[:1]
    bits = np.dtype(f"u{known.dtype.itemsize}") if known.dtype.itemsize <= 8 else None
    if bits is None:
        return None
    flat = known.reshape(-1).view(bits)
    if (flat[:_PROBE] != flat[0]).any():
        return None
    if any((flat[start : start + _CHUNK] != flat[0]).any() for start in range(0, flat.size, _CHUNK)):
        return None
    return first.reshape(())
