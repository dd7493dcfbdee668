"""Operators whose elements depend on their position agree with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.strategies.single_nodes import Array, assert_agrees, model_of, normal


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("shift", [None, -2, 0, 3])
def test_trilu(upper: int, shift: int | None) -> None:
    inputs = {"x": normal(0, 2, 4, 5)}
    constants = None if shift is None else {"k": np.array(shift, np.int64)}
    assert_agrees(model_of("Trilu", inputs, constants, upper=upper), inputs)


@pytest.mark.parametrize("diagonal", [-1, 0, 2])
def test_eye_like(diagonal: int) -> None:
    inputs = {"x": normal(0, 3, 4)}
    assert_agrees(model_of("EyeLike", inputs, k=diagonal), inputs)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis: int) -> None:
    inputs = {"i": np.array([[0, 2, -1], [4, 1, -5]], np.int64)}
    constants: dict[str, Array] = {"depth": np.array(5, np.int64), "values": np.array([0.5, 2], np.float32)}
    assert_agrees(model_of("OneHot", inputs, constants, axis=axis), inputs)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
def test_running_sum(exclusive: int, reverse: int, axis: int) -> None:
    inputs = {"x": normal(0, 4, 5)}
    constants = {"axis": np.array(axis, np.int64)}
    assert_agrees(model_of("CumSum", inputs, constants, exclusive=exclusive, reverse=reverse), inputs)
