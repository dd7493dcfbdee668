"""Constants rearranged when a program is compiled, with NumPy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codegen.lower.emitter import flat_index
from codegen.schedules.cpu.context import Packing
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Access, Cast, Scalar, Scope, Tensor, replace_sources, substitute, tensors
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType


def pack(packing: Packing, constants: Mapping[str, Array]) -> Array:
    """The packed array, flat: a strided copy where the indices allow it, else what the interpreter says."""
    body = substitute(packing.body, packing.mapping)
    values = _strided(packing, body, constants)
    if values is None:
        values = evaluate(Scope(packing.axes, body, (), None), constants)
    used = packing.axes[-1].extent
    if used == packing.padded:
        return np.ascontiguousarray(values, packing.dtype.numpy).reshape(-1)
    result = np.zeros((*values.shape[:-1], packing.padded), packing.dtype.numpy)
    result[..., :used] = values
    return result.reshape(-1)


def _strided(packing: Packing, body: Scalar, constants: Mapping[str, Array]) -> Array | None:
    """A view of the constant whose axes are the packing's; None where an index is not affine or leaves the box."""
    access = body.argument if isinstance(body, Cast) else body
    if not isinstance(access, Access) or not isinstance(access.source, Tensor) or not access.stays_inside:
        return None
    flat = flat_index(access)
    if not flat.is_affine:
        return None
    source = np.ascontiguousarray(constants[access.source.name]).reshape(-1)
    size = source.dtype.itemsize
    shape = tuple(axis.extent for axis in packing.axes)
    strides = tuple(flat.coefficient(axis) * size if axis.extent > 1 else 0 for axis in packing.axes)
    return np.lib.stride_tricks.as_strided(source[flat.constant :], shape, strides, writeable=False)


def packing_sources(packing: Packing) -> tuple[Tensor, ...]:
    """The constants that a packing reads."""
    return tuple(tensors(_values(packing)))


def packing_key(packing: Packing, actual: Mapping[str, Tensor]) -> tuple[str, int, DataType]:
    """Equal for packings that give the same bytes, whichever kernels they are for; ``actual`` constants by the names that it reads.

    Pieces of one statement read the same weights by kernels that differ in the number of their positions.
    """
    values = _values(packing)
    named = replace_sources(values, {tensor: actual[tensor.name] for tensor in tensors(values)})
    return canonical_key(named), packing.padded, packing.dtype


def _values(packing: Packing) -> Scope:
    return Scope(packing.axes, substitute(packing.body, packing.mapping), (), None)
