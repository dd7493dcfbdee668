"""Accesses turned around: which points of a scope read a given element.

A scope reads ``T[I(v)]`` at the points v of its box. The derivative needs the converse, ``{v : I(v) = u}`` for an element u, as a
box of new iterators w with ``v = M(u, w)`` and a few guards. It is found by solving the equations ``I_a(v) = u_a`` one by one:

- where indices divide and no read leaves the box, the row-major positions are equated instead if they do not (a reshape);
- a floor division or a modulo of E by k becomes a new unknown, with ``E = k·q + m`` and ``0 ≤ m < k`` as one more equation;
- a sum ``g·H + L = e`` with ``0 ≤ L < g`` becomes ``H = e // g`` and ``L = e % g``, as the digits of a number are found;
- one unknown, ``a·v = e``: v is ``e // a``, guarded by ``e % a = 0``;
- of several unknowns two are solved together, ``a·v + b·r = e`` with the rest in e: all are divided by ``g = gcd(a, b)``
  (guarded by ``e % g = 0``); with c the inverse of b modulo a, ``r = c·e % a + a·t`` and
  ``v = e·(1 − b·c)/a + b·(c·e // a) − b·t``, so that a window of R taps is ``⌈R/a⌉`` terms whatever the range of v is. The pair is
  chosen that leaves the fewest points.

Every solution is a bijection between the points that read u and the points (u, w) that meet the guards; ``converse`` maps back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import gcd

from tensoropt.ir.expression import fresh_iterators
from tensoropt.ir.index import FloorDiv, Index, Iterator
from tensoropt.ir.structure import linear_position, row_major

_MOST = 24
"""Unknowns that are introduced at most for one access."""


@dataclass(frozen=True, slots=True)
class Guard:
    """``low ≤ index < high``."""

    index: Index
    low: int
    high: int

    @property
    def holds(self) -> bool:
        """Whether the bounds prove it."""
        return self.low <= self.index.low and self.index.high < self.high


@dataclass(frozen=True, slots=True)
class Turned:
    """``elements`` (one for each axis of the tensor) and ``rest`` span the new box.

    ``points`` gives each old iterator as an index over both, ``guards`` are what the bounds do not prove: that an old iterator is
    in its range (``ranges``, by iterator), and the others. ``converse`` gives each iterator of ``rest`` over the old ones.
    """

    elements: tuple[Iterator, ...]
    rest: tuple[Iterator, ...]
    points: Mapping[Iterator, Index]
    ranges: Mapping[Iterator, Guard]
    guards: tuple[Guard, ...]
    converse: Mapping[Iterator, Index]


def turned(indices: Sequence[Index], shape: Sequence[int], box: Iterable[Iterator]) -> Turned:
    """The points of a box that read each element of a tensor of a shape; where the equations resist, all points under guards."""
    points = tuple(box)
    try:
        return _Solver(indices, shape, points).run()
    except _Resists:
        elements = _elements(shape, points)
        guards = [Guard(index - element, 0, 1) for index, element in zip(indices, elements, strict=True)]
        same = {iterator: Index.of(iterator) for iterator in points}
        return Turned(elements, points, same, {}, tuple(guard for guard in guards if not guard.holds), same)


def _elements(shape: Sequence[int], box: tuple[Iterator, ...]) -> tuple[Iterator, ...]:
    named = [Iterator(f"u{axis}", int(extent)) for axis, extent in enumerate(shape)]
    renamed = fresh_iterators(named, box)
    return tuple(renamed[iterator] for iterator in named)


class _Resists(Exception):
    """The elimination does not come to an end."""


class _Solver:
    """The state of the elimination: what is known of each unknown, and the equations (sums that are zero) that are left."""

    def __init__(self, indices: Sequence[Index], shape: Sequence[int], box: tuple[Iterator, ...]) -> None:
        self.box = box
        self.elements = _elements(shape, box)
        self.unknown: dict[Iterator, None] = dict.fromkeys(box)
        self.known: dict[Iterator, Index] = {}
        self.converse = dict(zip(self.elements, indices, strict=True))
        """Elements and new unknowns over the old box."""
        self.guards: list[Guard] = []
        self.digits: dict[tuple[Index, int], tuple[Index, Index]] = {}
        positions = _linear_position(indices, shape)
        sides = list(zip(indices, map(Index.of, self.elements), strict=True))
        if positions is not None:
            sides = [(positions, linear_position(self.elements))]
        self.equations = [index - element for index, element in sides]
        self.divisors: dict[Index, set[int]] = {}
        for index, _ in sides:
            _collect_divisors(index, self.divisors)
        for iterator in box:
            if iterator.extent == 1:
                self._set(iterator, Index.of(0))

    def run(self) -> Turned:
        """Equation by equation, those with the fewest unknowns first. _Resists where there are too many."""
        given, self.equations = self.equations, []
        for equation in given:  # before any is solved, so that they share quotients and remainders
            self.equations.append(self._linear(equation))
        while self.equations:
            self.equations.sort(key=lambda equation: len(self._terms(equation)))
            self._solve(self._linear(self.equations.pop(0)))
        mapping = self._resolved()
        points = {iterator: Index.of(iterator).substitute(mapping) for iterator in self.box}
        found = (Guard(guard.index.substitute(mapping), guard.low, guard.high) for guard in self.guards)
        guards = tuple(dict.fromkeys(guard for guard in found if not guard.holds))
        ranges = {iterator: Guard(index, 0, iterator.extent) for iterator, index in points.items()}
        return Turned(
            self.elements,
            tuple(self.unknown),
            points,
            {iterator: guard for iterator, guard in ranges.items() if not guard.holds},
            guards,
            {iterator: self.converse.get(iterator, Index.of(iterator)) for iterator in self.unknown},
        )

    def _fresh(self, name: str, extent: int, converse: Index) -> Iterator:
        """A new unknown, and what it is in terms of the others."""
        if len(self.converse) > len(self.elements) + _MOST:
            raise _Resists
        wish = Iterator(name, extent)
        found = fresh_iterators([wish], (*self.box, *self.elements, *self.unknown, *self.known))[wish]
        self.unknown[found] = None
        self.converse[found] = converse.substitute(self.converse)
        return found

    def _linear(self, index: Index) -> Index:
        """The index as a sum of unknowns and what is known, with new unknowns for quotients and remainders of unknowns."""
        total = Index.of(index.constant)
        for atom, coefficient in index.terms:
            if isinstance(atom, Iterator):
                part = Index.of(atom)
            elif not atom.index.iterators() & self.unknown.keys():
                part = atom.index // atom.divisor if isinstance(atom, FloorDiv) else atom.index % atom.divisor
            else:
                quotient, remainder = self._digits(atom.index, atom.divisor)
                part = quotient if isinstance(atom, FloorDiv) else remainder
            total = total + part * coefficient
        return total

    def _digits(self, index: Index, divisor: int) -> tuple[Index, Index]:
        """The quotient and the remainder, as sums of unknowns; those by a multiple of another divisor are made of the other's."""
        finer = max(
            (other for other in self.divisors.get(index, ()) if other < divisor and divisor % other == 0), default=1
        )
        if finer == 1:
            return self._new_digits(self._linear(index), divisor)
        quotient, remainder = self._digits(index, finer)
        quotient, digit = self._new_digits(quotient, divisor // finer)
        return quotient, digit * finer + remainder

    def _new_digits(self, index: Index, divisor: int) -> tuple[Index, Index]:
        found = self.digits.get((index, divisor))
        if found is None:
            low, high = index.low // divisor, index.high // divisor
            quotient = self._fresh("q", high - low + 1, index // divisor - low)
            remainder = self._fresh("m", divisor, index % divisor)
            found = self.digits[index, divisor] = (Index.of(quotient) + low, Index.of(remainder))
            self.equations.append(index - found[0] * divisor - found[1])
        return found

    def _terms(self, equation: Index) -> list[tuple[Iterator, int]]:
        return [(atom, step) for atom, step in equation.terms if isinstance(atom, Iterator) and atom in self.unknown]

    def _solve(self, equation: Index) -> None:
        """One equation ``Σ a·v − e = 0`` solved for an unknown, which is then known everywhere."""
        terms = self._terms(equation)
        if not terms:
            self.guards.append(Guard(equation, 0, 1))
        elif len(terms) > 1 and self._split(equation, terms):
            return
        elif len(terms) == 1:
            ((alone, step),) = terms
            sign = 1 if step > 0 else -1
            value = (Index.of(alone) * step - equation) * sign
            self._divides(value, abs(step))
            self._set(alone, value // abs(step))
        else:
            self._solve_pair(equation, *min(permutations(terms, 2), key=self._preference))

    def _split(self, equation: Index, terms: list[tuple[Iterator, int]]) -> bool:
        """Two equations for one whose terms are digits of a number, or their negatives."""
        sign = 1 if terms[0][1] > 0 else -1
        total = sum((Index.of(iterator) * step for iterator, step in terms), Index.of(0))
        value = (total - equation) * sign
        for step in sorted({abs(step) for _, step in terms}, reverse=True):
            low = sum((Index.of(one) * a * sign for one, a in terms if a % step), Index.of(0))
            if low.terms and low.low >= 0 and low.high < step:
                self.equations += [(total * sign - low) // step - value // step, low - value % step]
                return True
        return False

    def _solve_pair(self, equation: Index, first: tuple[Iterator, int], second: tuple[Iterator, int]) -> None:
        """``a·v + b·r = e`` for v, and for the residue of r where a is not ±1."""
        (one, a), (other, b) = first, second
        value = Index.of(one) * a + Index.of(other) * b - equation
        common = gcd(a, b)
        self._divides(value, common)
        sign = 1 if a > 0 else -1
        value, stride, b = value // common * sign, abs(a) // common, b // common * sign
        if stride == 1:
            self._set(one, value - Index.of(other) * b)
            return
        inverse = pow(b, -1, stride)
        inverse = inverse if 2 * inverse <= stride else inverse - stride
        terms = -(-other.extent // stride)
        step = Index.of(self._fresh("t", terms, Index.of(other) // stride)) if terms > 1 else Index.of(0)
        self._set(other, value * inverse % stride + step * stride)
        self._set(one, value * ((1 - b * inverse) // stride) + value * inverse // stride * b - step * b)

    def _preference(self, pair: tuple[tuple[Iterator, int], tuple[Iterator, int]]) -> tuple[float, int]:
        """The share of the points that is left when the pair is solved for the first, then the smaller steps."""
        (first, a), (second, b) = pair
        stride = abs(a) // gcd(a, b)
        left = -(-second.extent // stride) / max(first.extent * second.extent, 1)
        return left, abs(a)

    def _divides(self, value: Index, divisor: int) -> None:
        if divisor > 1:
            self.guards.append(Guard(value % divisor, 0, 1))

    def _set(self, iterator: Iterator, value: Index) -> None:
        """The unknown is known from now on."""
        del self.unknown[iterator]
        self.known[iterator] = value
        self.digits.clear()  # the equation between a number and its digits has been used
        if iterator not in self.box:
            self.guards.append(Guard(value, 0, iterator.extent))
        self.equations = [equation.substitute({iterator: value}) for equation in self.equations]

    def _resolved(self) -> dict[Iterator, Index]:
        """What is known, in terms of elements and what is left unknown."""
        resolved: dict[Iterator, Index] = {}
        for iterator, value in reversed(self.known.items()):
            resolved[iterator] = value.substitute(resolved)
        return resolved


def _collect_divisors(index: Index, found: dict[Index, set[int]]) -> None:
    """By what each index within divisions is divided."""
    for atom, _ in index.terms:
        if not isinstance(atom, Iterator):
            found.setdefault(atom.index, set()).add(atom.divisor)
            _collect_divisors(atom.index, found)


def _linear_position(indices: Sequence[Index], shape: Sequence[int]) -> Index | None:
    """The row-major position that is read, where it says the same as the indices do and more simply."""
    inside = all(index.low >= 0 and index.high < extent for index, extent in zip(indices, shape, strict=True))
    if not inside or all(index.is_affine for index in indices):
        return None
    position = row_major(indices, shape)
    return position if position.is_affine else None
