"""Resize and Upsample agree with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.single_nodes import assert_agrees, model_of, normal


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@given(
    st.sampled_from(["nearest", "linear"]),
    st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"]),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 12), st.integers(1, 12),
)  # fmt: skip
@settings(max_examples=120)
def test_resize_to_sizes(
    mode: str, coordinates: str, rounding: str, height: int, width: int, rows: int, columns: int
) -> None:
    if mode == "nearest" and coordinates == "half_pixel_symmetric":
        coordinates = "half_pixel"  # ONNX Runtime breaks ties of the symmetric form by the last bit of f32
    inputs = {"x": normal(0, 1, 2, height, width)}
    model = model_of(
        "Resize", inputs, {"sizes": ints(1, 2, rows, columns)}, order=["x", "", "", "sizes"], opset=19,
        mode=mode, coordinate_transformation_mode=coordinates, nearest_mode=rounding,
    )  # fmt: skip
    assert_agrees(model, inputs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scale", [2.0, 3.0, 0.5, 1.5])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric"])
def test_resize_by_scales(mode: str, scale: float, coordinates: str) -> None:
    inputs = {"x": normal(0, 1, 2, 6, 8)}
    scales = np.array([1, 1, scale, scale], np.float32)
    model = model_of(
        "Resize",
        inputs,
        {"scales": scales},
        order=["x", "", "scales"],
        mode=mode,
        coordinate_transformation_mode=coordinates,
    )
    program = assert_agrees(model, inputs, rtol=1e-3, atol=1e-4)
    if mode == "nearest":
        assert not program.constants


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str) -> None:
    inputs, scales = {"x": normal(0, 1, 2, 3, 4)}, [1.0, 1.0, 2.0, 3.0]
    assert_agrees(model_of("Upsample", inputs, opset=7, mode=mode, scales=scales), inputs)
    assert_agrees(model_of("Upsample", inputs, {"s": np.array(scales, np.float32)}, opset=9, mode=mode), inputs)
