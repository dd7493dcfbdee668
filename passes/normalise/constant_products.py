"""Sums of products of constants, by matrix multiplication where the interpreter would visit every point."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tensoropt.ir.expression import Access, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array
from tensoropt.ir.structure import product_factors

Axes = tuple[Iterator | None, ...]
"""For each axis of a tensor the iterator that runs along the whole of it; None where its one element is read."""


def plain_product(scope: Scope) -> list[tuple[Tensor, Axes]] | None:
    """The factors of a sum of products of floats that reads whole axes of tensors; None for every other scope."""
    if not scope.reduction or scope.reducer is not Reducer.SUM or not scope.dtype.is_float:
        return None
    factors = []
    for factor in product_factors(scope.body):
        axes = _whole_axes(factor)
        if axes is None or not isinstance(factor, Access) or not isinstance(factor.source, Tensor):
            return None
        factors.append((factor.source, axes))
    used = {axis for _, axes in factors for axis in axes}
    idle = [iterator for iterator in (*scope.traversal, *scope.reduction) if iterator.extent != 1]
    return factors if used.issuperset(idle) else None


def evaluate_product(scope: Scope, values: Mapping[str, Array]) -> Array:
    """The value of a plain product, summed in f64."""
    factors = plain_product(scope)
    assert factors is not None
    numbers = {iterator: place for place, iterator in enumerate((*scope.traversal, *scope.reduction))}
    operands: list[object] = []
    for tensor, axes in factors:
        kept = tuple(0 if axis is None else slice(None) for axis in axes)
        operands.append(np.asarray(values[tensor.name])[kept].astype(np.float64))
        operands.append([numbers[axis] for axis in axes if axis is not None])
    used = {axis for _, axes in factors for axis in axes}
    present = [numbers[iterator] for iterator in scope.traversal if iterator in used]
    with np.errstate(all="ignore"):
        result = np.asarray(np.einsum(*operands, present, optimize=True))  # type: ignore[call-overload]
    return np.ascontiguousarray(result.reshape([int(extent) for extent in scope.shape]).astype(scope.dtype.numpy))


def _whole_axes(factor: Scalar) -> Axes | None:
    if not isinstance(factor, Access):
        return None
    axes: list[Iterator | None] = []
    for index, extent in zip(factor.indices, factor.source.shape, strict=True):
        atom = index.terms[0][0] if len(index.terms) == 1 else None
        if isinstance(atom, Iterator) and index is Index.of(atom) and atom.extent == extent:
            axes.append(atom)
        elif extent == 1 and index is Index.of(0):
            axes.append(None)
        else:
            return None
    return tuple(axes)
