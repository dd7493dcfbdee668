"""Pooling of random geometry agrees with ONNX Runtime."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.single_nodes import assert_agrees, model_of, normal


@st.composite
def pools(draw: st.DrawFn) -> tuple[Any, Any]:
    operator = draw(st.sampled_from(["MaxPool", "AveragePool", "LpPool"]))
    rank = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)] if operator == "MaxPool" else [1] * rank
    space = [(kernel[axis] - 1) * dilations[axis] + draw(st.integers(1, 5)) for axis in range(rank)]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if operator == "MaxPool":
        attributes["dilations"] = dilations
    if operator == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    padding = draw(st.sampled_from(["none", "explicit", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if padding == "explicit":
        attributes["pads"] = [draw(st.integers(0, kernel[axis % rank] - 1)) for axis in range(2 * rank)]
    elif padding != "none" and set(dilations) == {1} and all(k >= s for k, s in zip(kernel, strides, strict=True)):
        attributes["auto_pad"] = padding
    if draw(st.booleans()) and "auto_pad" not in attributes and operator != "LpPool":
        attributes["ceil_mode"] = 1
    inputs = {"x": normal(0, 1, 2, *space)}
    return model_of(operator, inputs, opset=19 if operator == "AveragePool" else 18, **attributes), inputs


@given(pools())
@settings(max_examples=120)
def test_pools(case: tuple[Any, Any]) -> None:
    assert_agrees(*case)


@given(st.sampled_from(["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"]), st.integers(1, 3))
@settings(max_examples=12)
def test_global_pools(operator: str, rank: int) -> None:
    inputs = {"x": normal(0, 2, 3, *[4, 3, 2][:rank])}
    assert_agrees(model_of(operator, inputs), inputs)
