"""The library operators that expressions are matched against, in the order in which they are tried."""

from __future__ import annotations

from tensoropt.export.contraction import contraction
from tensoropt.export.convolution import convolution
from tensoropt.export.overlap import overlapping_sum
from tensoropt.export.piecewise import piecewise
from tensoropt.export.pooling import pooling
from tensoropt.export.transposed_convolution import transposed_convolution
from tensoropt.export.unrolling import unrolled

PATTERNS = (transposed_convolution, convolution, overlapping_sum, pooling, unrolled, contraction, piecewise)
