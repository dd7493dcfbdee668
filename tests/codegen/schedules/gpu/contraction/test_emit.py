"""Sums of products on a GPU give the interpreter's values, bit for bit on small integers, at sizes that fit no block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.device.kernel import compile_kernel
from codegen.lower.stages import split_stages
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.context import Context
from codegen.schedules.gpu.contraction.geometry import candidates
from codegen.schedules.sums_of_products import classify
from tensoropt.ir.expression import Access, Apply, Constant, Scope, Tensor, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType
from tests.codegen.schedules.test_contraction import convolution, integers, tensor
from tests.strategies.compilers import OPENCL

NUMBERS = [
    DataType.FLOAT32,
    DataType.FLOAT16,
    DataType.BFLOAT16,
    DataType.FLOAT64,
    DataType.INT8,
    DataType.INT32,
    DataType.INT64,
]
VARIANTS = st.integers(0, 160)
"""A number beyond the last means the last."""


def agree(scope: Scope, variant: int = 0) -> tuple[str, ...]:
    """Compiles, compares bit for bit, and returns the schedules' names."""
    values = {read.name: integers(read) for read in tensors(scope)}
    kernel = compile_kernel(Compute(Tensor("y", scope.type), scope), OPENCL, (), {"contraction": variant})
    np.testing.assert_array_equal(kernel(values)["y"], evaluate(scope, values))
    return kernel.kernel.schedules


def product_of(
    sizes: Sequence[int], batch: int, transposed: Sequence[bool], dtype: DataType = DataType.FLOAT32
) -> tuple[Scope, list[Iterator]]:
    """A batched matrix product, each operand as it lies or transposed, and its iterators."""
    rows, columns, depth = sizes
    b, i, j, k = Iterator("b", batch), Iterator("i", rows), Iterator("j", columns), Iterator("k", depth)
    reads = []
    for name, axes, turned in (("left", (i, k), transposed[0]), ("right", (k, j), transposed[1])):
        axes = axes[::-1] if turned else axes
        reads.append(Access(tensor(name, batch, *(axis.extent for axis in axes), dtype=dtype), [b, *axes]))
    return Scope([b, i, j], Apply("mul", *reads), [k]), [b, i, j]


@given(
    sizes=st.tuples(st.integers(4, 140), st.integers(4, 140), st.integers(8, 140)), batch=st.integers(1, 3),
    transposed=st.tuples(st.booleans(), st.booleans()), variant=VARIANTS,
)  # fmt: skip
@settings(max_examples=20)
def test_products(sizes: tuple[int, int, int], batch: int, transposed: tuple[bool, bool], variant: int) -> None:
    scope, _ = product_of(sizes, batch, transposed)
    if sizes[0] * sizes[1] * sizes[2] >= 512:
        assert agree(scope, variant)[0].startswith("contraction")


@given(
    sizes=st.tuples(*[st.integers(1, 18).map(lambda count: 8 * count)] * 3), dtype=st.sampled_from(NUMBERS),
    transposed=st.tuples(st.booleans(), st.booleans()), variant=VARIANTS,
)  # fmt: skip
@settings(max_examples=20)
def test_neighbours_that_are_read_and_written_at_once(
    sizes: tuple[int, int, int], dtype: DataType, transposed: tuple[bool, bool], variant: int
) -> None:
    product, axes = product_of(sizes, 2, transposed, dtype)
    bias = Access(tensor("bias", sizes[1], dtype=dtype), axes[-1:])
    scope = Scope(axes, Apply("add", Access(product, axes), bias))
    assert agree(scope, variant)[0].startswith("contraction")


@given(dtype=st.sampled_from(NUMBERS), sizes=st.tuples(*[st.integers(9, 70)] * 3), variant=VARIANTS)
@settings(max_examples=14)
def test_types(dtype: DataType, sizes: tuple[int, int, int], variant: int) -> None:
    assert agree(product_of(sizes, 1, (False, True), dtype)[0], variant)[0].startswith("contraction")


@given(data=st.data())
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
def test_convolutions_with_bias_and_relu(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    size = data.draw(st.tuples(st.integers(7, 21), st.integers(7, 37)))
    window = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pad = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    per_group = data.draw(st.tuples(st.integers(1, 9), st.integers(4, 20)))
    stride, dilation, batch = (data.draw(st.integers(1, most)) for most in (3, 2, 2))
    scope = convolution(
        batch, groups * per_group[0], groups * per_group[1], size, window, stride, dilation, pad, groups
    )
    agree(scope, data.draw(VARIANTS))


def test_a_transposed_convolution_as_written() -> None:
    f, y, x = Iterator("f", 5), Iterator("y", 12), Iterator("x", 14)
    c, h, w = Iterator("c", 3), Iterator("h", 6), Iterator("w", 7)
    weight = Access(
        tensor("w", 3, 5, 4, 4), [c, f, Index.of(y) + 1 - 2 * Index.of(h), Index.of(x) + 1 - 2 * Index.of(w)]
    )
    agree(Scope([f, y, x], Apply("mul", Access(tensor("x", 3, 6, 7), [c, h, w]), weight), [c, h, w]))


@given(variant=VARIANTS, dtype=st.sampled_from([DataType.FLOAT32, DataType.FLOAT16]))
@settings(max_examples=6)
def test_element_wise_operands_and_a_transposed_end_with_a_residual(variant: int, dtype: DataType) -> None:
    i, j, k = Iterator("i", 37), Iterator("j", 45), Iterator("k", 29)
    left = Apply("relu", Apply("sub", Access(tensor("a", 37, 29, dtype=dtype), [i, k]), Constant(1, dtype)))
    right = Apply("add", Access(tensor("b", 29, 45, dtype=dtype), [k, j]), Access(tensor("c", 45, dtype=dtype), [j]))
    core = Scope([i, j], Apply("mul", left, right), [k])
    residual = Access(tensor("r", 45, 37, dtype=dtype), [j, i])
    scope = Scope([j, i], Apply("max", Apply("add", Access(core, [i, j]), residual), Constant(0, dtype)))
    assert agree(scope, variant)[0].startswith("contraction")


@given(
    case=st.tuples(st.sampled_from([512, 24 * 36, 1024]), st.sampled_from(NUMBERS), st.booleans()),
    parts=st.sampled_from([2, 4, 8]),
)
@settings(max_examples=10)
def test_a_long_depth_is_cut_in_parts(case: tuple[int, DataType, bool], parts: int) -> None:
    """Sparse operands of ones: every type holds the sums."""
    depth, dtype, epilogue = case
    scope, axes = product_of((9, 13, depth), 1, (False, False), dtype)
    if epilogue:
        scope = Scope(axes, Apply("add", Access(scope, axes), Access(tensor("bias", 13, dtype=dtype), axes[-1:])))
    random = np.random.default_rng(depth)
    values = {
        read.name: (random.random(tuple(map(int, read.shape))) < 0.2).astype(read.dtype.numpy)
        for read in tensors(scope)
    }
    stage = split_stages(scope)[0]
    context = Context({}, frozenset(), "int32", OPENCL)
    contraction = classify(context, stage.scope)
    assert contraction is not None
    found = candidates(Epilogue(stage), contraction, OPENCL)
    variant = next(number for number, geometry in enumerate(found) if geometry.parts == parts)
    kernel = compile_kernel(Compute(Tensor("y", scope.type), scope), OPENCL, (), {"contraction": variant})
    assert [name.split()[0] for name in kernel.kernel.schedules] == ["contraction", "reduction"]
    np.testing.assert_array_equal(kernel(values)["y"], evaluate(scope, values))
