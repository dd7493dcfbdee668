"""Iterators for output axes, and flat positions."""

from __future__ import annotations

from collections.abc import Sequence

from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import row_major

_NAMES = {1: ("i",), 2: ("i", "j"), 3: ("i", "j", "k"), 4: ("n", "c", "h", "w"), 5: ("n", "c", "d", "h", "w")}
_SPATIAL = {1: ("w",), 2: ("h", "w"), 3: ("d", "h", "w")}
_TAPS = {1: ("s",), 2: ("r", "s"), 3: ("q", "r", "s")}


def output_iterators(shape: Sequence[int]) -> tuple[Iterator, ...]:
    """One iterator for each axis: i, j, k for up to three axes, n, c, h, w for images."""
    names = _NAMES.get(len(shape)) or [f"i{axis}" for axis in range(len(shape))]
    return tuple(Iterator(name, extent) for name, extent in zip(names, shape, strict=True))


def spatial_iterators(shape: Sequence[int]) -> tuple[Iterator, ...]:
    """d, h, w for spatial axes."""
    names = _SPATIAL.get(len(shape)) or [f"x{axis}" for axis in range(len(shape))]
    return tuple(Iterator(name, extent) for name, extent in zip(names, shape, strict=True))


def tap_iterators(shape: Sequence[int]) -> tuple[Iterator, ...]:
    """q, r, s for the taps of a kernel."""
    names = _TAPS.get(len(shape)) or [f"t{axis}" for axis in range(len(shape))]
    return tuple(Iterator(name, extent) for name, extent in zip(names, shape, strict=True))


def flatten_index(indices: Sequence[Index | Iterator | int], shape: Sequence[int]) -> Index:
    """The row-major position of a point in a shape."""
    return row_major(indices, shape)


def unflatten_index(position: Index, shape: Sequence[int]) -> list[Index]:
    """The point of a shape at a row-major position."""
    indices: list[Index] = []
    for extent in reversed(shape):
        if not extent:
            return [Index.of(0)] * len(shape)
        indices.append(position % extent)
        position = position // extent
    return indices[::-1]


def normal_axis(axis: int, rank: int) -> int:
    """A possibly negative axis as a position."""
    return axis + rank if axis < 0 else axis
