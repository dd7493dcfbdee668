"""Candidates compiled: the statements of bands, depthwise and cut kernels, fused as they would be, give the operator's values."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest

from codegen.kernel import compile_kernel
from codegen.targets.cpu import host_target
from passes.alternatives import alternative
from passes.derive.candidate import SearchLimits
from passes.derive.search import derive
from tensoropt.ir.expression import Scope, Tensor, tensors
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.parser import parse_scope
from tensoropt.ir.program import Compute
from tests.strategies.expressions import tensor
from tests.strategies.networks import context
from tests.strategies.operators import convolution

TARGET = host_target(2)
ROWS, DEPTH, WIDTH = 18, 5, 7


def expression(text: str, **shapes: tuple[int, ...]) -> Scope:
    return parse_scope(text, {name: tensor(name, *shape) for name, shape in shapes.items()})


CASES = {
    "band_matmul": expression(
        f"L<b:2, m:{ROWS}, w:{WIDTH}> sum<k:{DEPTH}> %A[b, m, k] * %B[b, m + 2*w - 6, k]",
        A=(2, ROWS, DEPTH),
        B=(2, ROWS, DEPTH),
    ),
    "matmul_band": expression(
        f"L<b:2, m:{ROWS}, n:{DEPTH}> sum<w:{WIDTH}> %A[b, m, w] * %B[b, m + 2*w - 6, n]",
        A=(2, ROWS, WIDTH),
        B=(2, ROWS, DEPTH),
    ),
    "depthwise_convolution": expression(
        "L<n:2, g:4, y:17> sum<r:3> %A[n, g, y + 2*r - 2] * %K[g, r]", A=(2, 4, 17), K=(4, 3)
    ),
    "convolution": convolution(1, 3, 9, 2, (5, 5)),
    "matmul": expression(
        "L<m:6, n:17> sum<k:8, j:3> %A[m, k] * %K[k, j] * %C[j, n] * %g[n]", A=(6, 8), K=(8, 3), C=(3, 17), g=(17,)
    ),
}


@pytest.mark.parametrize("operator", CASES)
def test_candidates_compile_and_run(operator: str) -> None:
    scope = CASES[operator]
    compute = Compute(Tensor("O", scope.type), scope)
    random = np.random.default_rng(5)
    given = {read.name: random.integers(-4, 5, read.shape).astype(np.float32) for read in tensors(scope)}
    wanted = evaluate(scope, given)
    limits = SearchLimits(candidates=40, dearer=math.inf)
    found = derive(compute, {"K"}, limits)
    chosen = [candidate for candidate in found if any(match.operator == operator for match in candidate.matched)]
    assert chosen
    for candidate in islice(chosen, 3):
        kernels = alternative(
            candidate.statements, (compute.output,), frozenset({"K"}), candidate.label, context()
        ).kernels
        values = dict(given)
        for kernel in kernels:
            assert isinstance(kernel, Compute)
            values |= compile_kernel(kernel, TARGET)(values)
        assert np.array_equal(values["O"], wanted), candidate.label
