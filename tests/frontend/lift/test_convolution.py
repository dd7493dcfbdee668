"""Conv and ConvTranspose of random geometry agree with ONNX Runtime."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tensoropt.ir.expression import Apply
from tensoropt.ir.program import Compute
from tests.strategies.single_nodes import assert_agrees, model_of, normal


@st.composite
def convolutions(draw: st.DrawFn, transposed: bool) -> tuple[Any, Any]:
    rank = draw(st.integers(1, 3))
    groups, per_group, filters = (draw(st.integers(1, 3)) for _ in range(3))
    axes = range(rank)
    kernel = [draw(st.integers(1, 3)) for _ in axes]
    dilations = [draw(st.integers(1, 3)) for _ in axes]
    strides = [draw(st.integers(1, 3)) for _ in axes]
    space = [(kernel[axis] - 1) * dilations[axis] + draw(st.integers(1, 4)) for axis in axes]
    attributes: dict[str, Any] = {"group": groups, "kernel_shape": kernel, "dilations": dilations, "strides": strides}
    padding = draw(st.sampled_from(["none", "explicit", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if padding == "explicit":
        attributes["pads"] = [
            draw(st.integers(0, 2 if not transposed else (kernel[axis % rank] - 1) // 2)) for axis in range(2 * rank)
        ]
    elif padding != "none" and not (transposed and any(found > 1 for found in dilations)):
        attributes["auto_pad"] = padding
        if padding.startswith("SAME") and not transposed:
            attributes["dilations"] = [1] * rank  # ONNX Runtime pads dilated windows by an older rule
    if transposed:
        extra = [draw(st.integers(0, stride - 1)) for stride, dilation in zip(strides, dilations, strict=True)]
        if "auto_pad" not in attributes and any(extra):
            attributes["output_padding"] = extra
        weight = normal(1, groups * per_group, filters, *kernel)
    else:
        weight = normal(1, groups * filters, per_group, *kernel)
    inputs = {"x": normal(0, draw(st.integers(1, 2)), groups * per_group, *space)}
    constants = {"w": weight}
    if draw(st.booleans()):
        constants["b"] = normal(2, groups * filters)
    return model_of("ConvTranspose" if transposed else "Conv", inputs, constants, **attributes), inputs


@given(convolutions(transposed=False))
@settings(max_examples=60, deadline=None)
def test_convolution(case: tuple[Any, Any]) -> None:
    assert_agrees(*case)


@given(convolutions(transposed=True))
@settings(max_examples=80, deadline=None)
def test_transposed_convolution(case: tuple[Any, Any]) -> None:
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


def test_output_shape_decides_the_padding() -> None:
    inputs, constants = {"x": normal(0, 1, 2, 3, 3)}, {"w": normal(1, 2, 2, 3, 3)}
    assert_agrees(model_of("ConvTranspose", inputs, constants, strides=[2, 2], output_shape=[6, 6]), inputs)
