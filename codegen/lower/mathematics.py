"""Elementary functions of f32 as plain arithmetic, so that they vectorise; errors are a few units in the last place.

Polynomials from Cephes (S. Moshier; exp and log), rationals for tanh and erf as in Eigen. Special values follow C:
``exp(-inf) = 0``, ``log(0) = -inf``, ``log(x < 0) = NaN``, and NaN goes through everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from codegen.lower.tir import Expression, number, reinterpret, typed

Bind = Callable[[Expression], Expression]


class Arithmetic:
    """Literals and bit casts of f32 values with a number of lanes; ``bind`` names an intermediate value."""

    def __init__(self, lanes: int, bind: Bind) -> None:
        self.lanes, self.bind = lanes, bind

    def real(self, value: float) -> Expression:
        """An f32 literal."""
        return number(value, "float32", self.lanes)

    def whole(self, value: int) -> Expression:
        """An i32 literal."""
        return number(value, "int32", self.lanes)

    def bits(self, value: Expression) -> Expression:
        """The bits of an f32."""
        return reinterpret(typed("int32", self.lanes), value)

    def from_bits(self, value: Expression) -> Expression:
        """The f32 with these bits."""
        return reinterpret(typed("float32", self.lanes), value)

    def polynomial(self, value: Expression, coefficients: Sequence[float]) -> Expression:
        """Horner's scheme, highest power first."""
        result = self.real(coefficients[0])
        for coefficient in coefficients[1:]:
            result = result * value + self.real(coefficient)
        return self.bind(result)

    def clamp(self, value: Expression, low: float, high: float) -> Expression:
        """The value within bounds; NaN stays."""
        capped = self.bind(tirx.Select(value > self.real(high), self.real(high), value))
        return self.bind(tirx.Select(capped < self.real(low), self.real(low), capped))


def exp(value: Expression, lanes: int, bind: Bind) -> Expression:
    """``2^n · e^r`` with ``|r| ≤ ln(2)/2``; the power of two is applied in two halves, for results that are subnormal."""
    f = Arithmetic(lanes, bind)
    x = f.clamp(value, -104.0, 89.0)
    n = bind(tirx.floor(x * f.real(1.44269504088896341) + f.real(0.5)))
    r = bind(x - n * f.real(0.693359375))
    r = bind(r - n * f.real(-2.12194440e-4))
    coefficients = [
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ]
    y = bind(f.polynomial(r, coefficients) * (r * r) + (r + f.real(1.0)))
    power = bind(tirx.Cast(typed("int32", lanes), n))
    half = bind(tirx.shift_right(power, f.whole(1)))
    scale = f.from_bits(tirx.shift_left(half + f.whole(127), f.whole(23)))
    rest = f.from_bits(tirx.shift_left(power - half + f.whole(127), f.whole(23)))
    return bind(y * scale * rest)


def log(value: Expression, lanes: int, bind: Bind) -> Expression:
    """``e·ln(2) + ln(m)`` with the mantissa m between √½ and √2."""
    f = Arithmetic(lanes, bind)
    tiny = bind(value < f.real(1.17549435e-38))
    scaled = bind(tirx.Select(tiny, value * f.real(8388608.0), value))
    bits = bind(f.bits(scaled))
    exponent = tirx.Cast(typed("float32", lanes), tirx.shift_right(bits, f.whole(23)) - f.whole(126))
    exponent = bind(exponent - tirx.Select(tiny, f.real(23.0), f.real(0.0)))
    mantissa = bind(f.from_bits(tirx.bitwise_or(tirx.bitwise_and(bits, f.whole(0x007FFFFF)), f.whole(0x3F000000))))
    small = bind(mantissa < f.real(0.707106781186547524))
    exponent = bind(tirx.Select(small, exponent - f.real(1.0), exponent))
    m = bind(tirx.Select(small, mantissa + mantissa, mantissa) - f.real(1.0))
    coefficients = [
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    ]  # fmt: skip
    square = bind(m * m)
    y = bind(f.polynomial(m, coefficients) * m * square)
    y = bind(y + exponent * f.real(-2.12194440e-4) - square * f.real(0.5))
    result = bind(m + y + exponent * f.real(0.693359375))
    infinite = f.real(float("inf"))
    result = bind(tirx.Select(value >= infinite, infinite, result))
    result = bind(tirx.Select(tirx.EQ(value, f.real(0.0)), f.real(float("-inf")), result))
    return bind(tirx.Select(value >= f.real(0.0), result, f.real(float("nan"))))


def tanh(value: Expression, lanes: int, bind: Bind) -> Expression:
    """An odd rational of degrees 13 and 6 on ±7.9; below 0.0004 the value itself."""
    f = Arithmetic(lanes, bind)
    x = f.clamp(value, -7.90531110763549805, 7.90531110763549805)
    square = bind(x * x)
    above = [
        -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
        1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03,
    ]  # fmt: skip
    below = [1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03]
    ratio = bind(x * f.polynomial(square, above) / f.polynomial(square, below))
    return bind(tirx.Select(square < f.real(1.6e-7), value, ratio))


def erf(value: Expression, lanes: int, bind: Bind) -> Expression:
    """An odd rational of degrees 13 and 8 on ±4, where erf is 1 to f32's precision."""
    f = Arithmetic(lanes, bind)
    x = f.clamp(value, -4.0, 4.0)
    square = bind(x * x)
    above = [
        -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
        -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
    ]  # fmt: skip
    below = [
        -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02,
    ]  # fmt: skip
    return bind(x * f.polynomial(square, above) / f.polynomial(square, below))


def sigmoid(value: Expression, lanes: int, bind: Bind) -> Expression:
    """``1/(1+e⁻ˣ)`` through ``e^-|x|``, which cannot overflow."""
    f = Arithmetic(lanes, bind)
    negative = bind(value < f.real(0.0))
    small = exp(bind(tirx.Select(negative, value, f.real(0.0) - value)), lanes, bind)
    return bind(tirx.Select(negative, small, f.real(1.0)) / (f.real(1.0) + small))


F32_FUNCTIONS: dict[str, Callable[[Any, int, Bind], Any]] = {
    "exp": exp,
    "log": log,
    "tanh": tanh,
    "erf": erf,
    "sigmoid": sigmoid,
}
