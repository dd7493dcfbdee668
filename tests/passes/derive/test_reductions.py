"""What the search finds for folds that are no contraction, from the operators as the importer writes them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from passes.derive.candidate import Candidate, SearchLimits, SearchReport
from passes.derive.certify.certificate import substituted
from passes.derive.cost import estimated_seconds
from passes.derive.reductions import derive_reduction, is_plain_reduction
from passes.derive.rules import RULES_BY_NAME
from tensoropt.frontend import load_program
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Access, Apply, Reducer, Scope, Tensor, reducer_identity, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.expressions import tensor

EVERYTHING = SearchLimits(states=150, candidates=200, dearer=math.inf)


def node_model(operator: str, shape: tuple[int, ...], **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(operator, ["A"], ["O"], **attributes)
    inputs = [helper.make_tensor_value_info("A", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("O", TensorProto.FLOAT, None)]
    graph = helper.make_graph([node], "one", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def fold_of(program: Program) -> Compute:
    """The one statement that folds."""
    (found,) = [
        statement
        for statement in program.statements
        if isinstance(statement, Compute) and is_plain_reduction(statement.expression)
    ]
    return found


def result_with(program: Program, candidate: Candidate, values: dict[str, np.ndarray]) -> np.ndarray:
    """The output where the candidate takes the place of the fold, by the interpreter."""
    fold = fold_of(program)
    known: dict[str, Any] = {**program.constants, **values}
    for statement in program.statements:
        assert isinstance(statement, Compute)
        for part in candidate.statements if statement is fold else (statement,):
            known[part.output.name] = evaluate(part.expression, known)
    return np.asarray(known[program.outputs[0].name])


def levels(candidate: Candidate) -> int:
    return len(candidate.statements)


CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "overlapping maxima": ("MaxPool", (1, 2, 7, 8), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "strided maxima": ("MaxPool", (1, 2, 9, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]}),
    "dilated maxima": ("MaxPool", (1, 1, 9, 9), {"kernel_shape": [3, 3], "dilations": [2, 2]}),
    "long maxima": ("MaxPool", (1, 2, 9, 9), {"kernel_shape": [7, 6], "pads": [3, 3, 3, 2]}),
    "maxima in space": ("MaxPool", (1, 1, 5, 6, 5), {"kernel_shape": [3, 2, 3], "strides": [1, 1, 2]}),
    "overlapping means": ("AveragePool", (1, 2, 7, 8), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "padded means": (
        "AveragePool",
        (2, 2, 7, 7),
        {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2], "count_include_pad": 1},
    ),
    "means of patches": ("AveragePool", (1, 3, 8, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "means beyond the plane": ("AveragePool", (1, 3, 6, 6), {"kernel_shape": [7, 7], "pads": [0, 0, 1, 1]}),
    "means of planes": ("GlobalAveragePool", (2, 5, 4, 4), {}),
    "norms": ("LpPool", (1, 2, 7, 7), {"kernel_shape": [3, 3], "p": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_candidate_computes_what_the_operator_does(name: str) -> None:
    operator, shape, attributes = CASES[name]
    model = node_model(operator, shape, **attributes)
    program = load_program(model).program
    report = SearchReport()
    candidates = derive_reduction(fold_of(program), program.constants, EVERYTHING, (), report)
    assert candidates
    assert not report.rejected
    values = {"A": np.random.default_rng(2).standard_normal(shape).astype(np.float32) - 1}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, values)
    for candidate in candidates[:40]:
        np.testing.assert_allclose(result_with(program, candidate, values), wanted, rtol=1e-5, atol=1e-6)
        assert canonical_key(substituted(candidate.statements)) == canonical_key(
            candidate.derivation.result(RULES_BY_NAME)
        )
        json.dumps(candidate.as_json())


def pool(
    size: int, taps: int, stride: int, padding: int, reducer: Reducer = Reducer.MAX, channels: int = 64
) -> Compute:
    """A square pooling of one image, as imported."""
    outside = {Reducer.MAX: -math.inf, Reducer.MIN: math.inf, Reducer.PROD: 1.0, Reducer.SUM: 0.0}[reducer]
    count = (size + 2 * padding - taps) // stride + 1
    extents = (1, channels, count, count, taps, taps)
    n, c, y, x, r, s = (Iterator(name, extent) for name, extent in zip("ncyxrs", extents, strict=True))
    row, column = Index.of(y) * stride + r - padding, Index.of(x) * stride + s - padding
    scope = Scope(
        (n, c, y, x), Access(tensor("A", 1, channels, size, size), [n, c, row, column], outside), (r, s), reducer
    )
    return Compute(Tensor("O", scope.type), scope, ("pool",))


def found_for(compute: Compute) -> tuple[list[Candidate], SearchReport]:
    report = SearchReport()
    return derive_reduction(compute, (), SearchLimits(), (), report), report


@pytest.mark.parametrize("reducer", list(Reducer))
def test_overlapping_windows_are_folded_by_rows_then_columns(reducer: Reducer) -> None:
    candidates, _ = found_for(pool(27, 3, 1, 1, reducer))
    best = candidates[0]
    assert levels(best) == 2
    assert [len(statement.expression.reduction) for statement in best.statements] == [1, 1]
    assert best.statements[0].expression.reducer is reducer


def test_long_maxima_are_folded_from_shorter_ones() -> None:
    """Thirteen taps in each direction, from two, two and four."""
    best = found_for(pool(26, 13, 1, 6))[0][0]
    taps = sum(iterator.extent for statement in best.statements for iterator in statement.expression.reduction)
    assert taps == 2 * (2 + 2 + 4)


def test_small_or_strided_windows_gain_nothing() -> None:
    """Two by two at stride two do not overlap; three by three at stride two hardly do."""
    patches, report = found_for(pool(56, 2, 2, 0))
    assert all(levels(candidate) == 2 for candidate in patches)
    assert any("view_residues" in step for candidate in patches for step in map(str, candidate.derivation.steps))
    hardly, _ = found_for(pool(112, 3, 2, 1))
    assert hardly[0].estimated_seconds > estimated_seconds((pool(112, 3, 2, 1),), ())
    assert report.visited < 10


def test_sums_become_convolutions_and_products() -> None:
    sliding, _ = found_for(pool(14, 3, 1, 1, Reducer.SUM))
    whole, _ = found_for(pool(7, 7, 1, 0, Reducer.SUM))
    every = derive_reduction(pool(14, 3, 1, 1, Reducer.SUM), (), EVERYTHING)
    assert any(match.operator == "convolution" for found in (*sliding, *every) for match in found.matched)
    assert any(match.operator == "matmul" for found in whole for match in found.matched)
    assert not any(found.matched for found in found_for(pool(14, 3, 1, 1, Reducer.MAX))[0])


def test_what_is_folded_beyond_the_plane_is_cut() -> None:
    compute = pool(6, 7, 1, 0, Reducer.SUM)
    scope = compute.expression
    assert scope.shape[2] == 0, "the window does not fit, so nothing is folded"
    assert found_for(compute)[0] == []


@pytest.mark.parametrize("reducer", [Reducer.MAX, Reducer.SUM])
@pytest.mark.parametrize(
    "rule", ["stage", "collapse_traversal", "merge", "tighten", "drop_units", "unit_factor", "match_convolution"]
)
def test_excluded_rules_are_not_used(rule: str, reducer: Reducer) -> None:
    report = SearchReport()
    found = derive_reduction(pool(27, 3, 2, 1, reducer), (), EVERYTHING, {rule}, report)
    assert found
    assert all(step.rule != rule for candidate in found for step in candidate.derivation.steps)
    assert rule not in report.rules


def test_contractions_and_nested_folds_are_left_to_others() -> None:
    x, r = Iterator("x", 4), Iterator("r", 3)
    product = Scope((x,), Apply("mul", Access(tensor("A", 4, 3), [x, r]), Access(tensor("B", 3), [r])), (r,))
    nested = Scope((x,), Access(product, [x]))
    for scope in (product, nested, Scope((x,), Access(tensor("A", 4), [x]))):
        assert not is_plain_reduction(scope)
        assert derive_reduction(Compute(Tensor("O", scope.type), scope)) == []


def test_rows_and_wide_steps_are_left_alone() -> None:
    """Softmax's sum, and the sum of each 64 elements."""
    x, r = Iterator("x", 8), Iterator("r", 64)
    rows = Scope((x,), Apply("exp", Access(tensor("A", 8, 64), [x, r])), (r,))
    pieces = Scope((x,), Access(tensor("A", 512), [Index.of(x) * 64 + r]), (r,))
    assert not is_plain_reduction(rows)
    assert not is_plain_reduction(pieces)


@pytest.mark.parametrize("dtype", [DataType.INT8, DataType.UINT8, DataType.INT32, DataType.FLOAT16, DataType.FLOAT64])
def test_other_element_types(dtype: DataType) -> None:
    type = TensorType(dtype, (Extent(1), Extent(2), Extent(6), Extent(7)))
    y, x, r, s = Iterator("y", 6), Iterator("x", 7), Iterator("r", 3), Iterator("s", 3)
    read = Access(
        Tensor("A", type), [0, 1, Index.of(y) + r - 1, Index.of(x) + s - 1], reducer_identity(Reducer.MAX, dtype)
    )
    scope = Scope((y, x), read, (r, s), Reducer.MAX)
    values = {"A": np.random.default_rng(8).integers(0, 100, (1, 2, 6, 7)).astype(dtype.numpy)}
    candidates = derive_reduction(Compute(Tensor("O", scope.type), scope), (), EVERYTHING)
    assert candidates
    for candidate in candidates:
        known: dict[str, Any] = dict(values)
        for part in candidate.statements:
            known[part.output.name] = evaluate(part.expression, known)
        np.testing.assert_array_equal(known["O"], evaluate(scope, values))


def test_sums_of_half_types_stay_in_one_kernel() -> None:
    x, r = Iterator("x", 6), Iterator("r", 3)
    for reducer, plain in ((Reducer.SUM, False), (Reducer.PROD, False), (Reducer.MAX, True)):
        source = Tensor("A", TensorType(DataType.FLOAT16, (Extent(8),)))
        scope = Scope((x,), Access(source, [Index.of(x) + r]), (r,), reducer)
        assert is_plain_reduction(scope) == plain


def test_work_is_limited_and_what_is_left_out_is_told() -> None:
    report = SearchReport()
    found = derive_reduction(pool(26, 13, 1, 6), (), SearchLimits(states=3, candidates=1), (), report)
    assert len(found) == 1
    assert report.visited == 3
    assert report.truncated == "states"
    assert report.passed_over
    late = SearchReport()
    assert derive_reduction(pool(26, 13, 1, 6), (), SearchLimits(), (), late, deadline=0.0) == []
    assert late.truncated == "time"


@settings(max_examples=15)
@given(st.sampled_from(list(Reducer)), st.integers(2, 6), st.integers(1, 3), st.integers(0, 2), st.integers(6, 9))
def test_random_pools_keep_their_value(reducer: Reducer, taps: int, stride: int, padding: int, size: int) -> None:
    compute = pool(size, taps, stride, min(padding, taps - 1), reducer, 1)
    values = {
        found.name: np.random.default_rng(5).uniform(0.5, 1.5, found.shape).astype(np.float32)
        for found in tensors(compute.expression)
    }
    wanted = evaluate(compute.expression, values)
    for candidate in derive_reduction(compute, (), SearchLimits(candidates=6, dearer=math.inf)):
        known: dict[str, Any] = dict(values)
        for part in candidate.statements:
            known[part.output.name] = evaluate(part.expression, known)
        np.testing.assert_allclose(known["O"], wanted, rtol=1e-4)
