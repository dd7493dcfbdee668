"""Every candidate for random small operators computes what the operator does, by the interpreter in floats."""

from __future__ import annotations

import math
import os

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from passes.derive.candidate import SearchLimits, SearchReport
from passes.derive.search import derive
from tensoropt.ir.expression import Scope, Tensor, tensors
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tests.strategies.expressions import contractions
from tests.strategies.operators import convolution, transposed_convolution

CASES = int(os.environ.get("TENSOROPT_SEARCH_CASES", "12"))
LIMITS = SearchLimits(states=60, candidates=8, dearer=math.inf)


@st.composite
def transposed(draw: st.DrawFn) -> Scope:
    kernel, stride = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    padding, extra = draw(st.integers(0, max(0, kernel - 1))), draw(st.integers(0, stride - 1))
    height = draw(st.integers(2, 6))
    assume((height - 1) * stride - 2 * padding + kernel + extra > 0)
    return transposed_convolution(
        draw(st.integers(1, 2)),
        draw(st.integers(1, 4)),
        height,
        draw(st.integers(1, 4)),
        kernel,
        stride,
        padding,
        extra,
    )


@st.composite
def direct(draw: st.DrawFn) -> Scope:
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stride, dilation, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))
    height = draw(st.integers(4, 9))
    pads = draw(st.tuples(*(st.integers(0, 2) for _ in range(4))))
    assume(all(height + pads[axis] + pads[axis + 2] - dilation * (kernel[axis] - 1) > 0 for axis in (0, 1)))
    channels, filters = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    return convolution(draw(st.integers(1, 2)), channels, height, filters, kernel, stride, dilation, groups, pads)


@settings(
    max_examples=CASES,
    deadline=None,
    derandomize=CASES <= 12,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(st.one_of(transposed(), direct(), contractions()))
def test_candidates_compute_what_the_operator_does(scope: Scope) -> None:
    assume(len({found.name for found in tensors(scope)}) == 2)
    report = SearchReport()
    candidates = derive(Compute(Tensor("O", scope.type), scope), {"K"}, LIMITS, (), report)
    wrong = [reason for reason in report.rejected if "differs" in reason]
    assert not wrong, "a rule was wrong and only the certificate caught it"
    random = np.random.default_rng(3)
    inputs = {found.name: random.integers(-4, 5, found.shape).astype(np.float32) for found in tensors(scope)}
    expected = evaluate(scope, inputs)
    for candidate in candidates:
        values = dict(inputs)
        for statement in candidate.statements:
            values[statement.output.name] = evaluate(statement.expression, values)
        assert np.array_equal(values["O"], expected), candidate.label
