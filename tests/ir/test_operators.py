"""Every library operator, built from its parameters, computes what an independent definition says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.operators import (
    BandMatmul,
    Convolution,
    ElementWise,
    Matmul,
    MatmulBand,
    Operator,
    Reduction,
    operator_named,
)
from tensoropt.ir.types import DataType
from tests.strategies.expressions import tensor

Array = np.ndarray[Any, Any]


def computed(operator: Operator, *values: Array) -> Array:
    """The value on operands with these contents; the operator is taken through its name and parameters."""
    again = operator_named(operator.name, operator.parameters)
    assert again == operator
    operands = [tensor(name, *value.shape) for name, value in zip("PQ", values, strict=False)]
    scope = again.expression(operands, DataType.FLOAT32)
    return evaluate(scope, dict(zip("PQ", values, strict=False)))


def integers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


@pytest.mark.parametrize("left", ["bmk", "bkm", "mk", "km", "mbk"])
@pytest.mark.parametrize("right", ["bkn", "bnk", "kn", "nk", "kbn"])
def test_matmul_in_all_layouts(left: str, right: str) -> None:
    sizes = {"b": 2, "m": 3, "n": 4, "k": 5}
    one, other = (integers(seed, *(sizes[letter] for letter in text)) for seed, text in enumerate((left, right)))
    batched = "b" in left + right
    operator = Matmul(2 if batched else 1, 3, 4, 5, left, right)
    assert operator.name == ("batch_matmul" if batched else "matmul")
    wanted = np.einsum(f"{left},{right}->{'b' if batched else ''}mn", one, other)
    assert np.array_equal(computed(operator, one, other), wanted)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Convolution, tuple[int, ...]]:
    rank = draw(st.integers(1, 3))

    def numbers(low: int, high: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(low, high)] * rank))

    groups = draw(st.sampled_from([1, 1, 2, 3]))
    each = draw(st.integers(1, 2))
    kernel, strides, dilations = numbers(1, 3), numbers(1, 3), numbers(1, 2)
    begins, ends, rows = numbers(0, 2), numbers(0, 2), numbers(0, 2)
    sizes = tuple(
        max(1, dilation * (tap - 1) + 1 - begin - end) + extra
        for dilation, tap, begin, end, extra in zip(dilations, kernel, begins, ends, rows, strict=True)
    )
    letters = "012"[:rank]
    data, weights = ("igc", "gfc") if groups > 1 else ("ic", "fc")
    operator = Convolution(
        draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        groups * each,
        kernel,
        strides,
        dilations,
        begins,
        ends,
        groups,
        data + letters,
        weights + letters,
    )
    return operator, sizes


@settings(max_examples=60, derandomize=True)
@given(convolutions())
def test_convolution_is_that_of_onnx(case: tuple[Convolution, tuple[int, ...]]) -> None:
    operator, sizes = case
    each, filters = operator.channels // operator.groups, operator.filters // operator.groups
    data = integers(1, operator.images, operator.channels, *sizes)
    kernel = integers(2, operator.filters, each, *operator.kernel)
    node = helper.make_node(
        "Conv",
        ["A", "K"],
        ["O"],
        strides=operator.strides,
        dilations=operator.dilations,
        pads=[*operator.pads_begin, *operator.pads_end],
        group=operator.groups,
    )
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        for name, value in zip("AK", (data, kernel), strict=True)
    ]
    output = helper.make_tensor_value_info("O", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "g", inputs, [output]))
    results: Any = ReferenceEvaluator(model).run(None, {"A": data, "K": kernel})
    wanted: Array = results[0]
    if operator.groups > 1:
        data = data.reshape(operator.images, operator.groups, each, *sizes)
        kernel = kernel.reshape(operator.groups, filters, each, *operator.kernel)
    assert np.array_equal(computed(operator, data, kernel).reshape(wanted.shape), wanted)
    depthwise = operator.groups > 1 and each == 1
    assert operator.name == ("depthwise_convolution" if depthwise else "convolution")


@pytest.mark.parametrize(("dilation", "offset"), [(1, 0), (1, 2), (2, 4), (3, 1)])
def test_bands(dilation: int, offset: int) -> None:
    batch, rows, width, depth = 2, 7, 5, 3
    left, right = integers(1, batch, rows, depth), integers(2, batch, rows, depth)
    band = integers(3, batch, rows, width)
    products, sums = np.zeros((batch, rows, width), np.float32), np.zeros((batch, rows, depth), np.float32)
    for m in range(rows):
        for w in range(width):
            place = m + dilation * w - offset
            if 0 <= place < rows:
                products[:, m, w] = (left[:, m] * right[:, place]).sum(axis=-1)
                sums[:, m] += band[:, m, w, None] * right[:, place]
    found = computed(BandMatmul(batch, rows, width, depth, dilation, offset, "bmk", "bmk"), left, right)
    assert np.array_equal(found, products)
    turned = computed(
        BandMatmul(batch, rows, width, depth, dilation, offset, "kbm", "mkb"),
        left.transpose(2, 0, 1),
        right.transpose(1, 2, 0),
    )
    assert np.array_equal(turned, products)
    found = computed(MatmulBand(batch, rows, depth, width, dilation, offset, "bmw", "bmn"), band, right)
    assert np.array_equal(found, sums)


@pytest.mark.parametrize(("reducer", "numpy"), [("sum", np.sum), ("max", np.max), ("min", np.min), ("prod", np.prod)])
@pytest.mark.parametrize("layout", ["xr", "rx", "xrx", "rxr"])
def test_reduction(reducer: str, numpy: Any, layout: str) -> None:
    value = integers(4, *(3, 2, 4)[: len(layout)])
    axes = tuple(place for place, letter in enumerate(layout) if letter == "r")
    assert np.array_equal(computed(Reduction(reducer, layout), value), numpy(value, axis=axes))


def test_element_wise() -> None:
    one, other = integers(5, 3, 4), integers(6, 3, 4)
    assert np.array_equal(computed(ElementWise("add"), one, other), one + other)
    assert np.array_equal(computed(ElementWise("relu"), one), np.maximum(one, 0))


def test_operands_of_other_types_are_cast() -> None:
    one = Tensor("P", tensor("P", 2, 3).type)
    half = DataType.FLOAT16
    other = Tensor("Q", type(one.type)(half, tensor("Q", 3, 2).shape))
    scope = Matmul(1, 2, 2, 3, "mk", "kn").expression([one, other], DataType.FLOAT32)
    assert isinstance(scope, Scope)
    values = {"P": integers(7, 2, 3), "Q": integers(8, 3, 2).astype(np.float16)}
    assert np.array_equal(evaluate(scope, values), values["P"] @ values["Q"].astype(np.float32))


def test_an_unknown_operator_is_an_error() -> None:
    with pytest.raises(KeyError):
        operator_named("winograd", ())
