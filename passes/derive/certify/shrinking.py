"""Smaller expressions of the same form, on which a derivation is checked in full.

Kept are: which iterators have one element, divisors and the sizes that they divide, kernel sizes, strides and padding, and
the residues of what is cut by the coefficients it stands beside. So every boundary case and residue class of the real sizes
is there. Extents that go together, within a scope, across the scopes nested in it and through the tensors that several of them
read, become smaller together (``proportions.py``); where reads begin and end in the middle of an axis, each segment does
(``segments.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import lcm

from passes.derive.certify.proportions import Node, Proportions
from passes.derive.certify.segments import Axis, Cuts, axis_of, cuts_of, shift_of
from passes.derive.components import components
from tensoropt.ir.expression import (
    Access,
    Constant,
    IndexValue,
    Scalar,
    Scope,
    Tensor,
    accesses,
    children,
    leaves,
    map_scalar,
    scopes,
)
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo
from tensoropt.ir.types import Extent, TensorType

_PLAIN = (3, 2, 4)
"""Sizes of axes that are only ever addressed by one iterator; different ones, so that a mix-up shows."""

_TAPS = 12
"""Iterators up to this size that stand beside others keep it: they are taps of a window."""

_BAND = 5
"""Longer windows that lie as far outside as inside are made shorter on both sides, to so many taps."""

_FEW = 3
"""Windows over a kernel slide over at least so many positions."""

Shifts = dict[tuple[Scope, Index], list[tuple[Iterator, Fraction, Fraction]]]


def shrunk(scope: Scope, room: int, least: Mapping[str, int]) -> Scope:
    """The scope, which may read nested scopes, with axes longer than ``room`` beyond their windows made shorter.

    ``least`` gives by an iterator's name without its number what it is split by: it keeps more than that, and its residue.
    """
    cuts = cuts_of(scope)
    relations = _Relations(Proportions(), cuts, room, least)
    relations.of(scope)
    return _Smaller(cuts, relations.proportions.solved(_PLAIN), relations.shifts).of(scope)


def base_name(name: str) -> str:
    """The name without the number that rules give to what they derive from it."""
    return name.rstrip("0123456789") or name


@dataclass(slots=True)
class _Relations:
    """Notes what goes together in an expression, and what each segment has to keep.

    ``shifts``: indices whose iterators lose points at their beginning (rather than at their end), so that the constant grows:
    for each iterator the slope, and the share of its lost points that are at the beginning.
    """

    proportions: Proportions
    cuts: Cuts
    room: int
    least: Mapping[str, int]
    shifts: Shifts = field(default_factory=dict)

    def of(self, root: Scope) -> None:
        """All relations of a scope and of those nested in it."""
        for axis, cuts in self.cuts.items():
            split = self._split(axis[1]) if isinstance(axis[1], Iterator) else 1
            for start, end in pairwise(cuts):
                need = self.proportions.add((axis, start), end - start)
                if split > 1:
                    need.least, need.period = split + 1, split
        for scope in reversed(scopes(root)):
            for access in accesses(scope.body):
                for place, index in enumerate(access.indices):
                    self._relate(scope, index, axis_of(access.source, place))
            self._relate_positions(scope)

    def _split(self, iterator: Iterator) -> int:
        return self.least.get(base_name(iterator.name), 1)

    def _whole(self, axis: Axis) -> Node | None:
        """The only segment of an axis; None where it is cut."""
        return (axis, 0) if len(self.cuts[axis]) == 2 else None

    def _fix(self, *axes: Axis) -> None:
        self.proportions.fix(*((axis, start) for axis in axes for start in self.cuts[axis][:-1]))

    def _relate(self, scope: Scope, index: Index, axis: Axis) -> None:
        iterator = shift_of(index)
        if index.is_constant:
            return
        if iterator is not None:
            for start in self.cuts[scope, iterator][:-1]:
                if start + index.constant in self.cuts[axis][:-1]:
                    self.proportions.join((axis, start + index.constant), ((scope, iterator), start))
            return
        read: list[Axis] = [(scope, atom) for atom in sorted(index.iterators(), key=lambda found: found.name)]
        nodes = {atom[1]: self._whole(atom) for atom in read}
        target = self._whole(axis)
        if target is None or any(node is None for node in nodes.values()):
            self._fix(axis, *read)
            return
        slopes = _slopes(index)
        rising = [(atom, slope) for atom, slope in slopes.items() if slope > 0]
        falling = [(atom, slope) for atom, slope in slopes.items() if slope < 0]
        extent = self.proportions.lengths[target]
        if rising and falling and index.low < 0 and index.high >= extent and 2 * extent <= index.high - index.low + 1:
            self._relate_difference(scope, rising, falling, target)
            return
        fixed = self._keep_windows(scope, index, extent)
        moving: list[tuple[Node, Fraction]] = [
            (((scope, atom), 0), abs(slope)) for atom, slope in slopes.items() if slope and atom not in fixed
        ]
        falling = [(atom, slope) for atom, slope in falling if atom not in fixed]
        self.shifts.setdefault((scope, index), []).extend((atom, slope, Fraction(1)) for atom, slope in falling)
        if len(moving) == 1:
            self.proportions.join(target, *moving[0])
        elif moving:
            self.proportions.add_up(target, moving)
        else:
            self.proportions.fix(target)

    def _keep_windows(self, scope: Scope, index: Index, extent: int) -> set[Iterator]:
        """Notes what the iterators of an index with a boundary have to keep; gives the windows, which the axis does not follow."""
        divisions = _divisions(index)
        divided = frozenset().union(*(atom.index.iterators() for atom in divisions))
        for iterator in divided:
            period = lcm(*(atom.divisor for atom in divisions if iterator in atom.index.iterators()))
            self.proportions.keep(((scope, iterator), 0), 2 * period, period)
        linear = [(atom, abs(step)) for atom, step in index.terms if isinstance(atom, Iterator)]
        beside = _beside_others(index, extent)
        period = lcm(*(step for _, step in linear))
        before, after = max(0, -index.low), max(0, index.high - extent + 1)
        padding = 2 * max(before, after)
        taps = {atom for atom, _ in linear if atom in beside and atom.extent <= _TAPS}
        bands = [
            (atom, step)
            for atom, step in linear
            if atom in beside and atom not in taps and step * (atom.extent - 1) <= padding and len(linear) > 1
        ]
        self._fix(*((scope, atom) for atom in taps))
        longest = max((atom.extent for atom in taps), default=1)
        for atom, step in bands:
            kept, cut = max(_BAND, self.room, self._split(atom) + 1), 2 * (period // step)
            self.proportions.keep(((scope, atom), 0), kept, cut)
            padding = max(0, padding - 2 * step * ((atom.extent - kept) // cut * cut // 2))
            share = Fraction(bool(before), bool(before) + bool(after))
            share = 1 - share if index.coefficient(atom) < 0 else share
            self.shifts.setdefault((scope, index), []).append((atom, Fraction(index.coefficient(atom)), share))
        kept_whole = taps | {atom for atom, _ in bands}
        for atom, step in linear:
            if atom in beside and atom not in kept_whole:
                kept = max(self.room, period // step + 2, padding // step + 2, longest)
                self.proportions.keep(((scope, atom), 0), kept, period // step)
        return kept_whole

    def _relate_difference(
        self,
        scope: Scope,
        rising: list[tuple[Iterator, Fraction]],
        falling: list[tuple[Iterator, Fraction]],
        window: Node,
    ) -> None:
        """``y − S·h`` over a window: y and h become smaller so that the far corner stays where it is, the window stays."""
        proportions = self.proportions
        proportions.fix(window)
        main, unit = max(rising, key=lambda term: (term[0].extent > _TAPS, -term[1], term[0].extent))
        self._fix(*((scope, atom) for atom, _ in rising if atom is not main))
        proportions.keep(((scope, main), 0), self.room)
        for atom, step in falling:
            reach = int(proportions.lengths[window] // -step)
            if atom.extent > _FEW:
                proportions.keep(((scope, atom), 0), min(reach, 2 * self.room) + self.room)
                proportions.join(((scope, main), 0), ((scope, atom), 0), -step / unit)
            else:
                self._fix((scope, atom), (scope, main))

    def _relate_positions(self, scope: Scope) -> None:
        """Iterators whose values a body computes with (masks, say) become smaller together."""
        indices = [leaf.index for leaf in leaves(scope.body) if isinstance(leaf, IndexValue)]
        found = list(dict.fromkeys(atom for index in indices for atom in sorted(index.iterators(), key=str)))
        if not found:
            return
        numbers = [abs(index.constant) for index in indices] + _integers(scope.body)
        periods = [atom.divisor for index in indices for atom in _divisions(index)]
        first = self._whole((scope, found[0]))
        for iterator in found:
            node = self._whole((scope, iterator))
            if node is None or first is None:
                self._fix((scope, iterator))
                continue
            self.proportions.keep(node, max(self.room, *numbers, 0) + 2, lcm(*periods))
            if iterator.extent == found[0].extent:
                self.proportions.join(node, first)


def _slopes(index: Index) -> dict[Iterator, Fraction]:
    """By how much an index grows, over whole periods of its divisions, where an iterator grows by one."""
    slopes: dict[Iterator, Fraction] = {}
    for atom, coefficient in index.terms:
        match atom:
            case Iterator():
                found = {atom: Fraction(1)}
            case FloorDiv():
                found = {inner: slope / atom.divisor for inner, slope in _slopes(atom.index).items()}
            case Modulo():
                found = dict.fromkeys(atom.index.iterators(), Fraction(0))
        for inner, slope in found.items():
            slopes[inner] = slopes.get(inner, Fraction(0)) + slope * coefficient
    return slopes


def _beside_others(index: Index, extent: int) -> set[Iterator]:
    """Iterators that share a component of the index with others, or with a shift that may leave the axis.

    Digits of a number do not, nor where the number is shifted within its axis, as in a slice of values that stand side by side.
    """
    shifted = index.constant != 0 and (index.low < 0 or index.high >= extent)
    return {
        atom
        for terms in components(index)
        for atom, _ in terms
        if isinstance(atom, Iterator) and (len(terms) > 1 or shifted)
    }


def _divisions(index: Index) -> list[FloorDiv | Modulo]:
    found: list[FloorDiv | Modulo] = []
    for atom, _ in index.terms:
        if isinstance(atom, FloorDiv | Modulo):
            found += [atom, *_divisions(atom.index)]
    return found


def _integers(node: Scalar) -> list[int]:
    """The sizes of the integers in a body."""
    if isinstance(node, Constant):
        return [abs(int(node.value))] if node.dtype.is_integer else []
    return [number for child in children(node) for number in _integers(child)]


@dataclass(frozen=True, slots=True)
class _Smaller:
    """Builds the smaller expression from the new lengths of segments."""

    cuts: Cuts
    lengths: Mapping[Node, int]
    shifts: Shifts

    def of(self, root: Scope) -> Scope:
        """The root rebuilt; scopes and tensors that it shares stay shared."""
        sources: dict[Tensor | Scope, Tensor | Scope] = {}
        for scope in scopes(root):
            new = {
                iterator: Iterator(iterator.name, self._extent((scope, iterator)))
                for iterator in (*scope.traversal, *scope.reduction)
            }
            sources[scope] = Scope(
                [new[iterator] for iterator in scope.traversal],
                self._body(scope, new, sources),
                [new[iterator] for iterator in scope.reduction],
                scope.reducer,
            )
        result = sources[root]
        assert isinstance(result, Scope)
        return result

    def _extent(self, axis: Axis) -> int:
        return self._position(axis, self.cuts[axis][-1])

    def _position(self, axis: Axis, cut: int) -> int:
        """Where a cut is among the new lengths."""
        return sum(self.lengths[axis, start] for start in self.cuts[axis][:-1] if start < cut)

    def _body(
        self, scope: Scope, iterators: Mapping[Iterator, Iterator], sources: dict[Tensor | Scope, Tensor | Scope]
    ) -> Scalar:
        mapping = {old: Index.of(new) for old, new in iterators.items()}

        def leaf(node: Scalar) -> Scalar:
            match node:
                case Access():
                    old = node.source
                    if old not in sources and isinstance(old, Tensor):
                        shape = tuple(Extent(self._extent((old, axis))) for axis in range(len(old.shape)))
                        sources[old] = Tensor(old.name, TensorType(old.dtype, shape, old.type.layout))
                    indices = [
                        self._index(scope, index, axis_of(old, place), mapping)
                        for place, index in enumerate(node.indices)
                    ]
                    return Access(sources[old], indices, node.outside)
                case IndexValue():
                    return IndexValue(node.index.substitute(mapping), node.dtype)
                case _:
                    return node

        return map_scalar(scope.body, leaf)

    def _index(self, scope: Scope, index: Index, axis: Axis, mapping: Mapping[Iterator, Index]) -> Index:
        new = index.substitute(mapping)
        iterator = shift_of(index)
        if index.is_constant:
            return Index.of(self._position(axis, index.constant)) if index.constant in self.cuts[axis] else index
        if iterator is not None:
            first = max(0, -index.constant)
            if first + index.constant in self.cuts[axis] and first in self.cuts[scope, iterator]:
                shift = self._position(axis, first + index.constant) - self._position((scope, iterator), first)
                return new - index.constant + shift
            return new
        lost = (
            slope * share * (atom.extent - self._extent((scope, atom)))
            for atom, slope, share in self.shifts.get((scope, index), ())
        )
        return new + int(sum(lost, Fraction(0)))
