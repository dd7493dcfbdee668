"""Accesses of up to 16 bytes at once: right values at every size, and there exactly where the form of the indices proves them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.cuda.source import cuda_source
from codegen.device.sources import generated
from codegen.lower.device import lower
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from tensoropt.api.compiling import compiled_for_device
from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Scalar, Scope, Tensor, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate, run_program
from tensoropt.ir.program import Array, Compute, Program
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.codegen.schedules.gpu.contraction.test_emit import product_of
from tests.strategies.attention import Sizes, attention
from tests.strategies.compilers import OPENCL, compiled_on

SMALL = GpuTarget("opencl", "small", multiprocessors=1)
THREADS = 256
TYPES = [DataType.FLOAT32, DataType.FLOAT16, DataType.BFLOAT16, DataType.INT8, DataType.BOOL, DataType.INT64]
CALL = re.compile(r"^\s*(load|store)_(\d+)\(", re.MULTILINE)


def tensor(name: str, dtype: DataType, *shape: int) -> Tensor:
    return Tensor(name, TensorType(dtype, tuple(Extent(extent) for extent in shape)))


def values_of(x: Tensor) -> Array:
    low, high = (0, 2) if x.dtype is DataType.BOOL else (-3, 4)
    return np.random.default_rng(len(x.name)).integers(low, high, tuple(map(int, x.shape))).astype(x.dtype.numpy)


def source_of(scope: Scope, target: GpuTarget = SMALL, alignments: Mapping[str, int] | None = None) -> str:
    """What TVM prints of the kernel's only launch, without the prelude."""
    (launch,) = lower(Tensor("y", scope.type), scope, target, alignments=alignments).launches
    return generated({"kernel": launch.function}, target)


def at_once(scope: Scope, alignments: Mapping[str, int] | None = None) -> list[tuple[str, int]]:
    """How many elements the kernel reads and writes at once, in order."""
    return [(name, int(count)) for name, count in CALL.findall(source_of(scope, SMALL, alignments))]


def require_equal(scope: Scope, *tensors: Tensor) -> None:
    values = {one.name: values_of(one) for one in tensors}
    np.testing.assert_array_equal(compiled_on("opencl", scope)(values)["y"], evaluate(scope, values))


def plus(first: Scalar, second: Scalar) -> Scalar:
    return Apply("max", first, second)


@given(
    rows=st.sampled_from([1, 2, 3, 8]),
    columns=st.sampled_from([1024, 4096, 4098, 4100, 4104, 5000, 8192]) | st.integers(1000, 5000),
    start=st.sampled_from([0, 1, 2, 4, 8, 16]),
    beyond=st.sampled_from([0, 1, 2, 4, 8, 16]),
    dtype=st.sampled_from(TYPES),
)
@settings(max_examples=25)
def test_a_slice_and_a_column(rows: int, columns: int, start: int, beyond: int, dtype: DataType) -> None:
    """``y[i, j] = max(x[i, start + j], b[i])``: unit strides; extent, pitch and start decide how much is read at once."""
    i, j = Iterator("i", rows), Iterator("j", columns)
    x, b = tensor("x", dtype, rows, start + columns + beyond), tensor("b", dtype, rows)
    scope = Scope([i, j], plus(Access(x, [i, Index.of(j) + start]), Access(b, [i])))
    pitch = 0 if rows == 1 else start + columns + beyond
    possible = [
        count
        for count in (16, 8, 4, 2)
        if count * dtype.itemsize <= 16
        and not any(value % count for value in (columns, start, pitch))
        and rows * columns // count >= THREADS
    ]
    most = max(possible, default=0)
    assert at_once(scope) == ([("load", most), ("store", most)] if most else [])
    require_equal(scope, x, b)


@pytest.mark.parametrize("source", TYPES)
@pytest.mark.parametrize("target", TYPES)
def test_the_largest_type_decides(source: DataType, target: DataType) -> None:
    if source is target:
        return
    i = Iterator("i", 8192)
    x = tensor("x", source, 8192)
    scope = Scope([i], Cast(Access(x, [i]), target))
    count = 16 // max(source.itemsize, target.itemsize)
    assert at_once(scope) == [("load", count), ("store", count)]
    require_equal(scope, x)


@given(
    before=st.integers(0, 12),
    behind=st.integers(0, 12),
    columns=st.sampled_from([1020, 1023, 1024]),
    outside=st.sampled_from([0.0, 2.0, -1.5]),
)
@settings(max_examples=15)
def test_one_guard_stands_for_all_or_there_is_none(before: int, behind: int, columns: int, outside: float) -> None:
    """Padding by whole groups of neighbours: all of a group lie inside, or none."""
    i, j = Iterator("i", 4), Iterator("j", before + columns + behind)
    x = tensor("x", DataType.FLOAT32, 3, columns)
    scope = Scope([i, j], Access(x, [Index.of(i) - 1, Index.of(j) - before], outside))
    found = at_once(scope)
    count = next((c for c in (4, 2) if not (before % c or columns % c or behind % c)), 0)
    assert found == ([("load", count), ("store", count)] if count else [])
    require_equal(scope, x)


def test_what_is_not_side_by_side_is_read_one_by_one() -> None:
    i, j = Iterator("i", 128), Iterator("j", 128)
    x = tensor("x", DataType.FLOAT32, 128, 128)
    wide = tensor("w", DataType.FLOAT32, 128, 256)
    backwards = 127 - Index.of(j)
    for scope, read in (
        (Scope([i, j], Access(x, [j, i])), x),
        (Scope([i, j], Access(x, [i, backwards])), x),
        (Scope([i, j], Access(wide, [i, Index.of(j) * 2])), wide),
        (Scope([i, j], Access(x, [i, (Index.of(j) + 1) % 128])), x),
        (Scope([i, j], plus(Access(x, [i, j]), Access(x, [i, Index.of(j) // 3]))), x),
    ):
        assert at_once(scope) == []
        require_equal(scope, read)


def test_what_all_share_is_read_once() -> None:
    i, j = Iterator("i", 64), Iterator("j", 64)
    x, b = tensor("x", DataType.FLOAT32, 64, 64), tensor("b", DataType.FLOAT32, 64, 16)
    scope = Scope([i, j], plus(Access(x, [i, j]), Access(b, [i, Index.of(j) // 4])))
    source = source_of(scope)
    assert CALL.findall(source) == [("load", "4"), ("store", "4")]
    assert source.count("in1[") == 1
    require_equal(scope, x, b)


def test_positions_are_of_each_neighbour() -> None:
    i = Iterator("i", 4096)
    x = tensor("x", DataType.INT64, 4096)
    scope = Scope(
        [i], Apply("add", Access(x, [i]), Apply("mul", IndexValue(Index.of(i) % 7), Constant(3, DataType.INT64)))
    )
    assert at_once(scope) == [("load", 2), ("store", 2)]
    require_equal(scope, x)


def test_blocks_of_an_image_are_moved_at_once() -> None:
    """A transposition that leaves the innermost axis where it is."""
    c, h, w = Iterator("c", 6), Iterator("h", 10), Iterator("w", 72)
    x = tensor("x", DataType.FLOAT16, 10, 6, 72)
    scope = Scope([c, h, w], Access(x, [h, c, w]))
    assert at_once(scope) == [("load", 8), ("store", 8)]
    require_equal(scope, x)


def test_few_elements_have_a_thread_each() -> None:
    i = Iterator("i", 1020)
    scope = Scope([i], Apply("neg", Access(tensor("x", DataType.FLOAT32, 1020), [i])))
    assert at_once(scope) == [("load", 2), ("store", 2)], "as many threads as a block has are left"
    assert not CALL.search(source_of(scope, NAMED["h200"]))


@pytest.mark.parametrize(("x", "y", "count"), [(16, 16, 8), (8, 16, 4), (16, 8, 4), (4, 16, 2), (2, 16, 0), (16, 2, 0)])
def test_no_more_than_places_are_known_to_be_multiples_of(x: int, y: int, count: int) -> None:
    i = Iterator("i", 8192)
    scope = Scope([i], Apply("neg", Access(tensor("x", DataType.FLOAT16, 8192), [i])))
    expected = [("load", count), ("store", count)] if count else []
    assert at_once(scope, {"x": x, "y": y}) == expected


@pytest.mark.parametrize("dtype", [DataType.FLOAT32, DataType.FLOAT16])
@pytest.mark.parametrize("kind", ["product", "attention"])
def test_what_products_read(kind: str, dtype: DataType) -> None:
    """All their operands at once where that is proved: not of odd sizes, nor where nothing is known of their places."""
    even, odd = (
        product_of(sizes, 2, (False, True), dtype)[0]
        if kind == "product"
        else attention(Sizes(2, *sizes, sizes[2]), dtype, True, False)
        for sizes in ((64, 64, 64), (63, 63, 63))
    )

    def one_by_one(scope: Scope, alignments: Mapping[str, int]) -> set[str]:
        lines = source_of(scope, SMALL, alignments).splitlines()
        return {name for text in lines if not CALL.match(text) for name in re.findall(r"\bin\d(?=\[)", text)}

    names = [read.name for read in tensors(even)]
    assert "load" in dict(at_once(even))
    assert not one_by_one(even, {})
    for scope, alignments in ((odd, {}), (even, dict.fromkeys(names, dtype.itemsize))):
        assert "load" not in dict(at_once(scope, alignments))
        assert len(one_by_one(scope, alignments)) == len(names)


@pytest.mark.parametrize("columns", [4096, 4097, 4098, 4100])
def test_parts_and_slices_that_begin_anywhere(columns: int) -> None:
    """Both parts of a whole are written at once only if it holds for where they lie in it, and slices are read so."""
    i, p = Iterator("i", columns), Iterator("p", 2 * columns)
    x, a, b, v, z, w = (tensor(name, DataType.FLOAT32, columns) for name in "xabvzw")
    y = tensor("y", DataType.FLOAT32, 2 * columns)
    first = Apply("lt", IndexValue(Index.of(p)), Constant(columns, DataType.INT64))
    joined = Apply("where", first, Access(a, [p], 0.0), Access(b, [Index.of(p) - columns], 0.0))
    beyond = Scope([i], Access(y, [Index.of(i) + columns - 2]))
    program = Program(
        "p", (x,), (y, z, w), {},
        (
            Compute(a, Scope([i], Apply("neg", Access(x, [i])))),
            Compute(b, Scope([i], Apply("abs", Access(x, [i])))),
            Compute(y, Scope([p], joined)),
            Compute(v, beyond),
            Compute(z, Scope([i], Apply("mul", Access(v, [i]), Access(x, [i])))),
            Compute(w, Scope([i], Apply("mul", Access(a, [i]), Access(x, [i])))),
        ),
    )  # fmt: skip
    built = compiled_for_device(program, OPENCL)
    assert {"a", "b"} <= built.plan.inside.keys()
    counts = {}
    for step in built.steps:
        (launch,) = step.kernel.launches
        found = {int(count) for _, count in CALL.findall(generated({"kernel": launch.function}, OPENCL))}
        assert len(found) <= 1
        counts[step.statement.output.name] = max(found, default=0)
    whole = next((count for count in (4, 2) if columns % count == 0), 0)
    piece = 2 if columns % 2 == 0 else 0
    assert counts == {"a": whole, "b": whole, "z": piece, "w": whole}
    feeds = {"x": values_of(x)}
    for name, array in run_program(program, feeds).items():
        if name in ("y", "z", "w"):
            np.testing.assert_array_equal(built.model().run(feeds)[name], array)


def test_a_place_that_does_not_fit_is_a_defect() -> None:
    from codegen.device.kernel import starts_of
    from codegen.device.table import Place

    i = Iterator("i", 8192)
    x = tensor("x", DataType.FLOAT32, 8192)
    kernel = lower(tensor("y", DataType.FLOAT32, 8192), Scope([i], Apply("neg", Access(x, [i]))), SMALL)
    with pytest.raises(RuntimeError, match="kernel_0 was compiled for multiples of 16 bytes"):
        starts_of(kernel, ["kernel_0"], {x: Place("input", 4), kernel.output: Place("output")}, Place("arena"))


def test_cuda_is_told_the_same() -> None:
    i = Iterator("i", 1 << 20)
    scope = Scope([i], Apply("neg", Access(tensor("x", DataType.FLOAT32, 1 << 20), [i])))
    (launch,) = lower(Tensor("y", scope.type), scope, NAMED["h200"]).launches
    source = cuda_source({"kernel": launch.function}, NAMED["h200"])
    assert CALL.findall(source) == [("load", "4"), ("store", "4")]
    assert launch.grid == (1 << 10, 1, 1)
