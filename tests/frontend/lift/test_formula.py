"""Masks and position tables become formulas that give the same elements."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tensoropt.frontend.lift.formula import formula_of
from tensoropt.ir.expression import Scope
from tensoropt.ir.interpreter import evaluate
from tests.strategies.single_nodes import normal


@given(st.data())
@settings(max_examples=100)
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
