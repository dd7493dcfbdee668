"""Constant masks as conjunctions of bounds on affine indices.

Exporters write band attention with a table that says which pairs take part. Candidate bounds are each axis by itself
and, for each pair of axes, the affine index whose slope the edge of the mask shows; the conjunction of the tightest
bounds is verified on the whole mask, and bounds that are not needed are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array

_SLOPES_PER_PAIR = 4
_SAMPLES = 1 << 14


@dataclass(frozen=True, slots=True)
class Bound:
    """``low ≤ index ≤ high``."""

    index: Index
    low: int
    high: int


def fit_box(mask: Array, iterators: Sequence[Iterator]) -> list[Bound] | None:
    """Bounds that hold exactly where the mask is true, or None where no such box is found."""
    if not mask.any():
        return None
    axes = [axis for axis, extent in enumerate(mask.shape) if extent > 1]
    forms: dict[Index, None] = {Index.of(iterators[axis]): None for axis in axes}
    for along, across in permutations(axes, 2):
        others = tuple(axis for axis in range(mask.ndim) if axis not in (along, across))
        shadow: Array = np.asarray(mask.any(axis=others)) if others else mask
        shadow = shadow if along < across else shadow.T
        for slope in _edge_slopes(shadow):
            forms[Index.of(iterators[across]) - Index.of(iterators[along]) * slope] = None
    if not _sample_allows(mask, list(forms), iterators):
        return None
    bounds = [bound for form in forms if (bound := _tightest(mask, form, iterators)) is not None]
    if not bounds or not _same(mask, bounds, iterators):
        return None
    for bound in list(bounds):
        rest = [other for other in bounds if other is not bound]
        if rest and _same(mask, rest, iterators):
            bounds = rest
    return bounds


def _sample_allows(mask: Array, forms: Sequence[Index], iterators: Sequence[Iterator]) -> bool:
    """Whether a sample leaves the box possible.

    Bounds over some of the true positions are tighter than those over all, so a false position within them is within the box too.
    """
    flat = mask.reshape(-1)
    chosen = np.random.default_rng(0).integers(0, flat.size, _SAMPLES)
    kept = flat[chosen]
    if not kept.any() or kept.all():
        return True
    grids = dict(zip(iterators, np.unravel_index(chosen, mask.shape), strict=True))
    within = ~kept
    for form in forms:
        values = np.asarray(form.evaluate(grids.__getitem__))
        within &= (values >= values[kept].min()) & (values <= values[kept].max())
    return not within.any()


def _edge_slopes(shadow: Array) -> list[int]:
    """The steps by which the first and the last true column move from row to row, the most frequent ones."""
    filled = shadow.any(axis=1)
    rows = shadow[filled]
    if len(rows) < 2:
        return []
    width = shadow.shape[1]
    first, last = rows.argmax(axis=1), width - 1 - rows[:, ::-1].argmax(axis=1)
    slopes: dict[int, float] = {}
    for edge, border in ((first, 0), (last, width - 1)):
        clipped = edge == border
        for weight, kept in ((1.0, ~clipped[1:] & ~clipped[:-1]), (0.5, clipped[1:] != clipped[:-1])):
            steps, counts = np.unique(np.diff(edge)[kept], return_counts=True)
            for step, count in zip(steps, counts, strict=True):
                if step:
                    slopes[int(step)] = slopes.get(int(step), 0) + weight * int(count)
    return sorted(slopes, key=lambda step: -slopes[step])[:_SLOPES_PER_PAIR]


def _values(form: Index, iterators: Sequence[Iterator], shape: tuple[int, ...]) -> Array:
    grids = {
        iterator: np.arange(extent).reshape([-1 if other == axis else 1 for other in range(len(shape))])
        for axis, (iterator, extent) in enumerate(zip(iterators, shape, strict=True))
    }
    return np.asarray(form.evaluate(grids.__getitem__))


def _tightest(mask: Array, form: Index, iterators: Sequence[Iterator]) -> Bound | None:
    inside = np.broadcast_to(_values(form, iterators, mask.shape), mask.shape)[mask]
    low, high = int(inside.min()), int(inside.max())
    return Bound(form, low, high) if low > form.low or high < form.high else None


def _same(mask: Array, bounds: Sequence[Bound], iterators: Sequence[Iterator]) -> bool:
    held: Array = np.ones((1,) * mask.ndim, np.bool_)
    for bound in bounds:
        values = _values(bound.index, iterators, mask.shape)
        held = held & (values >= bound.low) & (values <= bound.high)
    return bool((np.broadcast_to(held, mask.shape) == mask).all())
