"""Expressions that are library operators are written as those, whatever the order of their axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tensoropt.ir.expression import Scope, Tensor, tensors
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.parser import parse_scope
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.export.test_random_expressions import exported, run_model
from tests.strategies.programs import CASES


def tensor(name: str, *shape: int, dtype: DataType = DataType.FLOAT32) -> Tensor:
    return Tensor(name, TensorType(dtype, tuple(map(Extent, shape))))


def operators(scope: Scope) -> list[str]:
    """The operators of the exported model, constants not counted, after its value is compared with the interpreter's."""
    inputs = list(tensors(scope))
    random = np.random.default_rng(0)
    values: dict[str, Any] = {
        found.name: (random.standard_normal([int(e) for e in found.shape]) * 2).astype(found.dtype.numpy)
        for found in inputs
    }
    model = exported(scope, inputs)
    (result,) = run_model(model, values)
    expected = evaluate(scope, values)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    return [node.op_type for node in nodes if node.op_type != "Constant"]


A = tensor("a", 2, 6, 9, 8)


@pytest.mark.parametrize(
    ("text", "inputs", "expected"),
    [
        ("L<i:3, j:4> sum<k:5> %a[i, k] * %b[k, j]", [tensor("a", 3, 5), tensor("b", 5, 4)], ["MatMul"]),
        ("L<i:3, j:4> sum<k:5> %b[k, j] * %a[i, k]", [tensor("a", 3, 5), tensor("b", 5, 4)], ["MatMul"]),
        (
            "L<g:2, i:3, j:4> sum<k:5> %a[g, i, k] * %b[g, k, j]",
            [tensor("a", 2, 3, 5), tensor("b", 2, 5, 4)],
            ["MatMul"],
        ),
        ("L<i:3, j:4> sum<k:5> %a[i, k] * %b[j, k]", [tensor("a", 3, 5), tensor("b", 4, 5)], ["Transpose", "MatMul"]),
        (
            "L<i:3, j:4> sum<k:5> relu(%a[i, k]) * (%b[k, j] + 1f32)",
            [tensor("a", 3, 5), tensor("b", 5, 4)],
            ["Relu", "Add", "MatMul"],
        ),
        (
            "L<n:2, f:4, h:5, w:8> sum<c:6, r:3, s:3> %a[n, c, 2*h + r - 1, w + s - 1] * %k[f, c, r, s]",
            [A, tensor("k", 4, 6, 3, 3)],
            ["Conv"],
        ),
        ("L<n:2, f:4, h:9, w:8> sum<c:6> %a[n, c, h, w] * %k[f, c, 0, 0]", [A, tensor("k", 4, 6, 1, 1)], ["Conv"]),
        (
            "L<n:2, f:6, h:9, w:8> sum<r:3, s:3> %a[n, f, h + r - 1, w + s - 1] * %k[f, 0, r, s]",
            [A, tensor("k", 6, 1, 3, 3)],
            ["Conv"],
        ),
        (
            "L<n:2, f:4, h:7, w:6> sum<c:3, r:3, s:3> %a[n, 3*(f//2) + c, h + r, w + s] * %k[f, c, r, s]",
            [A, tensor("k", 4, 3, 3, 3)],
            ["Conv"],
        ),
        (  # the taps run backward: one Slice turns the kernel round
            "L<n:2, f:4, h:11, w:10> sum<c:6, r:3, s:3> %a[n, c, h - r, w - s] * %k[f, c, r, s]",
            [A, tensor("k", 4, 6, 3, 3)],
            ["Slice", "Conv"],
        ),
        (  # channels last
            "L<n:2, h:7, w:6, f:4> sum<r:3, s:3, c:8> %a[n, h + r - 1, w + s, c] * %k[r, s, c, f]",
            [tensor("a", 2, 7, 8, 8), tensor("k", 3, 3, 8, 4)],
            ["Transpose", "Transpose", "Conv", "Transpose"],
        ),
        (
            "L<n:2, f:4, y:18, x:16> sum<c:6, h:9, w:8> %a[n, c, h, w] * %k[c, f, y + 1 - 2*h, x + 1 - 2*w]",
            [A, tensor("k", 6, 4, 4, 4)],
            ["ConvTranspose"],
        ),
        (  # stride 2, dilation 3
            "L<n:2, f:4, y:21, x:16> sum<c:6, h:9> "
            "%a[n, c, h, x//2] * %k[c, f, (y - 2*h + 1)//3 + 9*((y - 2*h + 1)%3), x%2]",
            [A, tensor("k", 6, 4, 3, 2)],
            None,
        ),
        (
            "L<n:2, f:4, y:21> sum<c:6, h:9> %a[n, c, h] * %k[c, f, (y - 2*h + 1)//3 + 9*((y - 2*h + 1)%3)]",
            [tensor("a", 2, 6, 9), tensor("k", 6, 4, 3)],
            ["ConvTranspose"],
        ),
        (
            "L<n:2, c:6, h:5, w:4> max<r:3, s:3> %a[n, c, 2*h + r - 1, 2*w + s - 1 | -inf]",
            [A],
            ["MaxPool"],
        ),
        ("L<n:2, c:6, h:4, w:4> sum<r:2, s:2> %a[n, c, 2*h + r, 2*w + s]", [A], ["AveragePool", "Mul"]),
        (
            "L<n:2, f:3, y:8, x:8> sum<h:4, w:4> %t[n, f, y + 1 - 2*h, x + 1 - 2*w, h, w]",
            [tensor("t", 2, 3, 4, 4, 4, 4)],
            ["Reshape", "Col2Im", "Reshape"],
        ),
        (
            "L<i:2, j:7> where(lt(index<i64>(j), 3i64), %a[i, j], %b[i, j - 3])",
            [tensor("a", 2, 3), tensor("b", 2, 4)],
            ["Concat"],
        ),
        ("L<i:3, j:2> %a[j, i]", [tensor("a", 2, 3)], ["Transpose"]),
        ("L<i:6> %a[i//3, i%3]", [tensor("a", 2, 3)], ["Reshape"]),
        ("L<i:2, j:3> %a[3*i + j]", [tensor("a", 6)], ["Reshape"]),
        ("L<i:2> %a[2*i + 1]", [tensor("a", 6)], ["Slice"]),
        ("L<i:9> %a[i - 2]", [tensor("a", 6)], ["Pad"]),
        ("L<i:4, j:6> %a[j]", [tensor("a", 6)], ["Reshape", "Expand"]),
        ("L<n:2, c:3, h:4, w:6> %a[n, (h%2)*6 + (w%2)*3 + c, h//2, w//2]", [tensor("a", 2, 12, 2, 3)], None),
        ("L<i:3> %a[i, i]", [tensor("a", 3, 3)], None),
        ("L<i:4, j:5> %a[i + j - 2, j | 7]", [tensor("a", 3, 4)], None),
        ("L<i:4> sum<j:40> %a[i - 10*j]", [tensor("a", 3)], None),
    ],
)
def test_recognised(text: str, inputs: list[Tensor], expected: list[str] | None) -> None:
    found = operators(parse_scope(text, {found.name: found for found in inputs}))
    assert expected is None or found == expected


def test_a_shared_scope_is_computed_once() -> None:
    text = """let $1 = L<i:4> max<j:16> %a[i, j]
              let $2 = L<i:4> sum<j:16> exp(%a[i, j] - $1[i])
              L<i:4, j:16> exp(%a[i, j] - $1[i]) / $2[i]"""
    found = operators(parse_scope(text, {"a": tensor("a", 4, 16)}))
    assert found.count("ReduceMax") == 1
    assert found.count("ReduceSum") == 1
    assert "Expand" not in found


def test_an_epilogue_stays_beside_its_convolution() -> None:
    text = """let $1 = L<n:2, f:4, h:9, w:8> sum<c:6, r:3, s:3> %a[n, c, h + r - 1, w + s - 1] * %k[f, c, r, s]
              L<n:2, f:4, h:9, w:8> relu($1[n, f, h, w] + %b[f])"""
    inputs = [A, tensor("k", 4, 6, 3, 3), tensor("b", 4)]
    assert operators(parse_scope(text, {found.name: found for found in inputs})) == ["Conv", "Reshape", "Add", "Relu"]


@settings(max_examples=max(20, CASES // 5))
@given(data=st.data())
def test_convolutions_of_all_parameters(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 2))

    def each(low: int, high: int) -> list[int]:
        return [data.draw(st.integers(low, high)) for _ in range(rank)]

    stride, dilation, taps, begin, end = each(1, 3), each(1, 2), each(1, 3), each(0, 2), each(0, 2)
    groups, depth, filters = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    extents = each(3, 7)
    outputs = [
        (size + low + high - (count - 1) * apart - 1) // step + 1
        for size, low, high, count, apart, step in zip(extents, begin, end, taps, dilation, stride, strict=True)
    ]
    assume(all(output > 0 for output in outputs))
    y = [f"y{axis}:{extent}" for axis, extent in enumerate(outputs)]
    r = [f"r{axis}:{extent}" for axis, extent in enumerate(taps)]
    positions = [f"{stride[axis]}*y{axis} + {dilation[axis]}*r{axis} - {begin[axis]}" for axis in range(rank)]
    text = (
        f"L<n:2, f:{groups * filters}, {', '.join(y)}> sum<c:{depth}, {', '.join(r)}> "
        f"%a[n, {depth}*(f//{filters}) + c, {', '.join(positions)}] * %k[f, c, {', '.join(f'r{a}' for a in range(rank))}]"
    )
    inputs = [tensor("a", 2, groups * depth, *extents), tensor("k", groups * filters, depth, *taps)]
    scope = parse_scope(text, {found.name: found for found in inputs})
    found = operators(scope)
    if any(count > 1 and output > 1 for count, output in zip(taps, outputs, strict=True)):
        assert "Conv" in found or "ConvTranspose" in found
    assert "Gather" not in found


@settings(max_examples=max(20, CASES // 5))
@given(data=st.data())
def test_transposed_convolutions_of_all_parameters(data: st.DataObject) -> None:
    stride, taps = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    extent, begin, cut = data.draw(st.integers(2, 5)), data.draw(st.integers(-1, 2)), data.draw(st.integers(-3, 2))
    groups, depth, filters = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    outputs = stride * (extent - 1) + taps - begin - cut
    assume(outputs > 1)
    assume(max(begin, cut) < stride * (extent - 1) + taps)  # or only padding is left
    channel = f"{depth}*(f//{filters}) + c"
    text = (
        f"L<n:2, f:{groups * filters}, y:{outputs}> sum<c:{depth}, h:{extent}> "
        f"%a[n, {channel}, h] * %k[{channel}, f%{filters}, y + {begin} - {stride}*h]"
    )
    inputs = [tensor("a", 2, groups * depth, extent), tensor("k", groups * depth, filters, taps)]
    found = operators(parse_scope(text, {found.name: found for found in inputs}))
    assert "ConvTranspose" in found or "Conv" in found
