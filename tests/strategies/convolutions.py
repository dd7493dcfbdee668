"""Convolutions of random geometry, plain and transposed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.strategies.single_nodes import model_of, normal


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
