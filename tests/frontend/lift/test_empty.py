"""Tensors without elements and without axes are ordinary tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.strategies.single_nodes import Array, assert_agrees, model_of, normal


def empty(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


SCALAR: Array = np.array(3, np.float32)
CASES: list[tuple[str, dict[str, Array], dict[str, Array], dict[str, Any]]] = [
    ("Relu", {"x": empty(0, 3)}, {}, {}),
    ("Where", {"c": np.zeros((0, 1), np.bool_), "a": empty(1, 3), "b": empty(1, 3)}, {}, {}),
    ("MatMul", {"a": empty(2, 0), "b": empty(0, 3)}, {}, {}),
    ("Conv", {"x": empty(0, 2, 4, 4)}, {"w": normal(0, 3, 2, 3, 3)}, {}),
    ("Concat", {"a": empty(0, 3), "b": normal(0, 2, 3)}, {}, {"axis": 0}),
    ("ReduceSum", {"x": empty(2, 0)}, {"a": ints(1)}, {}),
    ("ReduceMax", {"x": empty(0, 2)}, {"a": ints(1)}, {}),
    ("Softmax", {"x": empty(0, 3)}, {}, {}),
    ("Transpose", {"x": empty(0, 3)}, {}, {}),
    ("Slice", {"x": normal(0, 4)}, {"s": ints(2), "e": ints(2)}, {}),
    ("Pad", {"x": empty(0, 3)}, {"p": ints(1, 0, 1, 0)}, {}),
    ("Gather", {"x": normal(0, 4, 3)}, {"i": ints()}, {}),
    ("Expand", {"x": normal(0, 1, 3)}, {"s": ints(0, 3)}, {}),
    ("Tile", {"x": normal(0, 2)}, {"s": ints(0)}, {}),
    ("Reshape", {"x": empty(0, 3)}, {"s": ints(3, 0)}, {"allowzero": 1}),
    ("Add", {"a": SCALAR, "b": SCALAR}, {}, {}),
    ("ReduceMean", {"x": SCALAR}, {}, {}),
    ("Reshape", {"x": SCALAR}, {"s": ints(1, 1)}, {}),
    ("Transpose", {"x": SCALAR}, {}, {}),
    ("Squeeze", {"x": normal(0, 1, 1)}, {}, {}),
    ("Flatten", {"x": normal(0, 3)}, {}, {"axis": 0}),
]


@pytest.mark.parametrize(("operator", "inputs", "constants", "attributes"), CASES)
def test_empty(
    operator: str, inputs: dict[str, Array], constants: dict[str, Array], attributes: dict[str, Any]
) -> None:
    assert_agrees(model_of(operator, inputs, constants, **attributes), inputs)
