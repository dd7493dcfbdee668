"""Reshapes, transposes, broadcasts and pixel shuffles agree with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.single_nodes import assert_agrees, model_of, normal, shapes


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@given(shapes(), st.data())
@settings(max_examples=40)
def test_transpose_and_reshape(shape: tuple[int, ...], data: st.DataObject) -> None:
    inputs = {"x": normal(0, *shape)}
    assert_agrees(model_of("Transpose", inputs, perm=data.draw(st.permutations(range(len(shape))))), inputs)
    assert_agrees(model_of("Reshape", inputs, {"s": ints(-1)}), inputs)
    order = data.draw(st.permutations(shape))
    assert_agrees(model_of("Reshape", inputs, {"s": ints(*order)}), inputs)
    assert_agrees(model_of("Flatten", inputs, axis=data.draw(st.integers(-len(shape), len(shape)))), inputs)
    assert_agrees(model_of("Unsqueeze", inputs, {"a": ints(0, -1)}), inputs)


def test_squeeze() -> None:
    inputs = {"x": normal(0, 1, 3, 1, 2)}
    assert_agrees(model_of("Squeeze", inputs), inputs)
    assert_agrees(model_of("Squeeze", inputs, {"a": ints(-2)}), inputs)
    assert_agrees(model_of("Squeeze", inputs, opset=11, axes=[0]), inputs)


@given(shapes(), st.data())
@settings(max_examples=30)
def test_expand_and_tile(shape: tuple[int, ...], data: st.DataObject) -> None:
    inputs = {"x": normal(0, *shape)}
    repeats = [data.draw(st.integers(1, 3)) for _ in shape]
    assert_agrees(model_of("Tile", inputs, {"r": ints(*repeats)}), inputs)
    wide = [repeat if extent == 1 else extent for extent, repeat in zip(shape, repeats, strict=True)]
    assert_agrees(model_of("Expand", inputs, {"s": ints(2, *wide)}), inputs)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    inputs = {"x": normal(0, 2, 12, 3, 4)}
    assert_agrees(model_of("DepthToSpace", inputs, blocksize=2, mode=mode), inputs)


def test_space_to_depth() -> None:
    inputs = {"x": normal(0, 2, 3, 4, 6)}
    assert_agrees(model_of("SpaceToDepth", inputs, blocksize=2), inputs)


def test_dropout() -> None:
    inputs = {"x": normal(0, 2, 3)}
    assert_agrees(model_of("Dropout", inputs, outputs=2, opset=13), inputs)
