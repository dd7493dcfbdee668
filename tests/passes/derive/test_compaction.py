"""Transposed convolutions as written become sums over their few taps."""

from __future__ import annotations

import numpy as np
import pytest

from passes.derive.compaction import shortened
from tensoropt.ir.expression import Tensor, tensors
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tests.strategies.operators import convolution, transposed_convolution


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "extra"), [(4, 2, 1, 0), (9, 4, 3, 1), (3, 2, 1, 1), (4, 1, 0, 0)]
)
def test_transposed_convolutions_sum_over_their_taps(kernel: int, stride: int, padding: int, extra: int) -> None:
    scope = transposed_convolution(2, 3, 12, 2, kernel, stride, padding, extra)
    short = shortened(Compute(Tensor("O", scope.type), scope, ("node",)))
    assert isinstance(short, Compute)
    taps = -(-kernel // stride)
    assert [iterator.extent for iterator in short.expression.reduction] == [3, taps, taps]
    assert short.origin == ("node",)
    random = np.random.default_rng(0)
    values = {found.name: random.integers(-4, 5, found.shape).astype(np.float32) for found in tensors(scope)}
    assert np.array_equal(evaluate(short.expression, values), evaluate(scope, values))


def test_other_statements_stay_the_same_object() -> None:
    scope = convolution(1, 3, 8, 4, (3, 3))
    statement = Compute(Tensor("O", scope.type), scope)
    assert shortened(statement) is statement
