"""Lengths that become smaller together: classes of segments of axes, each smaller by its ratio to the others.

Where an iterator alone addresses an axis both become smaller by the same number; in ``2·h + r`` with a fixed window r the axis
becomes smaller by 2 where h does by 1. Joining such pairs gives classes with one free number each, chosen as large as what
every member has to keep allows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, lcm

from passes.derive.certify.segments import Axis

Node = tuple[Axis, int]
"""A segment of an axis, by where it begins."""


@dataclass(slots=True)
class Need:
    """What a length has to keep: at least so much, and its residue by a period. ``fixed`` lengths stay as they are."""

    least: int = 1
    period: int = 1
    fixed: bool = False
    entangled: bool = False


@dataclass(slots=True)
class Proportions:
    """The classes, what their members need, and axes that become smaller by a sum over several iterators."""

    lengths: dict[Node, int] = field(default_factory=dict)
    needs: dict[Node, Need] = field(default_factory=dict)
    _parents: dict[Node, tuple[Node, Fraction]] = field(default_factory=dict)
    _sums: dict[Node, list[list[tuple[Node, Fraction]]]] = field(default_factory=dict)

    def add(self, node: Node, length: int) -> Need:
        """The needs of a node, known from now on."""
        self.lengths.setdefault(node, length)
        return self.needs.setdefault(node, Need())

    def keep(self, node: Node, least: int, period: int = 1) -> None:
        """Raise what a node that stands beside others has to keep."""
        need = self.needs[node]
        need.least, need.period, need.entangled = max(need.least, least), lcm(need.period, period), True

    def fix(self, *nodes: Node) -> None:
        """These stay as they are."""
        for node in nodes:
            self.needs[node].fixed = self.needs[node].entangled = True

    def join(self, one: Node, other: Node, ratio: Fraction = Fraction(1)) -> None:
        """``one`` becomes smaller by ``ratio`` times what ``other`` does; classes that cannot agree stay as they are."""
        (top, above), (bottom, below) = self._find(one), self._find(other)
        if top == bottom:
            if above != ratio * below:
                self.fix(top)
        else:
            self._parents[top] = bottom, ratio * below / above

    def add_up(self, node: Node, terms: list[tuple[Node, Fraction]]) -> None:
        """The node becomes smaller by the sum of what the terms do, each times its ratio."""
        self._sums.setdefault(node, []).append(terms)

    def _find(self, node: Node) -> tuple[Node, Fraction]:
        ratio = Fraction(1)
        while node in self._parents:
            node, factor = self._parents[node]
            ratio *= factor
        return node, ratio

    def solved(self, plain: tuple[int, ...]) -> dict[Node, int]:
        """The new lengths. Classes without needs are cut to the sizes of ``plain``, taken in turn."""
        members: dict[Node, list[tuple[Node, Fraction]]] = {}
        for node in self.lengths:
            top, ratio = self._find(node)
            members.setdefault(top, []).append((node, ratio))
        sums: dict[Node, list[list[tuple[Node, Fraction]]]] = {}
        for node, found in self._sums.items():
            top, _ = self._find(node)
            if any(self.needs[member].entangled or ratio != 1 for member, ratio in members[top]):
                self.fix(node, *(term for terms in found for term, _ in terms))
            else:
                sums.setdefault(top, []).extend(found)
        surplus: dict[Node, int | Fraction] = {}
        for place, top in enumerate(found for found in members if found not in sums):
            surplus[top] = self._largest_surplus(members[top], plain[place % len(plain)])

        def of(node: Node, pending: frozenset[Node]) -> int | Fraction:
            top, ratio = self._find(node)
            if top not in surplus:
                if top in pending:
                    return 0  # an axis that depends on itself stays as it is
                total = min(
                    sum((of(term, pending | {top}) * factor for term, factor in terms), Fraction(0))
                    for terms in sums[top]
                )
                surplus[top] = min(int(total), max(0, self.lengths[top] - 1))
            return surplus[top] * ratio

        return {node: length - int(of(node, frozenset())) for node, length in self.lengths.items()}

    def _largest_surplus(self, members: list[tuple[Node, Fraction]], plain: int) -> int | Fraction:
        """How much smaller the head of a class can become."""
        if any(self.needs[node].fixed for node, _ in members):
            return 0
        free = not any(self.needs[node].entangled for node, _ in members)
        step = Fraction(1)
        bound: Fraction | None = None
        for node, ratio in members:
            need, length = self.needs[node], self.lengths[node]
            least = max(need.least, min(length, plain) if free else 1)
            room = Fraction(max(0, length - least)) / ratio
            bound = room if bound is None else min(bound, room)
            step = _common_multiple(step, Fraction(need.period) / ratio)
        assert bound is not None
        return bound // step * step


def _common_multiple(one: Fraction, other: Fraction) -> Fraction:
    """The least positive number that is a whole multiple of both."""
    return Fraction(lcm(one.numerator, other.numerator), gcd(one.denominator, other.denominator))
