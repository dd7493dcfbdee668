"""Components of indices: terms by rising coefficient, cut wherever the terms so far are digits below what follows."""

from __future__ import annotations

from math import gcd

from tensoropt.ir.index import Atom, Index, atom_bounds

Terms = tuple[tuple[Atom, int], ...]


def components(index: Index) -> list[Terms]:
    """The digit groups of an index, finest first."""
    terms = sorted(index.terms, key=lambda term: abs(term[1]))
    groups: list[Terms] = []
    current: list[tuple[Atom, int]] = []
    span = 0
    for place, (atom, coefficient) in enumerate(terms):
        low, high = atom_bounds(atom)
        current.append((atom, coefficient))
        span += abs(coefficient) * (high - low)
        rest = gcd(*(other for _, other in terms[place + 1 :])) if place + 1 < len(terms) else 0
        if rest == 0 or span < rest:
            groups.append(tuple(current))
            current, span = [], 0
    return groups
