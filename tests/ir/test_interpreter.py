"""The interpreter against einsum, the ONNX reference evaluator and plain loops."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Scalar, Scope, Tensor, reducer_identity
from tensoropt.ir.interpreter import convert, evaluate, run_program
from tensoropt.ir.parser import parse_program, parse_scope
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.programs import CASES, arrays, scopes

RANDOM = np.random.default_rng(0)


def tensor(name: str, *shape: int, dtype: DataType = DataType.FLOAT32) -> Tensor:
    return Tensor(name, TensorType(dtype, tuple(map(Extent, shape))))


def normal(tensors: list[Tensor]) -> dict[str, Any]:
    return {t.name: RANDOM.standard_normal([int(e) for e in t.shape]).astype(np.float32) for t in tensors}


def reference(operator: str, values: list[Any], **attributes: Any) -> Any:
    names = [f"x{at}" for at in range(len(values))]
    node = onnx.helper.make_node(operator, names, ["y"], **attributes)
    inputs = [
        onnx.helper.make_tensor_value_info(name, 1, value.shape) for name, value in zip(names, values, strict=True)
    ]
    graph = onnx.helper.make_graph([node], "g", inputs, [onnx.helper.make_tensor_value_info("y", 1, None)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    outputs: Any = ReferenceEvaluator(model).run(None, dict(zip(names, values, strict=True)))
    return outputs[0]


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        ("bij,bjk->bik", "L<b:2, i:3, k:4> sum<j:5> %a[b, i, j] * %c[b, j, k]"),
        ("bij,bjk->k", "L<k:4> sum<b:2, i:3, j:5> %a[b, i, j] * %c[b, j, k]"),
        ("bij,bjk->", "L<> sum<b:2, i:3, j:5, k:4> %a[b, i, j] * %c[b, j, k]"),
    ],
)
def test_contractions(equation: str, text: str) -> None:
    operands = [tensor("a", 2, 3, 5), tensor("c", 2, 5, 4)]
    values = normal(operands)
    scope = parse_scope(text, {t.name: t for t in operands})
    expected = np.einsum(equation, values["a"].astype(np.float64), values["c"].astype(np.float64))
    np.testing.assert_allclose(evaluate(scope, values), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("operator", "attributes", "shapes", "text"),
    [
        (
            "Conv",
            {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]},
            [(2, 3, 7, 8), (4, 3, 3, 2)],
            "L<n:2, f:4, h:4, w:7> sum<c:3, r:3, s:2> %x0[n, c, 2*h + r - 1, w + 2*s] * %x1[f, c, r, s]",
        ),
        (
            "ConvTranspose",
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            [(1, 3, 4, 4), (3, 2, 4, 4)],
            "L<n:1, f:2, y:8, x:8> sum<c:3, h:4, w:4> %x0[n, c, h, w] * %x1[c, f, y + 1 - 2*h, x + 1 - 2*w]",
        ),
        (
            "MaxPool",
            {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
            [(1, 2, 7, 7)],
            "L<n:1, c:2, h:4, w:4> max<r:3, s:3> %x0[n, c, 2*h + r - 1, 2*w + s - 1 | -inf]",
        ),
        (
            "Softmax",
            {"axis": 1},
            [(3, 5)],
            """let $1 = L<i:3> max<j:5> %x0[i, j]
               let $2 = L<i:3> sum<j:5> exp(%x0[i, j] - $1[i])
               L<i:3, j:5> exp(%x0[i, j] - $1[i]) / $2[i]""",
        ),
        ("Transpose", {"perm": [2, 0, 1]}, [(2, 3, 4)], "L<a:4, b:2, c:3> %x0[b, c, a]"),
        (
            "DepthToSpace",
            {"blocksize": 2},
            [(1, 8, 2, 3)],
            "L<n:1, c:2, h:4, w:6> %x0[n, (h%2)*4 + (w%2)*2 + c, h//2, w//2]",
        ),
        ("ReduceProd", {"keepdims": 0}, [(2, 3)], "L<> prod<i:2, j:3> %x0[i, j]"),
    ],
)
def test_operators(operator: str, attributes: dict[str, Any], shapes: list[tuple[int, ...]], text: str) -> None:
    operands = [tensor(f"x{at}", *shape) for at, shape in enumerate(shapes)]
    values = normal(operands)
    scope = parse_scope(text, {t.name: t for t in operands})
    expected = reference(operator, list(values.values()), **attributes)
    np.testing.assert_allclose(evaluate(scope, values), expected, rtol=1e-5, atol=1e-6)


def _element(scope: Scope, point: dict[str, int], values: dict[str, Any]) -> Any:
    """One element of a scope by loops over scalars."""
    terms = []
    for fold in product(*(range(iterator.extent) for iterator in scope.reduction)):
        here = point | {iterator.name: at for iterator, at in zip(scope.reduction, fold, strict=True)}
        terms.append(_scalar(scope.body, here, values))
    if scope.reducer is None:
        return terms[0]
    total = reducer_identity(scope.reducer, scope.dtype)
    wide = np.float64 if scope.dtype.is_float else scope.dtype.numpy
    result = np.asarray(total).astype(wide)
    fold_with = {"sum": np.add, "max": np.maximum, "min": np.minimum, "prod": np.multiply}[scope.reducer.value]
    for term in terms:
        result = np.asarray(fold_with(result, np.asarray(term).astype(wide))).astype(wide)
    return result.astype(scope.dtype.numpy)


def _scalar(node: Scalar, point: dict[str, int], values: dict[str, Any]) -> Any:
    match node:
        case Constant():
            return np.asarray(node.value, node.dtype.numpy)
        case IndexValue():
            return np.asarray(node.index.evaluate(lambda it: point[it.name])).astype(node.dtype.numpy)
        case Cast():
            return np.asarray(convert(_scalar(node.argument, point, values), node.dtype))
        case Apply():
            return np.asarray(OPERATIONS[node.operation].evaluate(*(_scalar(a, point, values) for a in node.arguments)))
        case Access():
            at = [int(index.evaluate(lambda it: point[it.name])) for index in node.indices]
            if any(not 0 <= i < extent for i, extent in zip(at, node.source.shape, strict=True)):
                return np.asarray(node.outside.value, node.dtype.numpy)
            if isinstance(node.source, Tensor):
                return values[node.source.name][tuple(at)]
            inner = {iterator.name: i for iterator, i in zip(node.source.traversal, at, strict=True)}
            return _element(node.source, inner, values)


@settings(max_examples=min(CASES, 100), suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_scopes_against_loops(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([DataType.FLOAT64, DataType.INT32, DataType.BOOL]))
    source = tensor("x", 3, 2, dtype=dtype)
    values = {"x": data.draw(arrays(source.type))}
    scope = data.draw(scopes([source]))
    assume(scope.type.elements * np.prod([it.extent for it in scope.reduction], dtype=int) < 200)
    result = evaluate(scope, values)
    assert result.dtype == scope.dtype.numpy
    assert result.shape == tuple(scope.shape)
    with np.errstate(all="ignore"):
        for at in list(np.ndindex(*result.shape))[:8]:
            point = {iterator.name: i for iterator, i in zip(scope.traversal, at, strict=True)}
            expected = np.asarray(_element(scope, point, values))
            both = np.asarray([result[at].astype(np.float64), expected.astype(np.float64)])
            np.testing.assert_allclose(both[0], both[1], rtol=1e-6, atol=1e-6, equal_nan=True)


def test_programs_run_in_order_and_read_constants() -> None:
    program = parse_program(
        """program "p" {
             input %x: f32[3]
             constant %w: f32[3] = [1, 2, 3]
             %y: f32[3] = L<i:3> %x[i] * %w[i]
             %z: f32[] = L<> sum<i:3> %y[i]
             output %z
           }"""
    )
    values = run_program(program, {"x": np.array([1, 10, 100], np.float32)})
    assert values["z"].item() == 321.0


def test_opaque_statements_have_no_meaning_here() -> None:
    program = parse_program(
        'program "p" { input %x: f32[3] %y: f32[3] = opaque "Mystery" domain "d" opset 1 (%x) node "" output %y }'
    )
    with pytest.raises(ValueError, match="Mystery"):
        run_program(program, {"x": np.zeros(3, np.float32)})
