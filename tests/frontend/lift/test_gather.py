"""Gathers by constants agree with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.strategies.single_nodes import Array, assert_agrees, model_of, normal


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
