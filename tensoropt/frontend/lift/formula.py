"""Constants that are better computed than read: masks over boxes, and tables of positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tensoropt.frontend.lift.affine_table import fit_index
from tensoropt.frontend.lift.box_mask import Bound, fit_box
from tensoropt.frontend.lift.scalars import cast, conjunction, index_within, literal, where
from tensoropt.ir.expression import IndexValue, Scalar, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType

_SMALLEST = 1024
_SAMPLES = 256


@dataclass(frozen=True, slots=True)
class Formula:
    """A scalar over one iterator for each axis that gives the constant's elements."""

    iterators: tuple[Iterator, ...]
    body: Scalar

    def at(self, indices: Sequence[Index]) -> Scalar:
        """The element at indices that stay inside the constant's box."""
        return substitute(self.body, dict(zip(self.iterators, indices, strict=True)))


def formula_of(array: Array) -> Formula | None:
    """The formula of a constant of at least a thousand elements, or None where there is none."""
    if array.size < _SMALLEST or array.dtype.kind == "c":
        return None
    iterators = tuple(Iterator(f"p{axis}", extent) for axis, extent in enumerate(array.shape))
    dtype = DataType.from_numpy(array.dtype)
    return _mask(array, iterators, dtype) or _positions(array, iterators, dtype)


def _mask(array: Array, iterators: tuple[Iterator, ...], dtype: DataType) -> Formula | None:
    flat = array.reshape(-1)
    if np.unique(flat[:: max(1, flat.size // _SAMPLES)]).size > 2:
        return None
    low, high = array.min(), array.max()
    is_high = array == high
    if low != low or not bool((is_high | (array == low)).all()):
        return None
    for inside, within, without in ((is_high, high, low), (~is_high, low, high)):
        bounds = fit_box(inside, iterators)
        if bounds is not None:
            return Formula(
                iterators, where(_holds(bounds), literal(within.item(), dtype), literal(without.item(), dtype))
            )
    return None


def _holds(bounds: list[Bound]) -> Scalar:
    return conjunction([index_within(bound.index, bound.low, bound.high + 1) for bound in bounds])


def _positions(array: Array, iterators: tuple[Iterator, ...], dtype: DataType) -> Formula | None:
    if dtype is DataType.BOOL:
        return None
    samples = array.reshape(-1)[:_SAMPLES]
    if dtype.is_float:
        if not bool(np.isfinite(samples).all()) or bool((np.rint(samples) != samples).any()):
            return None
        if (
            not bool(np.isfinite(array).all())
            or bool((np.rint(array) != array).any())
            or bool((np.abs(array) >= 2**24).any())
        ):
            return None
    index = fit_index(array.astype(np.int64), iterators)
    return None if index is None else Formula(iterators, cast(IndexValue(index), dtype))
