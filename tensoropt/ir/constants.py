"""Constants as the text form shows them: declared by type and content hash, or with their values where they are few."""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tensoropt.errors import ModelError
from tensoropt.ir.program import Array
from tensoropt.ir.types import TensorType

INLINE_ELEMENTS = 8
"""Constants of at most so many elements are printed with their values."""

_DIGEST_DIGITS = 16

_digests: dict[int, tuple[weakref.ref[Array], str]] = {}
"""Digests of arrays that cannot change, by identity: a program is printed once a stage, and its weights are large."""


@dataclass(frozen=True, slots=True)
class DeclaredConstant:
    """A constant whose type and content hash are known but whose values are not, as program text alone gives it.

    It stands where an array would and has its ``dtype``, ``shape``, ``size`` and ``nbytes``; using the values raises a
    ModelError. Two are equal exactly if type and hash are.
    """

    name: str
    type: TensorType
    digest: str

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type."""
        return self.type.dtype.numpy

    @property
    def shape(self) -> tuple[int, ...]:
        """One extent for each axis."""
        return tuple(int(extent) for extent in self.type.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.type.elements

    @property
    def nbytes(self) -> int:
        """Bytes that the values would take."""
        return self.type.bytes

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise ModelError(f"the constant {self.name} is only declared: the text holds its hash, not its values")


def content_digest(array: Array | DeclaredConstant) -> str:
    """The first digits of the SHA-256 of the elements in row-major order."""
    if isinstance(array, DeclaredConstant):
        return array.digest
    known = _digests.get(id(array))
    if known is not None and known[0]() is array:
        return known[1]
    contiguous = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    digest = hashlib.sha256(contiguous.data).hexdigest()[:_DIGEST_DIGITS]
    if not array.flags.writeable:
        key = id(array)
        _digests[key] = weakref.ref(array, lambda _: _digests.pop(key, None)), digest
    return digest
