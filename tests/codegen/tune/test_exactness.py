"""Which kernels are exact on small integers: those whose sums may be taken in any order without rounding."""

from __future__ import annotations

import numpy as np
import pytest

from codegen.tune.exactness import exact_range
from tensoropt.ir.expression import Access, Apply, Cast, Constant, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.operand_rounding import TF32_DIGITS
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType, Extent, TensorType

F32, F16, I32 = DataType.FLOAT32, DataType.FLOAT16, DataType.INT32


def tensor(name: str, *shape: int, dtype: DataType = F32) -> Tensor:
    """A tensor of the type."""
    return Tensor(name, TensorType(dtype, tuple(Extent(extent) for extent in shape)))


def dot(name: str, length: int, dtype: DataType = F32, scale: float | None = None) -> Compute:
    """A sum of products of two vectors, each scaled."""
    k, n = Iterator("k", length), Iterator("n", 1)
    left, right = tensor("a", length, dtype=dtype), tensor("b", length, dtype=dtype)
    body: Scalar = Apply("mul", Access(left, [k]), Access(right, [k]))
    if scale is not None:
        body = Apply("mul", body, Constant(scale, dtype))
    return Compute(tensor(name, 1, dtype=dtype), Scope([n], body, [k]))


def applied(operation: str, *constants: float, dtype: DataType = F32) -> Compute:
    """One operation on a vector and constants."""
    n = Iterator("n", 8)
    body = Apply(operation, Access(tensor("x", 8, dtype=dtype), [n]), *(Constant(value, dtype) for value in constants))
    return Compute(Tensor("y", TensorType(body.dtype, (Extent(8),))), Scope([n], body))


@pytest.mark.parametrize(
    ("kernel", "largest"),
    [
        (dot("y", 4608), 3),
        (dot("y", 1 << 22), 2),  # 4 · 2²² is the last that f32 holds with all numbers below
        (dot("y", 1 << 24), 1),
        (dot("y", 1 << 25), None),
        (dot("y", 200, F16), 3),
        (dot("y", 2000, F16), 1),
        (dot("y", 4000, F16), None),
        (dot("y", 1 << 26, I32), 3),  # integers wrap, in every order alike
        (dot("y", 1000, scale=0.25), 3),  # quarters are numbers too
        (dot("y", 1000, scale=1 / 24), None),
        (applied("relu"), 3),
        (applied("max", 0.5), 3),
        (applied("exp"), None),
        (applied("div", 3.0), None),
        (applied("sqrt"), None),
        (applied("floor"), 3),
        (applied("lt", 1.0), 3),
        (applied("div", 3, dtype=I32), 3),
        (applied("max", float("-inf")), 3),
        (applied("add", float("inf")), None),
    ],
)
def test_the_largest_integers(kernel: Compute, largest: int | None) -> None:
    assert exact_range([kernel]) == largest


def test_operands_that_are_rounded_must_be_small() -> None:
    """Of tf32, 11 digits: integers of inputs are, and sums of up to 2048 of them."""
    assert exact_range([dot("y", 4608)], TF32_DIGITS) == 3
    assert exact_range([dot("y", 1000, scale=1023.0)], TF32_DIGITS) == 2, "3 times the scale has twelve digits"
    assert exact_range([dot("y", 1000, scale=1023.0)]) == 3
    i, j, k = Iterator("i", 1), Iterator("j", 500), Iterator("k", 4)
    total = Scope([i], Access(tensor("a", 500), [j]), [j])
    kernel = Compute(tensor("y", 1), Scope([i], Apply("mul", Access(total, [i]), Access(tensor("b", 4), [k])), [k]))
    assert exact_range([kernel], TF32_DIGITS) == 3
    wide, j = tensor("a", 1000), Iterator("j", 1000)
    total = Scope([i], Access(wide, [j]), [j])
    kernel = Compute(tensor("y", 1), Scope([i], Apply("mul", Access(total, [i]), Access(tensor("b", 4), [k])), [k]))
    assert exact_range([kernel], TF32_DIGITS) == 2
    assert exact_range([kernel]) == 3
    assert exact_range([applied("mul", 4095.0)], TF32_DIGITS) == 3, "no sum"


def test_bounds_go_from_kernel_to_kernel() -> None:
    """The product of two sums of products is larger than either."""
    first = dot("p", 1 << 10)
    n, k = Iterator("n", 1), Iterator("k", 1 << 10)
    second = Compute(
        tensor("q", 1),
        Scope([n], Apply("mul", Access(first.output, [n]), Access(tensor("c", 1 << 10), [k])), [k]),
    )
    assert exact_range([first]) == 3
    assert exact_range([first, second]) == 2
    assert exact_range([first, second, second]) == 2


def test_pooling_with_minus_infinity_outside_is_exact() -> None:
    n, k = Iterator("n", 8), Iterator("k", 3)
    body = Access(tensor("x", 8), [Index.of(n) + k - 1], Constant(float("-inf"), F32))
    assert exact_range([Compute(tensor("y", 8), Scope([n], body, [k], Reducer.MAX))]) == 3


def test_integers_that_wrapped_are_not_small() -> None:
    """What 26 bits of wrapped sums hold is not exact as f32."""
    wide = dot("y", 1 << 26, I32).expression
    n = Iterator("n", 1)
    kernel = Compute(tensor("z", 1), Scope([n], Cast(Access(wide, [n]), F32)))
    assert exact_range([kernel]) is None


def test_every_order_gives_the_same_bits_within_the_range() -> None:
    generator = np.random.default_rng(0)
    products = generator.integers(-9, 10, 1 << 12).astype(np.float32) * np.float32(0.25)
    sums = {float(np.cumsum(generator.permutation(products), dtype=np.float32)[-1]) for _ in range(20)}
    assert len(sums) == 1
