"""Reductions, rows and movers at odd sizes, and the shape of what is scheduled how."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.lower.kernel import lower
from tensoropt.allocation import ALIGNMENT
from tensoropt.ir.expression import Access, Apply, Constant, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.compilers import CPU, DEVICES, compiled_on


def compiled(device: str, scope: Scope, values: dict[str, Array]) -> Array:
    """The value as compiled code computes it."""
    return compiled_on(device, scope)(values)["y"]


def image(*shape: int) -> tuple[Tensor, dict[str, Array]]:
    """A tensor x and integers for it."""
    tensor = Tensor("x", TensorType(DataType.FLOAT32, tuple(Extent(extent) for extent in shape)))
    return tensor, {"x": np.random.default_rng(1).integers(-9, 10, shape).astype(np.float32)}


@pytest.mark.parametrize("device", DEVICES)
@given(
    size=st.tuples(st.integers(5, 20), st.integers(5, 60)),
    window=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    stride=st.integers(1, 3),
    pad=st.integers(0, 2),
    reducer=st.sampled_from([Reducer.MAX, Reducer.MIN, Reducer.SUM]),
)
@settings(max_examples=15)
def test_pooling(
    device: str, size: tuple[int, int], window: tuple[int, int], stride: int, pad: int, reducer: Reducer
) -> None:
    extents = [(size[axis] + 2 * pad - window[axis]) // stride + 1 for axis in (0, 1)]
    c, h, w = Iterator("c", 3), Iterator("h", extents[0]), Iterator("w", extents[1])
    r, s = Iterator("r", window[0]), Iterator("s", window[1])
    x, values = image(3, *size)
    outside = {Reducer.MAX: -np.inf, Reducer.MIN: np.inf}.get(reducer, 0)
    access = Access(x, [c, Index.of(h) * stride + r - pad, Index.of(w) * stride + s - pad], outside)
    pooled = Scope([c, h, w], access, [r, s], reducer)
    np.testing.assert_array_equal(compiled(device, pooled, values), evaluate(pooled, values))
    scaled = Scope([c, h, w], Apply("relu", Access(pooled, [c, h, w])))
    np.testing.assert_array_equal(compiled(device, scaled, values), evaluate(scaled, values))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kept", ["chw", "ch", "hw", "w", "c", "cw", ""])
@pytest.mark.parametrize("reducer", list(Reducer)[:3])
def test_reductions_along_any_axes(device: str, kept: str, reducer: Reducer) -> None:
    axes = {"c": Iterator("c", 5), "h": Iterator("h", 13), "w": Iterator("w", 67)}
    x, values = image(5, 13, 67)
    folded = [axes[name] for name in axes if name not in kept]
    scope = Scope([axes[name] for name in kept], Access(x, list(axes.values())), folded, reducer)
    np.testing.assert_array_equal(compiled(device, scope, values), evaluate(scope, values))


@pytest.mark.parametrize("device", DEVICES)
@given(order=st.permutations([0, 1, 2, 3]), sizes=st.tuples(*[st.integers(1, 19)] * 4))
@settings(max_examples=20)
def test_transposes(device: str, order: list[int], sizes: tuple[int, int, int, int]) -> None:
    iterators = [Iterator(f"i{axis}", extent) for axis, extent in enumerate(sizes)]
    x, values = image(*sizes)
    scope = Scope([iterators[axis] for axis in order], Access(x, iterators))
    np.testing.assert_array_equal(compiled(device, scope, values), evaluate(scope, values))


@pytest.mark.parametrize("device", DEVICES)
def test_reshape_and_slice_through_divisions(device: str) -> None:
    x, values = image(6, 35)
    p = Iterator("p", 100)
    flat = Index.of(p) * 2 + 5
    scope = Scope([p], Access(x, [flat // 35, flat % 35]))
    np.testing.assert_array_equal(compiled(device, scope, values), evaluate(scope, values))


def softmax(columns: int, end: Callable[[Scope, Scope, Iterator, Iterator], Scalar]) -> tuple[Scope, dict[str, Array]]:
    """A softmax of 37 rows whose end is given the powers, their sums, and its own iterators."""
    x, values = image(37, columns)
    i, j = Iterator("i", 37), Iterator("j", columns)
    top = Scope([i], Access(x, [i, j]), [j], Reducer.MAX)
    powers = Scope([i, j], Apply("exp", Apply("sub", Access(x, [i, j]), Access(top, [i]))))
    total = Scope([i], Access(powers, [i, j]), [j])
    return Scope([i, j], end(powers, total, i, j)), values


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("columns", [1, 3, 16, 131])
def test_softmax_keeps_its_powers_where_its_result_will_lie(device: str, columns: int) -> None:
    scope, values = softmax(
        columns, lambda powers, total, i, j: Apply("div", Access(powers, [i, j]), Access(total, [i]))
    )
    kernel = lower(Tensor("y", scope.type), scope, CPU)
    if columns > 8:
        assert kernel.schedules == ("rows of 4 stages in place",)
        assert kernel.workspace_bytes <= 2 * (37 * 4 + ALIGNMENT)  # the maxima and the sums
    np.testing.assert_allclose(compiled(device, scope, values), evaluate(scope, values), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shift", [-1, 1])
def test_a_value_that_is_read_elsewhere_than_where_it_lies_is_not_overwritten(device: str, shift: int) -> None:
    def end(powers: Scope, total: Scope, i: Iterator, j: Iterator) -> Scalar:
        neighbour = Access(powers, [i, (Index.of(j) + shift) % 131])
        return Apply("div", Apply("add", Access(powers, [i, j]), neighbour), Access(total, [i]))

    scope, values = softmax(131, end)
    assert "in place" not in str(lower(Tensor("y", scope.type), scope, CPU).schedules)
    np.testing.assert_allclose(compiled(device, scope, values), evaluate(scope, values), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
def test_layer_normalisation_is_done_row_by_row(device: str) -> None:
    x, values = image(37, 131)
    i, j = Iterator("i", 37), Iterator("j", 131)
    count = Constant(131.0, DataType.FLOAT32)
    mean = Scope([i], Apply("div", Access(Scope([i], Access(x, [i, j]), [j]), [i]), count))
    centred = Scope([i, j], Apply("sub", Access(x, [i, j]), Access(mean, [i])))
    square = Apply("mul", Access(centred, [i, j]), Access(centred, [i, j]))
    spread = Scope([i], Apply("sqrt", Apply("div", Access(Scope([i], square, [j]), [i]), count)))
    scope = Scope([i, j], Apply("div", Access(centred, [i, j]), Access(spread, [i])))
    assert lower(Tensor("y", scope.type), scope, CPU).schedules == ("rows of 3 stages",)
    np.testing.assert_allclose(compiled(device, scope, values), evaluate(scope, values), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_a_kernel_without_output_keeps_its_reductions_to_itself(device: str) -> None:
    x, values = image(37, 131)
    i, j, none = Iterator("i", 37), Iterator("j", 131), Iterator("none", 0)
    total = Scope([i], Access(x, [i, j]), [j])
    scope = Scope([i, none], Access(total, [i]))
    assert lower(Tensor("y", scope.type), scope, CPU).workspace_bytes >= 37 * 4
    assert compiled(device, scope, values).shape == (37, 0)


@pytest.mark.parametrize("device", DEVICES)
def test_a_full_reduction_of_a_large_tensor(device: str) -> None:
    x, values = image(64, 1024)
    i, j = Iterator("i", 64), Iterator("j", 1024)
    scope = Scope([], Access(x, [i, j]), [i, j])
    np.testing.assert_array_equal(compiled(device, scope, values), evaluate(scope, values))
