"""Conv of random geometry agrees with ONNX Runtime."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from tensoropt.ir.expression import Apply
from tensoropt.ir.program import Compute
from tests.strategies.convolutions import convolutions
from tests.strategies.single_nodes import assert_agrees, model_of, normal


@given(convolutions(transposed=False))
@settings(max_examples=60)
def test_convolution(case: tuple[Any, Any]) -> None:
    assert_agrees(*case)


def test_weights_may_be_an_input() -> None:
    inputs = {"x": normal(0, 1, 2, 5, 5), "w": normal(1, 3, 2, 3, 3)}
    assert_agrees(model_of("Conv", inputs), inputs)


def test_contraction_and_bias_are_two_statements() -> None:
    inputs = {"x": normal(0, 1, 4, 6, 6)}
    constants = {"w": normal(1, 4, 2, 3, 3), "b": normal(2, 4)}
    program = assert_agrees(model_of("Conv", inputs, constants, group=2, pads=[1, 1, 1, 1]), inputs)
    total, biased = program.statements
    assert isinstance(total, Compute)
    assert total.output.name == "y0.sum"
    assert isinstance(total.expression.body, Apply)
    assert [access.operation for access in [total.expression.body]] == ["mul"]
    assert biased.outputs[0].name == "y0"
