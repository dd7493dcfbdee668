"""What is counted of a kernel: launches, products, bytes, threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from codegen.lower.device import lower
from codegen.roofline.work import Launch, Products, launches_of
from codegen.targets.named import NAMED
from tensoropt.ir.expression import Access, Apply, Reducer, Scope, Tensor, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import view_source
from tensoropt.ir.types import DataType
from tests.strategies.attention import Sizes, attention
from tests.strategies.expressions import closed_scopes, tensor

F32 = DataType.FLOAT32


def matmul(rows: int, columns: int, depth: int) -> Scope:
    i, j, k = Iterator("i", rows), Iterator("j", columns), Iterator("k", depth)
    a, b = tensor("a", rows, depth), tensor("b", depth, columns)
    return Scope([i, j], Apply("mul", Access(a, [i, k]), Access(b, [k, j])), [k])


def only(expression: Scope) -> Launch:
    (found,) = launches_of(expression)
    return found


def test_a_matrix_product_with_an_activation() -> None:
    core = matmul(64, 48, 32)
    i, j = Iterator("i", 64), Iterator("j", 48)
    found = only(Scope([i, j], Apply("relu", Access(core, [i, j]))))
    assert (found.form, found.products) == ("products", (Products(1, 48, 64, 32, F32),))
    assert {source.name: size for source, size in found.reads.items() if isinstance(source, Tensor)} == {
        "a": 64 * 32 * 4,
        "b": 32 * 48 * 4,
    }
    assert found.written_bytes == 64 * 48 * 4
    assert found.operations == 64 * 48, "the activation"


def test_a_convolution_and_one_of_each_channel() -> None:
    n, f, c, y, x = Iterator("n", 1), Iterator("f", 16), Iterator("c", 8), Iterator("y", 14), Iterator("x", 14)
    r, s = Iterator("r", 3), Iterator("s", 3)
    image, weights = tensor("image", 1, 8, 16, 16), tensor("weights", 16, 8, 3, 3)
    window = [Index.of(y) + r, Index.of(x) + s]
    dense = Scope([n, f, y, x], Apply("mul", Access(image, [n, c, *window]), Access(weights, [f, c, r, s])), [c, r, s])
    assert only(dense).products == (Products(1, 16, 196, 72, F32),)
    small = tensor("small", 8, 3, 3)
    each = Scope([n, c, y, x], Apply("mul", Access(image, [n, c, *window]), Access(small, [c, r, s])), [r, s])
    assert only(each).products == (Products(8, 1, 196, 9, F32),)


@pytest.mark.parametrize("dtype", [F32, DataType.FLOAT16])
def test_attention_is_one_launch_that_moves_no_scores(dtype: DataType) -> None:
    expression = attention(Sizes(12, 384, 256, 64, 48), dtype, True, True)
    found = only(expression)
    assert found.form == "attention"
    # nothing is multiplied on tensor cores, and no depth is cut
    assert found.products == (Products(12, 384, 256, 64, F32, 1, False), Products(12, 384, 48, 256, F32, 1, False))
    elements = {"q": 12 * 384 * 64, "k": 12 * 256 * 64, "v": 12 * 256 * 48, "mask": 384 * 256}
    moved = {source.name: size for source, size in found.reads.items() if isinstance(source, Tensor)}
    assert moved == {name: count * dtype.itemsize for name, count in elements.items()}
    assert found.written_bytes == 12 * 384 * 48 * dtype.itemsize
    assert len(lower(Tensor("y", expression.type), expression, NAMED["h200"]).launches) == 1


def test_a_softmax_is_one_launch() -> None:
    x, i, j = tensor("x", 37, 640), Iterator("i", 37), Iterator("j", 640)
    top = Scope([i], Access(x, [i, j]), [j], Reducer.MAX)
    powers = Scope([i, j], Apply("exp", Apply("sub", Access(x, [i, j]), Access(top, [i]))))
    total = Scope([i], Access(powers, [i, j]), [j])
    found = only(Scope([i, j], Apply("div", Access(powers, [i, j]), Access(total, [i]))))
    assert found.form == "rows"
    assert list(found.reads.values()) == [37 * 640 * 4], "the input alone comes from outside"
    assert found.threads == 37 * 640


def test_a_slice_reads_what_it_reads() -> None:
    x, i, j = tensor("x", 1000, 1000), Iterator("i", 10), Iterator("j", 1000)
    found = only(Scope([i, j], Apply("exp", Access(x, [Index.of(i) + 5, j]))))
    assert list(found.reads.values()) == [10 * 1000 * 4]


def test_views_and_empty_values_are_no_launch() -> None:
    x, i, j = tensor("x", 6, 4), Iterator("i", 6), Iterator("j", 4)
    assert launches_of(Scope([i, j], Access(x, [i, j]))) == []
    assert launches_of(Scope([Iterator("none", 0)], Access(x, [0, 0]))) == []


@settings(max_examples=100, deadline=None)
@given(closed_scopes())
def test_every_kernel_is_counted(expression: Scope) -> None:
    found = launches_of(expression)
    assert all(np.isfinite(launch.operations) and launch.threads > 0 and launch.serial >= 0 for launch in found)
    read = {source for launch in found for source in launch.reads if isinstance(source, Tensor)}
    assert read <= set(tensors(expression))
    if view_source(expression) is None and expression.type.elements:
        assert found[-1].written_bytes >= expression.type.bytes


@pytest.mark.parametrize("seed", range(6))
def test_launches_are_those_that_are_compiled(seed: int) -> None:
    rows, columns = (7, 300) if seed % 2 else (64, 64)
    x, i, j, k = tensor("x", rows, columns), Iterator("i", rows), Iterator("j", columns), Iterator("k", columns)
    mean = Scope([i], Access(x, [i, j]), [j])
    centred = Scope([i, j], Apply("sub", Access(x, [i, j]), Access(mean, [i])))
    spread = Scope([i], Apply("mul", Access(centred, [i, j]), Access(centred, [i, j])), [j])
    ends = [
        mean,
        Scope([i, j], Apply("mul", Access(centred, [i, j]), Access(spread, [i]))),
        Scope([j], Access(Scope([i, j], Apply("exp", Access(centred, [i, j]))), [i, j]), [i], Reducer.MAX),
        matmul(rows, columns, 8),
        Scope([i], Apply("mul", Access(mean, [i]), Access(spread, [i]))),
        Scope([i, k], Apply("mul", Access(centred, [i, k]), Access(Scope([i], Access(x, [i, j]), [j], Reducer.MAX), [i]))),
    ]  # fmt: skip
    kernel = lower(Tensor("y", ends[seed].type), ends[seed], NAMED["h200"])
    assert len(launches_of(ends[seed])) == len(kernel.launches)
