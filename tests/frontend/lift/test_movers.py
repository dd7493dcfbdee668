"""Operators that only move elements agree with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies.single_nodes import assert_agrees, model_of, normal, shapes


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@given(shapes(), st.data())
@settings(max_examples=40, deadline=None)
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
@settings(max_examples=80, deadline=None)
def test_slice(shape: tuple[int, ...], data: st.DataObject) -> None:
    axes = data.draw(
        st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda axis: axis % len(shape), min_size=1)
    )
    steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in axes]
    starts = [data.draw(st.integers(-8, 8)) for _ in axes]
    far = {True: 2**63 - 1, False: -(2**63)}  # all that lies in the direction of the step
    ends = [data.draw(st.integers(-8, 8) | st.just(far[step > 0])) for step in steps]
    inputs = {"x": normal(0, *shape)}
    constants = {"s": ints(*starts), "e": ints(*ends), "a": ints(*axes), "t": ints(*steps)}
    assert_agrees(model_of("Slice", inputs, constants), inputs)


@given(shapes(), st.integers(1, 4), st.data())
@settings(max_examples=40, deadline=None)
def test_concat_and_split(shape: tuple[int, ...], count: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = [data.draw(st.integers(0, 3)) for _ in range(count)]
    sizes[0] += 1
    parts = [
        tuple(size if position == axis % len(shape) else extent for position, extent in enumerate(shape))
        for size in sizes
    ]
    inputs = {f"x{number}": normal(number, *part) for number, part in enumerate(parts)}
    assert_agrees(model_of("Concat", inputs, axis=axis), inputs)
    whole = {"x": np.concatenate(list(inputs.values()), axis=axis)}
    assert_agrees(model_of("Split", whole, {"s": ints(*sizes)}, outputs=count, axis=axis), whole)


@pytest.mark.parametrize(("extent", "parts"), [(6, 3), (7, 3), (5, 3)])
def test_split_evenly(extent: int, parts: int) -> None:
    inputs = {"x": normal(0, extent, 2)}
    assert_agrees(model_of("Split", inputs, outputs=parts, num_outputs=parts), inputs)


@given(st.sampled_from(["constant", "edge", "reflect", "wrap"]), shapes(largest=4), st.data())
@settings(max_examples=80, deadline=None)
def test_pad(mode: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    shape = tuple(extent + 2 for extent in shape)
    least = -1 if mode == "constant" else 0
    pads = [data.draw(st.integers(least, min(3, shape[axis % len(shape)] - 1))) for axis in range(2 * len(shape))]
    inputs = {"x": normal(0, *shape)}
    constants = {"p": ints(*pads)}
    if mode == "constant" and data.draw(st.booleans()):
        constants["v"] = np.array(1.5, np.float32)
    assert_agrees(model_of("Pad", inputs, constants, mode=mode, opset=19), inputs)


def test_pad_by_a_value_at_run_time() -> None:
    inputs = {"x": normal(0, 2, 3), "v": np.array(7, np.float32)}
    assert_agrees(model_of("Pad", inputs, {"p": ints(1, 0, 0, 2)}, order=["x", "p", "v"]), inputs)


def test_pad_some_axes() -> None:
    inputs = {"x": normal(0, 2, 3, 4)}
    assert_agrees(model_of("Pad", inputs, {"p": ints(1, 2), "a": ints(-1)}, order=["x", "p", "", "a"]), inputs)


@given(shapes(), st.data())
@settings(max_examples=30, deadline=None)
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


@given(
    st.sampled_from(["nearest", "linear"]),
    st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"]),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 12), st.integers(1, 12),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
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
