"""Constant index tables and masks become quasi-affine maps; what they give is what the table gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensoropt.frontend.lift.affine_table import fit_clamped, fit_index
from tensoropt.frontend.lift.box_mask import fit_box
from tensoropt.frontend.lift.formula import formula_of
from tensoropt.ir.expression import Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tests.strategies.single_nodes import Array, assert_agrees, model_of, normal


def iterators(*extents: int) -> list[Iterator]:
    return [Iterator(name, extent) for name, extent in zip("ijkl", extents, strict=False)]


def values(index: Index, over: list[Iterator]) -> Array:
    grids = np.meshgrid(*(np.arange(iterator.extent) for iterator in over), indexing="ij")
    found = index.evaluate(dict(zip(over, grids, strict=True)).__getitem__)
    return np.broadcast_to(found, [iterator.extent for iterator in over])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.data())
@settings(max_examples=200, deadline=None)
def test_affine_tables_are_found(extents: list[int], data: st.DataObject) -> None:
    over = iterators(*extents)
    index = Index.of(data.draw(st.integers(-5, 5)))
    for iterator in over:
        index = index + Index.of(iterator) * data.draw(st.integers(-4, 4))
    found = fit_index(values(index, over), over)
    assert found is not None
    np.testing.assert_array_equal(values(found, over), values(index, over))


@given(st.integers(2, 60), st.integers(1, 9), st.integers(1, 9), st.integers(-3, 3), st.integers(-3, 3))
@settings(max_examples=200, deadline=None)
def test_digits_are_found(extent: int, period: int, inner: int, outer: int, step: int) -> None:
    (i,) = iterators(extent)
    index = Index.of(i) // period * outer + Index.of(i) % period // inner * step
    found = fit_index(values(index, [i]), [i])
    assert found is not None or inner > 1
    if found is not None:
        np.testing.assert_array_equal(values(found, [i]), values(index, [i]))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_fractions_are_found(extent: int, factor: int, divisor: int, offset: int) -> None:
    (i,) = iterators(extent)
    table = (np.arange(extent) * factor + offset) // divisor
    found = fit_index(table, [i])
    assert found is not None
    np.testing.assert_array_equal(values(found, [i]), table)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_nothing_wrong_is_found(table: list[int]) -> None:
    (i,) = iterators(len(table))
    found = fit_index(np.array(table), [i])
    if found is not None:
        np.testing.assert_array_equal(values(found, [i]), table)


def test_clamped_window() -> None:
    rows, columns = iterators(50, 9)
    table = np.clip(np.arange(50)[:, None] + 2 * (np.arange(9) - 4), 0, 49)
    found = fit_clamped(table, [rows, columns])
    assert found is not None
    assert found.index is Index.of(rows) + Index.of(columns) * 2 - 8
    assert (found.low, found.high) == (0, 49)


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_band_mask(dilation: int) -> None:
    rows, columns = iterators(40, 9)
    position = np.arange(40)[:, None] + dilation * (np.arange(9) - 4)
    bounds = fit_box((position >= 0) & (position < 40), [rows, columns])
    assert bounds is not None
    (bound,) = bounds
    assert bound.index is Index.of(rows) + Index.of(columns) * dilation
    assert (bound.low, bound.high) == (4 * dilation, 39 + 4 * dilation)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_masks_give_what_they_hold(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(32, 60)), data.draw(st.integers(32, 60))
    i, j = np.arange(rows)[:, None], np.arange(columns)[None, :]
    kind = data.draw(st.sampled_from(["band", "causal", "box", "noise"]))
    width = data.draw(st.integers(1, 20))
    mask = {
        "band": abs(i - j) <= width,
        "causal": i - j >= -width,
        "box": (i >= width) & (j < columns - width) & (i * 0 + j >= 3),
        "noise": np.random.default_rng(width).random((rows, columns)) < 0.5,
    }[kind]
    array = np.where(mask, np.float32(0), np.float32(-np.inf))
    formula = formula_of(array)
    assert (formula is None) == (kind == "noise") or kind == "band"
    if formula is not None:
        np.testing.assert_array_equal(evaluate(Scope(formula.iterators, formula.body), {}), array)


def test_position_tables() -> None:
    for dtype in (np.int64, np.float32):
        array = (np.arange(64)[:, None] * 3 + np.arange(32)).astype(dtype)
        formula = formula_of(array)
        assert formula is not None
        np.testing.assert_array_equal(evaluate(Scope(formula.iterators, formula.body), {}), array)
    assert formula_of(normal(0, 64, 32)) is None


@pytest.mark.parametrize(
    "table",
    [
        np.array(2),
        np.array([0, 2, 4]),
        np.array([-1, 0, 1]),
        np.array([3, 1, 4, 1]),
        np.arange(6).reshape(2, 3) // 2,
        np.clip(np.arange(20) - 5, 0, 4),
    ],
)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(table: Array, axis: int) -> None:
    inputs = {"x": normal(0, 5, 6, 7)}
    assert_agrees(model_of("Gather", inputs, {"i": table.astype(np.int64)}, axis=axis), inputs)


def test_gather_elements_and_nd() -> None:
    inputs = {"x": normal(0, 4, 6)}
    assert_agrees(
        model_of("GatherElements", inputs, {"i": np.arange(4)[:, None] + np.arange(3)[None, :]}, axis=1), inputs
    )
    assert_agrees(model_of("GatherND", inputs, {"i": np.stack([np.arange(4), np.arange(4) + 2], axis=1)}), inputs)
    assert_agrees(model_of("GatherND", inputs, {"i": np.array([[1], [3]])}), inputs)
