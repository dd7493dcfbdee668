"""Folds over small windows, several neighbours a thread, give the interpreter's values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.device.kernel import compile_kernel
from codegen.lower.device import lower
from codegen.targets.named import NAMED
from tensoropt.ir.expression import Access, Apply, Reducer, Scope, Tensor, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType
from tests.codegen.schedules.test_contraction import integers, tensor
from tests.strategies.compilers import OPENCL
from tests.strategies.nvcc import lean

FREE = replace(OPENCL, multiprocessors=1)
"""A device that is filled soon."""


def depthwise(channels: int, size: tuple[int, int], window: tuple[int, int], stride: int, dtype: DataType) -> Scope:
    """A depthwise convolution padded by one, with bias and relu."""
    extents = [(size[axis] + 2 - window[axis]) // stride + 1 for axis in (0, 1)]
    c, h, w = (Iterator(*pair) for pair in zip("chw", (channels, *extents), strict=True))
    r, s = (Iterator(*pair) for pair in zip("rs", window, strict=True))
    read = Access(
        tensor("x", channels, *size, dtype=dtype), [c, Index.of(h) * stride + r - 1, Index.of(w) * stride + s - 1]
    )
    core = Scope(
        [c, h, w], Apply("mul", read, Access(tensor("weight", channels, *window, dtype=dtype), [c, r, s])), [r, s]
    )
    sum_ = Apply("add", Access(core, [c, h, w]), Access(tensor("bias", channels, dtype=dtype), [c]))
    return Scope([c, h, w], Apply("relu", sum_))


@given(
    size=st.tuples(st.integers(20, 33), st.integers(20, 45)), window=st.tuples(st.integers(1, 3), st.integers(2, 4)),
    stride=st.integers(1, 2), dtype=st.sampled_from([DataType.FLOAT32, DataType.FLOAT16, DataType.INT32]),
)  # fmt: skip
@settings(max_examples=10)
def test_depthwise_convolutions(size: tuple[int, int], window: tuple[int, int], stride: int, dtype: DataType) -> None:
    scope = depthwise(12, size, window, stride, dtype)
    values = {read.name: integers(read) for read in tensors(scope)}
    kernel = compile_kernel(Compute(Tensor("y", scope.type), scope), FREE)
    np.testing.assert_array_equal(kernel(values)["y"], evaluate(scope, values))


@pytest.mark.parametrize("reducer", [Reducer.MAX, Reducer.MIN, Reducer.SUM])
def test_pooling(reducer: Reducer) -> None:
    c, h, w, r, s = (Iterator(*pair) for pair in zip("chwrs", (9, 20, 21, 3, 3), strict=True))
    image = tensor("x", 9, 41, 43)
    scope = Scope([c, h, w], Access(image, [c, Index.of(h) * 2 + r, Index.of(w) * 2 + s]), [r, s], reducer)
    values = {"x": integers(image)}
    kernel = compile_kernel(Compute(Tensor("y", scope.type), scope), FREE)
    assert kernel.kernel.schedules == ("reduction by threads with 7 neighbours",)
    np.testing.assert_array_equal(kernel(values)["y"], evaluate(scope, values))


def test_neighbours_share_loads_and_fill_the_gpu() -> None:
    def schedules(channels: int, window: int, stride: int) -> tuple[str, ...]:
        scope = depthwise(channels, (56, 56), (window, window), stride, DataType.FLOAT32)
        return lower(Tensor("y", scope.type), scope, NAMED["h200"]).schedules

    assert schedules(1024, 3, 1) == ("reduction by threads with 8 neighbours",)
    assert schedules(4, 3, 1) == ("reduction by threads",), "each is needed to fill it"


@pytest.mark.parametrize("gpu", ["a100", "h200"])
def test_everything_stays_in_registers(gpu: str) -> None:
    functions = {}
    for window, stride in ((3, 1), (3, 2), (5, 1)):
        scope = depthwise(1024, (56, 56), (window, window), stride, DataType.FLOAT32)
        (launch,) = lower(Tensor("y", scope.type), scope, NAMED[gpu]).launches
        functions[f"window_{window}_{stride}"] = launch.function
    lean(functions, NAMED[gpu])
