"""GPU schedules at sizes around those of blocks, with every type, and which schedule a form gets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.lower.device import lower
from codegen.targets.gpu import GpuTarget
from tensoropt.errors import ModelError
from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Reducer, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.strategies.compilers import OPENCL, compiled_on

SIZES = st.one_of(st.sampled_from([1, 2, 31, 32, 33, 255, 256, 257]), st.integers(1, 700))


def tensor(name: str, dtype: DataType, *shape: int) -> Tensor:
    return Tensor(name, TensorType(dtype, tuple(Extent(extent) for extent in shape)))


def values_of(x: Tensor) -> Array:
    """Small numbers that every type holds, and whose sums f32 holds exactly."""
    low = 0 if x.dtype is DataType.BOOL or x.dtype.value.startswith("u") else -3
    high = 2 if x.dtype is DataType.BOOL else 4
    array = np.random.default_rng(3).integers(low, high, tuple(int(extent) for extent in x.shape))
    return array.astype(x.dtype.numpy)


def run(scope: Scope, values: dict[str, Array]) -> Array:
    return compiled_on("opencl", scope)(values)["y"]


def schedules(scope: Scope, target: GpuTarget = OPENCL) -> tuple[str, ...]:
    return lower(Tensor("y", scope.type), scope, target).schedules


@given(
    rows=st.integers(1, 3), columns=SIZES, dtype=st.sampled_from(list(DataType)), reducer=st.sampled_from(list(Reducer))
)
@settings(max_examples=15)
def test_long_reductions_by_blocks(rows: int, columns: int, dtype: DataType, reducer: Reducer) -> None:
    i, k = Iterator("i", rows), Iterator("k", columns)
    x = tensor("x", dtype, rows, columns)
    values = {"x": values_of(x)}
    if reducer is Reducer.PROD:
        values = {"x": np.ones_like(values["x"])}
    scope = Scope([i], Access(x, [i, k]), [k], reducer)
    assert schedules(scope) == (("reduction by blocks" if columns >= 32 else "reduction by threads"),)
    np.testing.assert_array_equal(run(scope, values), evaluate(scope, values))


@given(size=SIZES, dtype=st.sampled_from(list(DataType)))
@settings(max_examples=15)
def test_a_thread_for_each_element(size: int, dtype: DataType) -> None:
    i = Iterator("i", size)
    x = tensor("x", dtype, size)
    values = {"x": values_of(x)}
    scope = Scope([i], Apply("max", Access(x, [i]), Access(x, [size - 1 - Index.of(i)])))
    assert schedules(scope) == ("injective",)
    np.testing.assert_array_equal(run(scope, values), evaluate(scope, values))


@given(
    batch=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 7)),
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    window=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    stride=st.integers(1, 3),
    pad=st.integers(0, 2),
)
@settings(max_examples=10)
def test_padded_strided_convolutions_with_an_epilogue(
    batch: int, channels: tuple[int, int], size: tuple[int, int], window: tuple[int, int], stride: int, pad: int
) -> None:
    extents = [(size[axis] + 2 * pad - window[axis]) // stride + 1 for axis in (0, 1)]
    n, f, h, w = (Iterator(*pair) for pair in zip("nfhw", (batch, channels[1], *extents), strict=True))
    c, r, s = (Iterator(*pair) for pair in zip("crs", (channels[0], *window), strict=True))
    x = tensor("x", DataType.FLOAT32, batch, channels[0], *size)
    weight = tensor("w", DataType.FLOAT32, channels[1], channels[0], *window)
    read = Access(x, [n, c, Index.of(h) * stride + r - pad, Index.of(w) * stride + s - pad])
    core = Scope([n, f, h, w], Apply("mul", read, Access(weight, [f, c, r, s])), [c, r, s])
    scope = Scope([n, f, h, w], Apply("relu", Access(core, [n, f, h, w])))
    values = {"x": values_of(x), "w": values_of(weight)}
    np.testing.assert_array_equal(run(scope, values), evaluate(scope, values))


@given(
    rows=st.integers(1, 5),
    columns=st.integers(8, 600),
    dtype=st.sampled_from([DataType.FLOAT16, DataType.FLOAT32, DataType.FLOAT64]),
)
@settings(max_examples=6)
def test_softmax_in_one_launch(rows: int, columns: int, dtype: DataType) -> None:
    i, j = Iterator("i", rows), Iterator("j", columns)
    x = tensor("x", dtype, rows, columns)
    values = {"x": np.random.default_rng(1).standard_normal((rows, columns)).astype(dtype.numpy)}
    top = Scope([i], Access(x, [i, j]), [j], Reducer.MAX)
    powers = Scope([i, j], Apply("exp", Apply("sub", Access(x, [i, j]), Access(top, [i]))))
    total = Scope([i], Access(powers, [i, j]), [j])
    scope = Scope([i, j], Apply("div", Access(powers, [i, j]), Access(total, [i])))
    if rows > 1:
        assert len(lower(Tensor("y", scope.type), scope, OPENCL).launches) == 1
    tolerance = 2e-3 if dtype is DataType.FLOAT16 else 2e-6  # two last bits of f16
    np.testing.assert_allclose(run(scope, values), evaluate(scope, values), rtol=tolerance, atol=1e-7)


def test_the_position_of_the_largest_element() -> None:
    i, j, k = Iterator("i", 5), Iterator("j", 77), Iterator("k", 77)
    x = tensor("x", DataType.FLOAT32, 5, 77)
    values = {"x": values_of(x)}
    top = Scope([i], Access(x, [i, j]), [j], Reducer.MAX)
    here = Apply("eq", Access(x, [i, k]), Access(top, [i]))
    position = Apply("where", here, IndexValue(Index.of(k)), Constant(77, DataType.INT64))
    scope = Scope([i], position, [k], Reducer.MIN)
    np.testing.assert_array_equal(run(scope, values), values["x"].argmax(1))


def test_halves_are_rounded_after_every_operation() -> None:
    """Also on a device that knows f16 as memory only."""
    i = Iterator("i", 300)
    x = tensor("x", DataType.FLOAT16, 300)
    values = {"x": np.random.default_rng(2).uniform(-2, 2, 300).astype(np.float16)}
    values["x"][:5] = [np.inf, -np.inf, np.nan, 6e-8, 65504]
    read = Access(x, [i])
    scope = Scope([i], Apply("add", Apply("mul", read, read), Cast(Constant(0.1, DataType.FLOAT32), DataType.FLOAT16)))
    with np.errstate(all="ignore"):
        expected = evaluate(scope, values)
    np.testing.assert_array_equal(run(scope, values), expected)


def test_every_half_as_f32_and_back() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    between = np.array([[0], [0xFFF], [0x1000], [0x1001]], np.uint32)
    near = (halves.astype(np.float32).view(np.uint32) + between).reshape(-1)
    anywhere = np.random.default_rng(4).integers(0, 1 << 32, 1 << 16, np.uint32)
    floats = np.concatenate([near, anywhere]).view(np.float32)
    for array, source, target in ((halves, "f16", "f32"), (floats, "f32", "f16")):
        i = Iterator("i", len(array))
        scope = Scope([i], Cast(Access(tensor("x", DataType(source), len(array)), [i]), DataType(target)))
        with np.errstate(all="ignore"):
            expected = array.astype(DataType(target).numpy)
        np.testing.assert_array_equal(run(scope, {"x": array}), expected)


@pytest.mark.parametrize(("rows", "width"), [(1 << 13, "int32"), (1 << 16, "int64")])
def test_indices_are_as_wide_as_they_must_be(rows: int, width: str) -> None:
    i, j = Iterator("i", rows), Iterator("j", 1 << 15)
    x = tensor("x", DataType.FLOAT32, rows, 1 << 15)
    scope = Scope([j, i], Access(x, [i, j]))
    (launch,) = lower(Tensor("y", scope.type), scope, OPENCL).launches
    assert ("int64" in launch.function.script()) == (width == "int64")
    assert launch.grid[0] * launch.block[0] == rows << 15


def test_many_outputs_are_folded_by_threads_and_few_by_blocks() -> None:
    i, k = Iterator("i", 1 << 16), Iterator("k", 1 << 10)
    columns, rows = tensor("x", DataType.FLOAT32, 1 << 10, 1 << 16), tensor("x", DataType.FLOAT32, 1 << 16, 1 << 10)
    assert schedules(Scope([i], Access(columns, [k, i]), [k])) == ("reduction by threads",)
    assert schedules(Scope([i], Access(rows, [i, k]), [k])) == ("reduction by blocks",)
    assert schedules(Scope([k], Access(rows, [i, k]), [i]), GpuTarget("opencl", "large", multiprocessors=100)) == (
        "reduction by blocks",
    )


def test_a_device_without_f64_refuses_it() -> None:
    i = Iterator("i", 4)
    scope = Scope([i], Access(tensor("x", DataType.FLOAT64, 4), [i]))
    with pytest.raises(ModelError, match="y: small computes no f64, which this value needs; convert the model to f32"):
        lower(Tensor("y", scope.type), scope, GpuTarget("opencl", "small", double=False))
