"""Boxes of larger arrays: memory that a kernel writes with strides of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array


def spanned(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Elements from the first to the last of a box with such strides, in elements."""
    if not all(shape):
        return 0
    return 1 + sum((int(extent) - 1) * stride for extent, stride in zip(shape, strides, strict=True))


def box_of(memory: Array, start: int, tensor: Tensor, strides: Sequence[int]) -> Array:
    """What a tensor is of flat memory, from an element on and with strides in elements: a view."""
    steps = [stride * memory.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(memory[start:], tuple(tensor.shape), steps)


def empty_box(tensor: Tensor, strides: Sequence[int] | None) -> Array:
    """An array to write a tensor to, row-major where no strides are given."""
    if strides is None:
        return np.empty(tuple(tensor.shape), tensor.dtype.numpy)
    return box_of(np.empty(spanned(tuple(tensor.shape), strides), tensor.dtype.numpy), 0, tensor, strides)
