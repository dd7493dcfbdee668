"""Every candidate for random small operators computes what the operator does, by the interpreter in floats."""

from __future__ import annotations

import math
import os

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from passes.derive.candidate import SearchLimits, SearchReport
from passes.derive.search import derive
from tensoropt.ir.expression import Access, Apply, Constant, Scalar, Scope, Tensor, free_iterators, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tests.strategies.expressions import contractions, tensor
from tests.strategies.operators import convolution, transposed_convolution

CASES = int(os.environ.get("TENSOROPT_SEARCH_CASES", "20"))
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


@st.composite
def bands(draw: st.DrawFn) -> Scope:
    """Both band products, dilated or not, with any offset, also backwards and with a row that moves by more than one."""
    b, m, w, k = (Iterator(name, draw(st.integers(1, most))) for name, most in zip("bmwk", (2, 9, 5, 3), strict=True))
    dilation, offset = draw(st.sampled_from([1, 2, 3, -1, -2])), draw(st.integers(-3, 6))
    rows = draw(st.integers(1, 12))
    place = Index.of(m) * draw(st.sampled_from([1, 1, 1, 2])) + Index.of(w) * dilation - offset
    others = Access(tensor("B", b.extent, rows, k.extent), [b, place, k])
    if draw(st.booleans()):
        left = Access(tensor("A", b.extent, m.extent, k.extent), [b, m, k])
        return Scope((b, m, w), Apply("mul", left, others), (k,))
    left = Access(tensor("A", b.extent, m.extent, w.extent), [b, m, w])
    return Scope((b, m, k), Apply("mul", left, others), (w,))


@st.composite
def longer_products(draw: st.DrawFn) -> Scope:
    """Three or four factors over some of five iterators each, one of them perhaps a number, one index perhaps a window."""
    iterators = [Iterator(name, draw(st.integers(1, 4))) for name in "ijklm"]
    count = draw(st.integers(3, 4))
    body: Scalar | None = None
    for number in range(count):
        chosen = draw(st.lists(st.sampled_from(iterators), min_size=1, max_size=3, unique=True))
        indices = [Index.of(iterator) for iterator in chosen]
        if number == 0 and len(chosen) > 1 and draw(st.booleans()):
            indices[:2] = [indices[0] + indices[1] - draw(st.integers(0, 1))]
        shape = [max(1, index.high + draw(st.sampled_from([1, 1, 0]))) for index in indices]
        factor: Scalar = Access(tensor(f"T{number}", *shape), indices)
        if number == count - 1 and draw(st.booleans()):
            factor = Constant(2.0, factor.dtype)
        body = factor if body is None else Apply("mul", body, factor)
    assert body is not None
    reduced = draw(st.lists(st.sampled_from(iterators), min_size=1, max_size=3, unique=True))
    kept = [iterator for iterator in iterators if iterator not in reduced and iterator in free_iterators(body)]
    return Scope(kept, body, [iterator for iterator in reduced if iterator in free_iterators(body)])


@settings(
    max_examples=CASES,
    derandomize=CASES <= 20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(st.one_of(transposed(), direct(), contractions(), bands(), longer_products()))
def test_candidates_compute_what_the_operator_does(scope: Scope) -> None:
    assume(len({found.name for found in tensors(scope)}) >= 2)
    report = SearchReport()
    candidates = derive(Compute(Tensor("O", scope.type), scope), {"K", "T1"}, LIMITS, (), report)
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
