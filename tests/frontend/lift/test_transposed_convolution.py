"""ConvTranspose of random geometry agrees with ONNX Runtime."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from tests.strategies.convolutions import convolutions
from tests.strategies.single_nodes import assert_agrees, model_of, normal


@given(convolutions(transposed=True))
@settings(max_examples=80)
def test_transposed_convolution(case: tuple[Any, Any]) -> None:
    assert_agrees(*case)


def test_output_shape_decides_the_padding() -> None:
    inputs, constants = {"x": normal(0, 1, 2, 3, 3)}, {"w": normal(1, 2, 2, 3, 3)}
    assert_agrees(model_of("ConvTranspose", inputs, constants, strides=[2, 2], output_shape=[6, 6]), inputs)
