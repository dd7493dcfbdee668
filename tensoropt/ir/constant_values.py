"""The value of an expression of constants: sums of products by matrix multiplication, the rest by the interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from tensoropt.ir.expression import (
    Access,
    Reducer,
    Scalar,
    Scope,
    Tensor,
    free_iterators,
    scopes,
)
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array
from tensoropt.ir.structure import is_of_indices, product_factors

Factor = tuple[Tensor | Scalar, tuple[Iterator | None, ...]]
"""A tensor, or a scalar of indices alone (a table), and for each axis the iterator that runs along the whole of it; None where
the one element of an axis is read."""

_FEW_POINTS = 1 << 20
"""Up to so many points the interpreter is fast enough."""


def constant_value(scope: Scope, values: Mapping[str, Array]) -> Array:
    """The value of a scope, given the arrays of the tensors that it reads, by name. Sums are in f64."""
    if points(scope) > _FEW_POINTS and plain_product(scope) is not None:
        return evaluate_product(scope, values)
    return evaluate(scope, values)


def points(scope: Scope) -> int:
    """Points of scalar arithmetic of a scope and of those nested in it."""
    return sum(inner.type.elements * prod(iterator.extent for iterator in inner.reduction) for inner in scopes(scope))


def plain_product(scope: Scope) -> list[Factor] | None:
    """The factors of a sum of products of floats that reads whole axes of tensors and tables; None for every other scope."""
    if not scope.reduction or scope.reducer is not Reducer.SUM or not scope.dtype.is_float:
        return None
    factors: list[Factor] = []
    for factor in product_factors(scope.body):
        if is_of_indices(factor):
            seen = free_iterators(factor)
            own = tuple(iterator for iterator in (*scope.traversal, *scope.reduction) if iterator in seen)
            factors.append((factor, own))
            continue
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
    for source, axes in factors:
        present = [axis for axis in axes if axis is not None]
        if isinstance(source, Tensor):
            kept = tuple(0 if axis is None else slice(None) for axis in axes)
            operands.append(np.asarray(values[source.name])[kept].astype(np.float64))
        else:
            operands.append(evaluate(Scope(present, source), {}).astype(np.float64))
        operands.append([numbers[axis] for axis in present])
    used = {axis for _, axes in factors for axis in axes}
    kept_axes = [numbers[iterator] for iterator in scope.traversal if iterator in used]
    with np.errstate(all="ignore"):
        result = np.asarray(np.einsum(*operands, kept_axes, optimize=True))  # type: ignore[call-overload]
    return np.ascontiguousarray(result.reshape([int(extent) for extent in scope.shape]).astype(scope.dtype.numpy))


def _whole_axes(factor: Scalar) -> tuple[Iterator | None, ...] | None:
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
