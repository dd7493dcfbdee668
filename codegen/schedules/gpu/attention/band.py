"""Bands: attention of each row to keys at some distances from it, as attention of rows to keys that they have in common.

Where the keys of row i are those at ``i + step · j - shift``, rows that are ``step`` apart share all but one of theirs. With
``i = step · r + c`` the rows of each class c are r, and with ``t = r + j`` their keys lie at ``step · t + c - shift`` whatever the
row, which takes part in those of ``0 <= t - r < places``. So a class is a batch, and the band its mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tensoropt.ir.expression import (
    Apply,
    Constant,
    IndexValue,
    Scalar,
    accesses,
    free_iterators,
    fresh_iterators,
    substitute,
)
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType


@dataclass(frozen=True, slots=True)
class Band:
    """``whole`` counts the rows, ``place`` the keys of one; ``row``, ``residue`` and ``key`` are r, c and t."""

    whole: Iterator
    place: Iterator
    row: Iterator
    residue: Iterator
    key: Iterator

    @property
    def mapping(self) -> Mapping[Iterator, Index]:
        """Rows and places by what takes their part."""
        return {self.whole: self.whole_row, self.place: Index.of(self.key) - self.row}

    @property
    def parts(self) -> tuple[Iterator, ...]:
        """What takes the part of a row's number: its class, where there are several, and its number there."""
        return (self.residue, self.row) if self.residue.extent > 1 else (self.row,)

    @property
    def whole_row(self) -> Index:
        """The row's number."""
        step = self.residue.extent
        return Index.of(self.row) * step + (self.residue if step > 1 else 0)

    @property
    def back(self) -> Mapping[Iterator, Index]:
        """The reverse, but for the place."""
        step = self.residue.extent
        return {self.row: Index.of(self.whole) // step, self.residue: Index.of(self.whole) % step}

    def masked(self, score: Scalar) -> Scalar:
        """Minus infinity where a row has no part in a key, whose score is given."""
        place = IndexValue(Index.of(self.key) - self.row, DataType.INT32)
        ends = Constant(0, DataType.INT32), Constant(self.place.extent, DataType.INT32)
        inside = Apply("and", Apply("ge", place, ends[0]), Apply("lt", place, ends[1]))
        return Apply("where", inside, score, Constant(float("-inf"), score.dtype))


def banded(
    rows: Iterable[Iterator], keys: Sequence[Iterator], shared: Sequence[Scalar], taken: Iterable[Iterator]
) -> Band | None:
    """The band that makes what rows ``shared``, keys and values, the same for all of them; None where there is none.

    ``taken`` are iterators whose names are not to be used.
    """
    if len(keys) != 1:
        return None
    (place,) = keys
    names = tuple(taken)
    for whole, step in product(rows, _steps(place, shared)):
        if whole.extent % step or whole.extent == step:
            continue
        count = whole.extent // step
        wanted = Iterator("row", count), Iterator("residue", step), Iterator("key", count + place.extent - 1)
        fresh = fresh_iterators(wanted, names)
        band = Band(whole, place, *(fresh[one] for one in wanted))
        if not any(band.row in free_iterators(substitute(one, band.mapping)) for one in shared):
            return band
    return None


def _steps(place: Iterator, shared: Sequence[Scalar]) -> list[int]:
    """By how many elements neighbouring places may lie apart, where neighbouring rows lie one apart."""
    found: set[int] = set()
    for node in shared:
        for access in accesses(node):
            for index in access.indices:
                apart = index.coefficient(place)
                found |= {apart // other for _, other in index.terms if other > 0 and apart > 0 and apart % other == 0}
    return sorted(found)
