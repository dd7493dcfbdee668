"""Iterators that an access divides, split into digits: ``x[i//4, i%4]`` reads ``x[i1, i0]`` with ``i = 4·i1 + i0``.

After that most indices are plain iterators, so what looks like a gather is a Reshape, a Transpose or a Slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tensoropt.ir.index import Atom, FloorDiv, Index, Iterator, Modulo

_SLACK = 16


@dataclass(frozen=True, slots=True)
class Digits:
    """An iterator as ``Σ weight · digit − shift``, the most significant digit first.

    The digits have ``span`` values together, of which those from ``shift`` on are the iterator's.
    """

    iterator: Iterator
    digits: tuple[Iterator, ...]
    weights: tuple[int, ...]
    shift: int

    @property
    def span(self) -> int:
        """How many values the digits have together."""
        return self.weights[0] * self.digits[0].extent

    @property
    def index(self) -> Index:
        """The iterator in terms of its digits."""
        total = Index.of(-self.shift)
        for digit, weight in zip(self.digits, self.weights, strict=True):
            total = total + Index.of(digit) * weight
        return total


def digits_of(iterator: Iterator, indices: Sequence[Index], taken: Iterable[Iterator]) -> Digits | None:
    """The digits of an iterator that the indices divide; None where they do not, or in a way that has no common digits."""
    offsets: set[int] = set()
    divisors: set[int] = set()
    for index in indices:
        for atom, _ in index.terms:
            if isinstance(atom, Iterator) or iterator not in atom.index.iterators():
                continue
            found = _divisors(atom, iterator)
            if found is None:
                return None
            offsets.add(found[0])
            divisors |= found[1]
    chain = sorted(divisors)
    if len(offsets) != 1 or any(large % small for small, large in pairwise(chain)):
        return None
    shift = offsets.pop() % chain[-1]
    top = -(-(shift + iterator.extent) // chain[-1])
    if top * chain[-1] > 2 * iterator.extent + _SLACK:
        return None
    names = {found.name for found in taken}
    weights = [*reversed(chain), 1]
    extents = [top, *(large // small for large, small in pairwise(weights))]
    digits: list[Iterator] = []
    for place, extent in enumerate(extents):
        name = f"{iterator.name}_{len(extents) - 1 - place}"
        while name in names:
            name += "_"
        names.add(name)
        digits.append(Iterator(name, extent))
    return Digits(iterator, tuple(digits), tuple(weights), shift)


def _divisors(atom: Atom, iterator: Iterator) -> tuple[int, set[int]] | None:
    """The offset that is added to the iterator and the numbers that divide it, in an atom of at most two divisions."""
    match atom:
        case FloorDiv(index=index, divisor=divisor) | Modulo(index=index, divisor=divisor):
            pass
        case _:
            return None
    if len(index.terms) != 1 or index.terms[0][1] != 1:
        return None
    inner = index.terms[0][0]
    if inner is iterator:
        return index.constant, {divisor}
    below = None if isinstance(inner, Iterator) or index.constant else _divisors(inner, iterator)
    if below is None or len(below[1]) != 1:
        return None
    (first,) = below[1]
    return below[0], {first, divisor if isinstance(inner, Modulo) else first * divisor}
