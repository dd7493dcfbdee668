"""Toom-Cook interpolation: the matrices by which a short correlation becomes products at points.

``y_j = Σ<k> d_(j+k)·g_k`` for j < m and k < r is ``y = Aᵀ·((G·g) ⊙ (Bᵀ·d))``, with m + r − 1 products instead of m·r: g and the
reversed sequence are polynomials, multiplied at points of which one is infinity, and transposed (A. L. Toom 1963, S. Winograd,
*Arithmetic Complexity of Computations*, 1980; for convolutions A. Lavin and S. Gray, *Fast Algorithms for Convolutional Neural
Networks*, CVPR 2016). All fractions stand in G, which is applied to weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import prod

Matrix = tuple[tuple[Fraction, ...], ...]


def _fractions(*points: str) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, points))


_POINTS = {
    1: _fractions("0"),
    2: _fractions("0", "1"),
    3: _fractions("0", "1", "-1"),
    4: _fractions("0", "1", "-1", "1/2"),
    5: _fractions("0", "3/4", "-3/4", "3/2", "-3/2"),
    6: _fractions("0", "1", "-1", "2", "-1/2", "1/2"),
    7: _fractions("0", "1", "-1", "2", "-2", "1/2", "-1/2"),
}
"""Finite points by their number. Rounding errors grow with the powers of points far from 1, so these are near it (B. Barabasz and
others, *Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks*, TOMS 2020: for five points a
third of the error of 0, ±1, ±2); halves and quarters are exact in every type, and symmetric ones share sums."""

MOST_PRODUCTS = max(_POINTS) + 1
"""The most products of one axis."""


@dataclass(frozen=True, slots=True)
class Interpolation:
    """``outputs`` is Aᵀ (m × n), ``weights`` G (n × r), ``inputs`` Bᵀ (n × n), for n = m + r − 1 products."""

    outputs: Matrix
    weights: Matrix
    inputs: Matrix


@cache
def interpolation(outputs: int, taps: int) -> Interpolation:
    """The matrices for m outputs at once of a correlation with r taps. ValueError where there are too few points."""
    products = outputs + taps - 1
    if outputs < 1 or taps < 1 or not 2 <= products <= MOST_PRODUCTS:
        raise ValueError(
            f"no interpolation of {outputs} outputs with {taps} taps: from 2 to {MOST_PRODUCTS} products are known"
        )
    points = _POINTS[products - 1]
    weights: list[tuple[Fraction, ...]] = []
    inputs: list[tuple[Fraction, ...]] = []
    for point in points:
        others = [other for other in points if other != point]
        scale = prod((point - other for other in others), start=Fraction(1))
        weights.append(tuple(point**power / scale for power in range(taps)))
        inputs.append(_filled(_monic(others), products))
    weights.append(tuple(Fraction(power == taps - 1) for power in range(taps)))
    inputs.append(_filled(_monic(list(points)), products))
    rows = [(*(point**power for point in points), Fraction(power == outputs - 1)) for power in range(outputs)]
    return Interpolation(tuple(rows), tuple(weights), tuple(inputs))


def _monic(roots: list[Fraction]) -> list[Fraction]:
    """The coefficients of ``Π (x − root)``, the constant one first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [high - root * low for high, low in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients


def _filled(coefficients: list[Fraction], length: int) -> tuple[Fraction, ...]:
    return tuple(coefficients + [Fraction(0)] * (length - len(coefficients)))
