"""Where a body can differ from the background: the proofs behind the side conditions of the rules.

A factor that reads outside its box with the value 0 makes a product 0, so a body is not 0 only where all indices of such
factors stay inside. Each is a condition ``low ≤ index ≤ high``; interval propagation over them bounds every iterator (its
support).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tensoropt.ir.expression import (
    Access,
    Apply,
    Cast,
    Constant,
    Scalar,
    Scope,
    reducer_identity,
)
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo
from tensoropt.ir.structure import product_factors

Bounds = tuple[int, int]
"""Inclusive bounds; empty where the first exceeds the second."""

Ranges = Mapping[Iterator, Bounds]


@dataclass(frozen=True, slots=True)
class Condition:
    """The body differs from the background only where ``low ≤ index ≤ high``."""

    index: Index
    low: int
    high: int


def background(scope: Scope) -> Constant:
    """The value that a scope can have outside the support of its body: what a reduction over nothing gives."""
    if scope.reducer is not None:
        return Constant(reducer_identity(scope.reducer, scope.dtype), scope.dtype)
    return scope.body.outside if isinstance(scope.body, Access) else Constant(0, scope.dtype)


def conditions_of(body: Scalar, value: Constant) -> list[Condition]:
    """Conditions whose violation makes the body this value."""
    if value.value == 0:
        found = [peeled for factor in product_factors(body) if (peeled := _zero_source(factor)) is not None]
    else:
        found = [body] if isinstance(body, Access) and body.outside is value else []
    return [
        _without_division(Condition(index, 0, int(extent) - 1))
        for access in found
        for index, extent in zip(access.indices, access.source.shape, strict=True)
        if not index.is_constant
    ]


def _zero_source(factor: Scalar) -> Access | None:
    """The access whose reading outside makes the factor 0."""
    while isinstance(factor, Cast) or (isinstance(factor, Apply) and factor.operation in ("neg", "relu", "abs")):
        factor = factor.argument if isinstance(factor, Cast) else factor.arguments[0]
    return factor if isinstance(factor, Access) and factor.outside.value == 0 else None


def _without_division(condition: Condition) -> Condition:
    """``low ≤ E//k + c ≤ high`` as a condition on E."""
    index, low, high = condition.index, condition.low, condition.high
    while len(index.terms) == 1:
        atom, coefficient = index.terms[0]
        if not isinstance(atom, FloorDiv) or abs(coefficient) != 1:
            break
        low, high = low - index.constant, high - index.constant
        if coefficient < 0:
            low, high = -high, -low
        index, low, high = atom.index, low * atom.divisor, high * atom.divisor + atom.divisor - 1
    return Condition(index, low, high)


def box(iterators: tuple[Iterator, ...]) -> dict[Iterator, Bounds]:
    """The range of each iterator."""
    return {iterator: (0, iterator.extent - 1) for iterator in iterators}


def interval(index: Index, ranges: Ranges) -> Bounds:
    """The bounds of an index where iterators have the given ranges."""
    low = high = index.constant
    for atom, coefficient in index.terms:
        match atom:
            case Iterator():
                first, last = ranges[atom]
            case FloorDiv():
                inner = interval(atom.index, ranges)
                first, last = inner[0] // atom.divisor, inner[1] // atom.divisor
            case Modulo():
                inner = interval(atom.index, ranges)
                quotient = inner[0] // atom.divisor
                if quotient == inner[1] // atom.divisor:
                    first, last = inner[0] - quotient * atom.divisor, inner[1] - quotient * atom.divisor
                else:
                    first, last = 0, atom.divisor - 1
        low += coefficient * (first if coefficient > 0 else last)
        high += coefficient * (last if coefficient > 0 else first)
    return low, high


def support(conditions: list[Condition], iterator: Iterator, ranges: Ranges) -> tuple[int | None, int | None]:
    """Bounds outside which no condition set can hold, whatever the others are in their ranges; None where there is none."""
    low: int | None = None
    high: int | None = None
    for condition in conditions:
        coefficient = condition.index.coefficient(iterator)
        if coefficient == 0:
            continue
        if any(
            not isinstance(atom, Iterator) and iterator in atom.index.iterators() for atom, _ in condition.index.terms
        ):
            continue
        own_low, own_high = ranges[iterator]
        if coefficient < 0:
            own_low, own_high = own_high, own_low
        rest_low, rest_high = interval(condition.index, ranges)
        rest_low, rest_high = rest_low - coefficient * own_low, rest_high - coefficient * own_high
        first, last = condition.low - rest_high, condition.high - rest_low
        if coefficient < 0:
            first, last, coefficient = -last, -first, -coefficient
        first, last = -(-first // coefficient), last // coefficient
        low = first if low is None else max(low, first)
        high = last if high is None else min(high, last)
    return low, high


def tightened(conditions: list[Condition], ranges: Ranges) -> dict[Iterator, Bounds]:
    """The ranges cut to the supports, to a fixpoint (or nearly: rounds are bounded, and every round is sound)."""
    current = dict(ranges)
    for _ in range(8):
        changed = False
        for iterator, (first, last) in current.items():
            low, high = support(conditions, iterator, current)
            bounds = max(first, low) if low is not None else first, min(last, high) if high is not None else last
            if bounds != (first, last):
                current[iterator], changed = bounds, True
                if bounds[0] > bounds[1]:
                    return current
        if not changed:
            break
    return current


def escaping(conditions: list[Condition], boxes: Ranges, extended: Ranges) -> Iterator | None:
    """An iterator that may leave its box while the conditions hold, where each runs over its extended range; None if proved.

    Iterators already shown to stay inside count with their box when the others are shown.
    """
    current = dict(extended)
    waiting = [iterator for iterator in extended if not _within(extended[iterator], boxes[iterator])]
    while waiting:
        proved = [iterator for iterator in waiting if _stays(conditions, iterator, boxes[iterator], current)]
        if not proved:
            return waiting[0]
        for iterator in proved:
            current[iterator] = boxes[iterator]
            waiting.remove(iterator)
    return None


def _stays(conditions: list[Condition], iterator: Iterator, bounds: Bounds, ranges: Ranges) -> bool:
    low, high = support(conditions, iterator, ranges)
    above = ranges[iterator][0] >= bounds[0] or (low is not None and low >= bounds[0])
    below = ranges[iterator][1] <= bounds[1] or (high is not None and high <= bounds[1])
    return above and below


def _within(inner: Bounds, outer: Bounds) -> bool:
    return inner[0] >= outer[0] and inner[1] <= outer[1]
