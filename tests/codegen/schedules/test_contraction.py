"""Every way to cut a contraction gives the interpreter's values, at sizes that fit no tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.kernel import compile_kernel
from codegen.targets.cpu import host_target
from tensoropt.ir.expression import Access, Apply, Scope, Tensor, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array, Compute
from tensoropt.ir.types import DataType, Extent, TensorType

TARGET = host_target(2)


def tensor(name: str, *shape: int, dtype: DataType = DataType.FLOAT32) -> Tensor:
    """A tensor of a shape."""
    return Tensor(name, TensorType(dtype, tuple(Extent(extent) for extent in shape)))


def integers(read: Tensor) -> Array:
    """Small integers, whose sums floats hold exactly."""
    generator = np.random.default_rng(len(read.name) + sum(read.name.encode()))
    return generator.integers(-3, 4, tuple(int(extent) for extent in read.shape)).astype(read.dtype.numpy)


def agree(scope: Scope, constants: tuple[str, ...] = (), variant: dict[str, Any] | None = None) -> tuple[str, ...]:
    """Compiles, compares bit for bit, and returns the schedules' names."""
    values = {read.name: integers(read) for read in tensors(scope)}
    statement = Compute(Tensor("y", scope.type), scope)
    kernel = compile_kernel(statement, TARGET, {name: values[name] for name in constants}, variant)
    np.testing.assert_array_equal(kernel(values)["y"], evaluate(scope, values))
    return kernel.kernel.schedules


def convolution(
    batch: int, channels: int, filters: int, size: tuple[int, int], window: tuple[int, int], stride: int, dilation: int,
    pad: tuple[int, int], groups: int,
) -> Scope:  # fmt: skip
    """A padded, strided, dilated, grouped convolution with bias and relu."""
    extents = [(size[axis] + pad[0] + pad[1] - dilation * (window[axis] - 1) - 1) // stride + 1 for axis in (0, 1)]
    n, f, h, w = (Iterator(*pair) for pair in zip("nfhw", (batch, filters, *extents), strict=True))
    c, r, s = (Iterator(*pair) for pair in zip("crs", (channels // groups, *window), strict=True))
    image, weight = tensor("x", batch, channels, *size), tensor("weight", filters, channels // groups, *window)
    channel = Index.of(f) // (filters // groups) * (channels // groups) + c
    row = Index.of(h) * stride + Index.of(r) * dilation - pad[0]
    column = Index.of(w) * stride + Index.of(s) * dilation - pad[0]
    product = Apply("mul", Access(image, [n, channel, row, column]), Access(weight, [f, c, r, s]))
    core = Scope([n, f, h, w], product, [c, r, s])
    sum_ = Apply("add", Access(core, [n, f, h, w]), Access(tensor("bias", filters), [f]))
    return Scope([n, f, h, w], Apply("relu", sum_))


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_convolutions(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    stride, dilation = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    size = data.draw(st.tuples(st.integers(7, 21), st.integers(7, 37)))
    window = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pad = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    per_group = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 20)))
    batch = data.draw(st.integers(1, 2))
    scope = convolution(
        batch, groups * per_group[0], groups * per_group[1], size, window, stride, dilation, pad, groups
    )
    constants = data.draw(st.sampled_from([("weight", "bias"), ()]))
    agree(scope, constants, {"contraction": data.draw(st.integers(0, 40))})


@pytest.mark.parametrize("constants", [(), ("b",), ("a",)])
@given(sizes=st.tuples(*[st.integers(1, 70)] * 3), variant=st.integers(0, 40), transposed=st.booleans())
@settings(max_examples=12)
def test_matrix_products(
    constants: tuple[str, ...], sizes: tuple[int, int, int], variant: int, transposed: bool
) -> None:
    rows, columns, depth = sizes
    i, j, k = Iterator("i", rows), Iterator("j", columns), Iterator("k", depth)
    right = Access(tensor("b", columns, depth), [j, k]) if transposed else Access(tensor("b", depth, columns), [k, j])
    agree(
        Scope([i, j], Apply("mul", Access(tensor("a", rows, depth), [i, k]), right), [k]),
        constants,
        {"contraction": variant},
    )


def test_a_batched_product_with_a_residual() -> None:
    b, i, j, k = Iterator("b", 3), Iterator("i", 37), Iterator("j", 41), Iterator("k", 19)
    product = Apply("mul", Access(tensor("q", 3, 37, 19), [b, i, k]), Access(tensor("p", 3, 41, 19), [b, j, k]))
    core = Scope([b, i, j], product, [k])
    root = Scope([b, i, j], Apply("add", Access(core, [b, i, j]), Access(tensor("r", 3, 37, 41), [b, i, j])))
    assert agree(root)[0].startswith("contraction")


@pytest.mark.parametrize(
    "dtype", [DataType.INT32, DataType.INT64, DataType.FLOAT64, DataType.FLOAT16, DataType.BFLOAT16]
)
def test_other_types(dtype: DataType) -> None:
    i, j, k = Iterator("i", 21), Iterator("j", 35), Iterator("k", 9)
    left, right = tensor("a", 21, 9, dtype=dtype), tensor("b", 9, 35, dtype=dtype)
    for constants in ((), ("b",)):
        agree(Scope([i, j], Apply("mul", Access(left, [i, k]), Access(right, [k, j])), [k]), constants)


def test_a_long_reduction_is_packed_in_parts() -> None:
    i, j, k = Iterator("i", 30), Iterator("j", 300), Iterator("k", 6000)
    product = Apply("mul", Access(tensor("a", 30, 6000), [i, k]), Access(tensor("b", 6000, 300), [k, j]))
    assert agree(Scope([i, j], product, [k]), ("a",))[0].startswith("contraction")


def test_a_vector_times_a_packed_matrix() -> None:
    j, k = Iterator("j", 130), Iterator("k", 77)
    product = Apply("mul", Access(tensor("x", 77), [k]), Access(tensor("w", 130, 77), [j, k]))
    assert agree(Scope([j], product, [k]), ("w",))[0].startswith("contraction")


def test_a_transposed_convolution_as_written() -> None:
    f, y, x = Iterator("f", 5), Iterator("y", 12), Iterator("x", 14)
    c, h, w = Iterator("c", 3), Iterator("h", 6), Iterator("w", 7)
    weight = Access(
        tensor("w", 3, 5, 4, 4), [c, f, Index.of(y) + 1 - 2 * Index.of(h), Index.of(x) + 1 - 2 * Index.of(w)]
    )
    agree(Scope([f, y, x], Apply("mul", Access(tensor("x", 3, 6, 7), [c, h, w]), weight), [c, h, w]), ("w",))


@pytest.mark.parametrize("constants", [(), ("w",), ("x",)])
@pytest.mark.parametrize("width", [48, 64, 100])
def test_columns_that_are_not_all_neighbours_in_the_result(constants: tuple[str, ...], width: int) -> None:
    """The heads of an attention's projection lie apart: a constant operand has its panels for each of them."""
    heads, rows, depth = 3, 37, 20
    h, s, d = (Iterator(*pair) for pair in zip("hsd", (heads, rows, width), strict=True))
    k = Iterator("k", depth)
    left, right = tensor("x", rows, depth), tensor("w", depth, heads, width)
    scope = Scope([h, s, d], Apply("mul", Access(left, [s, k]), Access(right, [k, h, d])), [k])
    assert any(name.startswith("contraction") for name in agree(scope, constants))
    agree(scope, constants, {"contraction": 3})
