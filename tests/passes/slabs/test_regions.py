"""What a box of a scope reads: everything that it needs, no more than the index's bounds say, and the same values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passes.slabs.regions import aligned, is_contiguous, read_boxes, restricted, units, whole_box
from tensoropt.ir.expression import Access, Reducer, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.types import DataType, TensorType

X = Tensor("x", TensorType(DataType.FLOAT32, (3, 20)))  # type: ignore[arg-type]


def window(extent: int, stride: int, dilation: int, pad: int, taps: int) -> Scope:
    """A sum over a window of each row."""
    row, place, tap = Iterator("r", 3), Iterator("p", extent), Iterator("t", taps)
    at = Index.of(place) * stride + Index.of(tap) * dilation - pad
    return Scope((row, place), Access(X, [Index.of(row), at]), (tap,), Reducer.SUM)


@given(
    st.integers(2, 12), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(1, 4), st.data(),
)  # fmt: skip
def test_windows(extent: int, stride: int, dilation: int, pad: int, taps: int, data: st.DataObject) -> None:
    scope = window(extent, stride, dilation, pad, taps)
    start = data.draw(st.integers(0, extent - 1))
    stop = data.draw(st.integers(start + 1, extent))
    box = (range(1, 3), range(start, stop))
    boxes = read_boxes(scope, box)
    positions = [p * stride + t * dilation - pad for p in range(start, stop) for t in range(taps)]
    low, high = max(min(positions), 0), min(max(positions), 19)
    if low <= high:
        assert boxes[X] == (range(1, 3), range(low, high + 1))
    part = Tensor("part", TensorType(DataType.FLOAT32, tuple(map(len, boxes[X]))))  # type: ignore[arg-type]
    small = restricted(scope, boxes, {X: (part, boxes[X])})
    values = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    cut = values[np.ix_(*boxes[X])]
    expected = evaluate(scope, {"x": values})[1:3, start:stop]
    np.testing.assert_array_equal(evaluate(small, {"part": cut}), expected)
    np.testing.assert_array_equal(evaluate(restricted(scope, boxes, {}), {"x": values}), expected)


def test_units_of_divisions_in_nested_scopes() -> None:
    place, inner = Iterator("p", 12), Iterator("q", 12)
    nested = Scope((inner,), Access(X, [Index.of(inner) % 3, Index.of(inner) // 4]))
    scope = Scope((place,), Access(nested, [Index.of(place)]))
    assert units(scope) == (12,)
    assert aligned(scope, (range(1, 2),)) == (range(12),)
    halves = Scope((place,), Access(X, [0, Index.of(place) // 2]))
    assert aligned(halves, (range(3, 6),)) == (range(2, 6),)


def test_contiguous_boxes() -> None:
    assert is_contiguous(whole_box(X), X)
    assert is_contiguous((range(1, 2), range(3, 5)), X)
    assert is_contiguous((range(1, 3), range(20)), X)
    assert not is_contiguous((range(1, 3), range(5)), X)


@pytest.mark.parametrize("name", ["p", "t"])
def test_iterators_of_parts_have_names_of_their_own(name: str) -> None:
    """A part of an axis must not become one with another iterator of the same name and the extent of the part."""
    place, tap = Iterator("p", 8), Iterator(name if name != "p" else "p1", 4)
    scope = Scope((place,), Access(X, [0, Index.of(place) + tap]), (tap,), Reducer.SUM)
    box = (range(2, 6),)
    small = restricted(scope, read_boxes(scope, box), {})
    values = np.arange(60, dtype=np.float32).reshape(3, 20)
    np.testing.assert_array_equal(evaluate(small, {"x": values}), evaluate(scope, {"x": values})[2:6])
