"""Every form that the search finds for a pooling, compiled, computes what the interpreter says of the pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from codegen.kernel import CompiledKernel
from codegen.lower.kernel import lower
from codegen.targets.cpu import host_target
from passes.derive.candidate import SearchLimits
from passes.derive.reductions import derive_reduction
from tensoropt.ir.expression import Access, Reducer, Scope, Tensor, reducer_identity
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tests.strategies.expressions import F32, tensor

LIMITS = SearchLimits(candidates=5, dearer=math.inf)


def pooling(reducer: Reducer, size: int, taps: int, stride: int, padding: int) -> Compute:
    count = (size + 2 * padding - taps) // stride + 1
    extents = (3, count, count, taps, taps)
    c, y, x, r, s = (Iterator(name, extent) for name, extent in zip("cyxrs", extents, strict=True))
    row, column = Index.of(y) * stride + r - padding, Index.of(x) * stride + s - padding
    read = Access(tensor("A", 3, size, size), [c, row, column], reducer_identity(reducer, F32))
    scope = Scope((c, y, x), read, (r, s), reducer)
    return Compute(Tensor("O", scope.type), scope)


@pytest.mark.parametrize(
    ("reducer", "size", "taps", "stride", "padding"),
    [
        (Reducer.MAX, 19, 3, 1, 1),
        (Reducer.MAX, 18, 3, 2, 1),
        (Reducer.MIN, 17, 7, 1, 3),
        (Reducer.SUM, 18, 4, 2, 1),
        (Reducer.SUM, 9, 9, 1, 0),
        (Reducer.PROD, 12, 3, 3, 1),
    ],
)
def test_compiled_forms_of_poolings(reducer: Reducer, size: int, taps: int, stride: int, padding: int) -> None:
    compute = pooling(reducer, size, taps, stride, padding)
    values = {"A": np.random.default_rng(9).uniform(0.5, 1.5, (3, size, size)).astype(np.float32)}
    wanted = evaluate(compute.expression, values)
    target = host_target(1)
    found = derive_reduction(compute, (), LIMITS)
    for candidate in found:
        known: dict[str, Any] = dict(values)
        for part in candidate.statements:
            known |= CompiledKernel(lower(part.output, part.expression, target), target)(known)
        np.testing.assert_allclose(known["O"], wanted, rtol=2e-5, err_msg=candidate.label)
    assert found
