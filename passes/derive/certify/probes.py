"""Points at the real sizes at which expressions are compared: every boundary and every residue class of each output axis.

A boundary of an axis is where some index leaves a box while the other iterators are anywhere in their ranges; nested scopes are
looked through. Residue classes are those of the strides and divisors that an axis meets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd, lcm
from typing import Any

import numpy as np

from passes.derive.components import components
from passes.derive.support import Bounds, box, interval
from tensoropt.ir.expression import Scope, accesses, scopes
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo

_MOST_CLASSES = 1024
"""Of an axis with more classes than this (products of unrelated divisors), so many are drawn at random."""
_DIGITS = 32
"""Of divisors up to this one all residue classes are met; a larger one within a nested scope takes fused axes apart, and what
counts is where the digits meet a boundary."""
_CLOSE = 24
"""Boundaries that lie closer together than this are all met, of others the first and the last ones."""
_BREAKS = 96
_SEED = 20


@dataclass(frozen=True, slots=True)
class Probe:
    """What is to be met of an axis: the positions where something begins or ends, and one stretch of this length."""

    breaks: frozenset[int] = frozenset()
    period: int = 1

    def joined(self, other: Probe) -> Probe:
        """Both."""
        return Probe(self.breaks | other.breaks, lcm(self.period, other.period))


def points_of(roots: Sequence[Scope]) -> list[Any]:
    """Points, one integer array per output axis, that serve all the expressions, which have the same shape.

    The classes of all axes are run through at the same time, in two pairings, so their number is that of the richest axis.
    """
    found = [probes(root) for root in roots]
    random = np.random.default_rng(_SEED)
    classes = []
    for extent, own in zip(map(int, roots[0].shape), zip(*found, strict=True), strict=True):
        probe = Probe()
        for each in own:
            probe = probe.joined(each)
        classes.append(_classes(extent, probe, random))
    count = max(map(len, classes), default=1)
    axes = []
    for chosen in classes:
        repeated = np.resize(np.asarray(chosen), count)
        axes.append(np.concatenate([repeated, random.permutation(repeated)]))
    return axes


def _classes(extent: int, probe: Probe, random: np.random.Generator) -> list[int]:
    chosen = {place for place in (0, 1, extent - 2, extent - 1) if 0 <= place < extent}
    chosen |= {place for place in probe.breaks if 0 <= place < extent}
    run = min(probe.period, extent)
    if run > _MOST_CLASSES:
        chosen |= set(random.integers(0, extent, _MOST_CLASSES).tolist())
    else:
        start = (extent - run) // 2
        chosen |= set(range(start, start + run))
    return sorted(chosen)


def probes(root: Scope) -> list[Probe]:
    """One for each axis of a scope."""
    known: dict[Scope, dict[Iterator, Probe]] = {}
    for scope in scopes(root):
        found = {iterator: Probe() for iterator in scope.traversal}
        ranges = box((*scope.traversal, *scope.reduction))
        for access in accesses(scope.body):
            for place, (index, extent) in enumerate(zip(access.indices, access.source.shape, strict=True)):
                inner = Probe()
                if isinstance(access.source, Scope):
                    inner = known[access.source][access.source.traversal[place]]
                target = Probe(inner.breaks | {0, int(extent)}, inner.period)
                for iterator in index.iterators() & found.keys():
                    pulled = _pulled_back(index, iterator, target, ranges, _MOST_CLASSES if scope is root else _DIGITS)
                    found[iterator] = found[iterator].joined(pulled)
        known[scope] = {
            iterator: Probe(frozenset(_thinned(probe.breaks, iterator.extent)), probe.period)
            for iterator, probe in found.items()
        }
    return [known[root][iterator] for iterator in root.traversal]


def _pulled_back(
    index: Index, iterator: Iterator, target: Probe, ranges: dict[Iterator, Bounds], classes: int
) -> Probe:
    """What an iterator has to meet so that an index meets what is asked of it; ``classes`` is the largest divisor of which all
    residues are met."""
    index = _without_wrapping(index, iterator)
    breaks: set[int] = set()
    period = 1
    step = index.coefficient(iterator)
    beside = {atom for terms in components(index) for atom, _ in terms if any(found is iterator for found, _ in terms)}
    for atom, coefficient in index.terms:
        if isinstance(atom, Iterator):
            if atom is iterator:
                period = lcm(period, target.period // gcd(target.period, step))
            elif atom in beside:
                period = lcm(period, abs(coefficient) // gcd(coefficient, step))
        elif iterator in atom.index.iterators():
            inner = _through_division(atom, coefficient, index, target, ranges, classes)
            pulled = _pulled_back(atom.index, iterator, inner, ranges, classes)
            breaks |= pulled.breaks
            period = lcm(period, pulled.period)
    if step:
        low, high = interval(index - Index.of(iterator) * step, ranges)
        for place in target.breaks:
            ends = sorted(((place - low) // step, (place - high) // step))
            breaks.update(_stretch(ends[0], ends[1] + 1))
    return Probe(frozenset(breaks), period)


def _without_wrapping(index: Index, iterator: Iterator) -> Index:
    """The index with a modulo dropped within which the iterator stays below the divisor: the iterator is a digit of it."""
    for atom, coefficient in index.terms:
        if isinstance(atom, Modulo):
            step, shift = atom.index.coefficient(iterator), atom.index.constant % atom.divisor
            others = [factor for found, factor in atom.index.terms if found is not iterator]
            digit = step > 0 and shift + step * (iterator.extent - 1) < atom.divisor
            if digit and all(factor % atom.divisor == 0 for factor in others):
                return (
                    index - Index._intern(((atom, coefficient),), 0) + (Index.of(iterator) * step + shift) * coefficient
                )
    return index


def _through_division(
    atom: FloorDiv | Modulo,
    coefficient: int,
    index: Index,
    target: Probe,
    ranges: dict[Iterator, Bounds],
    classes: int,
) -> Probe:
    """What the operand of a division has to meet."""
    low, high = interval(index - Index._intern(((atom, coefficient),), 0), ranges)
    ends = [sorted(((found - low) // coefficient, (found - high) // coefficient)) for found in target.breaks]
    met = {place for first, last in ends for place in _stretch(first, last)}
    factor = target.period // gcd(target.period, coefficient)
    first, last = interval(atom.index, ranges)
    rounds = _stretch(first // atom.divisor, last // atom.divisor)
    if isinstance(atom, FloorDiv):
        near = frozenset((quotient + more) * atom.divisor for quotient in met for more in (0, 1))
        if atom.divisor * factor <= classes:
            return Probe(near, atom.divisor * factor)
        return Probe(near | {turn * atom.divisor for turn in rounds})
    if atom.divisor <= classes:
        return Probe(frozenset(), atom.divisor)
    digits = {0, *(place for place in met if 0 <= place < atom.divisor)}
    return Probe(
        frozenset(turn * atom.divisor + digit for turn in rounds for digit in digits), gcd(factor, atom.divisor)
    )


def _stretch(first: int, last: int) -> Iterable[int]:
    """All places of a short stretch, both ends of a long one."""
    if last - first <= _CLOSE:
        return range(first, last + 1)
    return (*range(first - 1, first + 3), (first + last) // 2, *range(last - 2, last + 2))


def _thinned(breaks: Iterable[int], extent: int) -> list[int]:
    """The breaks within the box and the places before them; where there are very many, an even choice of them."""
    found = sorted({place for cut in breaks for place in (cut - 1, cut) if 0 <= place < extent})
    if len(found) <= _BREAKS:
        return found
    return [found[place * (len(found) - 1) // (_BREAKS - 1)] for place in range(_BREAKS)]
