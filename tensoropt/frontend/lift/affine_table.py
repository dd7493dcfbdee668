"""Constant integer tables as quasi-affine indices.

A table over a box is fitted axis by axis: first differences give the inner coefficient, the first place where they
break gives the period, and the blocks are fitted again; slopes that are fractions are fitted as ``(a·i + b) // c``.
Whatever is found is verified on the whole table, so a wrong guess costs nothing but time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array

_LARGEST_DIVISOR = 64
_PREFIX = 1024
_SMALLEST_CLAMPED_RUN = 2


def fit_index(table: Array, iterators: Sequence[Iterator]) -> Index | None:
    """The index over the iterators (one for each axis of the table) that gives the table, or None."""
    table = np.asarray(table, dtype=np.int64)
    if table.size == 0:
        return Index.of(0)
    if table.ndim == 1:
        return _fit_line(table, Index.of(iterators[0]))
    origin = int(table.reshape(-1)[0])
    total = Index.of(origin)
    predicted: Array = np.full((1,) * table.ndim, origin)
    separable = True
    for axis, iterator in enumerate(iterators):
        along = table[(0,) * axis + (slice(None),) + (0,) * (table.ndim - axis - 1)] - origin
        part = _fit_line(along, Index.of(iterator))
        if part is None:
            separable = False
            break
        total = total + part
        predicted = predicted + along.reshape([-1 if other == axis else 1 for other in range(table.ndim)])
    if separable and bool((predicted == table).all()):
        return total
    flat = Index.of(0)
    for iterator in iterators:
        flat = flat * iterator.extent + iterator
    return _fit_line(table.reshape(-1), flat)


def _fit_line(values: Array, position: Index) -> Index | None:
    """The index in ``position`` that gives a one-dimensional table."""
    first = int(values[0])
    if values.size == 1:
        return Index.of(first)
    differences = np.diff(values)
    step = int(differences[0])
    breaks = np.flatnonzero(differences != step)
    if not breaks.size:
        return position * step + first
    return (
        _fit_cycle(values, position, step, int(differences[breaks[0]]))
        or _fit_blocks(values, position, step, int(breaks[0]) + 1)
        or _fit_fraction(values, position)
    )


def _fit_cycle(values: Array, position: Index, step: int, jump: int) -> Index | None:
    """``(step · i + first) mod m``, as rolled axes have."""
    modulus = abs(step - jump)
    first = int(values[0])
    if modulus <= abs(step) or not 0 <= first < modulus:
        return None
    predicted = (first + step * np.arange(values.size)) % modulus
    return (position * step + first) % modulus if bool((predicted == values).all()) else None


def _fit_blocks(values: Array, position: Index, step: int, period: int) -> Index | None:
    """``step · (i mod period) + outer(i // period)``."""
    outer = _fit_line(values[::period], position // period)
    if outer is None:
        return None
    steps = np.arange(values.size)
    predicted = values[::period][steps // period] + step * (steps % period)
    return outer + (position % period) * step if bool((predicted == values).all()) else None


def _fit_fraction(values: Array, position: Index) -> Index | None:
    """``(a · i + b) // c`` for a small c."""
    steps = np.arange(values.size)
    slope = (int(values[-1]) - int(values[0])) / (values.size - 1)
    for divisor in range(2, _LARGEST_DIVISOR + 1):
        for factor in {int(np.floor(slope * divisor)), int(np.ceil(slope * divisor)), round(slope * divisor)}:
            for count in (min(_PREFIX, values.size), values.size):  # most guesses are refuted by the first elements
                slack = divisor * values[:count] - factor * steps[:count]
                low, high = int(slack.max()), int(slack.min()) + divisor - 1
                if low > high:
                    break
            if low <= high:
                return (position * factor + low) // divisor
    return None


@dataclass(frozen=True, slots=True)
class ClampedIndex:
    """``max(low, min(high, index))``, as exporters write windows at the edges of a sequence."""

    index: Index
    low: int
    high: int


def fit_clamped(table: Array, iterators: Sequence[Iterator]) -> ClampedIndex | None:
    """A table that is affine where it does not touch its smallest or largest value, and clamped to these elsewhere."""
    table = np.asarray(table, dtype=np.int64)
    if table.size == 0:
        return None
    low, high = int(table.min()), int(table.max())
    inside = (table > low) & (table < high)
    if int(inside.sum()) < _SMALLEST_CLAMPED_RUN:
        return None
    coefficients: list[int] = []
    for axis in range(table.ndim):
        lower = tuple(slice(0, -1) if other == axis else slice(None) for other in range(table.ndim))
        upper = tuple(slice(1, None) if other == axis else slice(None) for other in range(table.ndim))
        both = inside[lower] & inside[upper]
        differences = (table[upper] - table[lower])[both]
        if differences.size and bool((differences != differences[0]).any()):
            return None
        if not differences.size and table.shape[axis] > 1:
            return None
        coefficients.append(int(differences[0]) if differences.size else 0)
    point = tuple(int(found) for found in np.argwhere(inside)[0])
    constant = int(table[point]) - sum(factor * where for factor, where in zip(coefficients, point, strict=True))
    index = Index.of(constant)
    predicted: Array = np.full((1,) * table.ndim, constant)
    for axis, (factor, iterator) in enumerate(zip(coefficients, iterators, strict=True)):
        index = index + Index.of(iterator) * factor
        steps = np.arange(table.shape[axis]).reshape([-1 if other == axis else 1 for other in range(table.ndim)])
        predicted = predicted + factor * steps
    return ClampedIndex(index, low, high) if bool((np.clip(predicted, low, high) == table).all()) else None
