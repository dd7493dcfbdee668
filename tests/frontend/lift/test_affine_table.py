"""Integer tables become quasi-affine indices; what these give is what the table gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tensoropt.frontend.lift.affine_table import fit_clamped, fit_index
from tensoropt.ir.index import Index, Iterator
from tests.strategies.single_nodes import Array


def iterators(*extents: int) -> list[Iterator]:
    return [Iterator(name, extent) for name, extent in zip("ijkl", extents, strict=False)]


def values(index: Index, over: list[Iterator]) -> Array:
    grids = np.meshgrid(*(np.arange(iterator.extent) for iterator in over), indexing="ij")
    found = index.evaluate(dict(zip(over, grids, strict=True)).__getitem__)
    return np.broadcast_to(found, [iterator.extent for iterator in over])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.data())
@settings(max_examples=200)
def test_affine_tables_are_found(extents: list[int], data: st.DataObject) -> None:
    over = iterators(*extents)
    index = Index.of(data.draw(st.integers(-5, 5)))
    for iterator in over:
        index = index + Index.of(iterator) * data.draw(st.integers(-4, 4))
    found = fit_index(values(index, over), over)
    assert found is not None
    np.testing.assert_array_equal(values(found, over), values(index, over))


@given(st.integers(2, 60), st.integers(1, 9), st.integers(1, 9), st.integers(-3, 3), st.integers(-3, 3))
@settings(max_examples=200)
def test_digits_are_found(extent: int, period: int, inner: int, outer: int, step: int) -> None:
    (i,) = iterators(extent)
    index = Index.of(i) // period * outer + Index.of(i) % period // inner * step
    found = fit_index(values(index, [i]), [i])
    assert found is not None or inner > 1
    if found is not None:
        np.testing.assert_array_equal(values(found, [i]), values(index, [i]))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 12))
@settings(max_examples=200)
def test_fractions_are_found(extent: int, factor: int, divisor: int, offset: int) -> None:
    (i,) = iterators(extent)
    table = (np.arange(extent) * factor + offset) // divisor
    found = fit_index(table, [i])
    assert found is not None
    np.testing.assert_array_equal(values(found, [i]), table)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30))
@settings(max_examples=200)
def test_nothing_wrong_is_found(table: list[int]) -> None:
    (i,) = iterators(len(table))
    found = fit_index(np.array(table), [i])
    if found is not None:
        np.testing.assert_array_equal(values(found, [i]), table)


@given(st.integers(3, 40), st.integers(-40, 40))
@settings(max_examples=100)
def test_rolled_axes_are_one_modulo(extent: int, shift: int) -> None:
    (i,) = iterators(extent)
    found = fit_index(np.roll(np.arange(extent), shift), [i])
    assert found is (Index.of(i) - shift) % extent


def test_clamped_window() -> None:
    rows, columns = iterators(50, 9)
    table = np.clip(np.arange(50)[:, None] + 2 * (np.arange(9) - 4), 0, 49)
    found = fit_clamped(table, [rows, columns])
    assert found is not None
    assert found.index is Index.of(rows) + Index.of(columns) * 2 - 8
    assert (found.low, found.high) == (0, 49)
