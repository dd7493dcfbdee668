"""Derivatives of convolutions and poolings over shapes, groups, strides, dilations and pads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from passes.differentiate.reverse import differentiate
from tensoropt.frontend import load_program
from tensoropt.ir.interpreter import run_program
from tests.strategies.differentiable import Case


@st.composite
def windowed(draw: st.DrawFn) -> Case:
    """Conv, ConvTranspose, MaxPool or AveragePool in one or two dimensions."""
    operator = draw(st.sampled_from(["Conv", "ConvTranspose", "MaxPool", "AveragePool"]))
    rank = 2 if operator == "AveragePool" else draw(st.integers(1, 2))
    groups = draw(st.integers(1, 2)) if "Conv" in operator else 1
    channels, filters = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    strides = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    dilated = operator != "AveragePool"
    dilations = draw(st.lists(st.integers(1, 3 if dilated else 1), min_size=rank, max_size=rank))
    spans = [(extent - 1) * dilation + 1 for extent, dilation in zip(kernel, dilations, strict=True)]
    most = [extent // 2 if "Pool" in operator else 3 for extent in kernel]
    pads = [draw(st.integers(0, bound)) for bound in most]
    space = [draw(st.integers(max(1, span - 2 * pad), span + 6)) for span, pad in zip(spans, pads, strict=True)]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": [*pads, *pads]}
    if dilated:
        attributes["dilations"] = dilations
    image = (draw(st.integers(1, 2)), channels, *space)
    if operator == "Conv":
        return Case(operator, (image, (filters, channels // groups, *kernel)), {**attributes, "group": groups})
    if operator == "ConvTranspose":
        outputs = [
            (extent - 1) * stride - 2 * pad + span
            for extent, stride, pad, span in zip(space, strides, pads, spans, strict=True)
        ]
        assume(min(outputs) > 0)
        return Case(operator, (image, (channels, filters // groups, *kernel)), {**attributes, "group": groups})
    return Case(operator, (image,), attributes, ties=operator == "MaxPool" and draw(st.booleans()))


def derivatives(case: Case) -> dict[str, Any]:
    loaded = load_program(case.model())
    found = differentiate(loaded.program, "loss", case.inputs, loaded.operators)
    values = run_program(found.program, case.feeds())
    return {name: values[gradient] for name, gradient in found.gradients.items()}


@settings(max_examples=60)
@given(windowed())
def test_a_linear_operator_and_its_derivative_are_adjoint(case: Case) -> None:
    """The loss is linear in every operand by itself, so each derivative gives the loss back."""
    assume(case.operator != "MaxPool" or not case.ties)
    feeds = case.feeds()
    loss = float(run_program(load_program(case.model()).program, feeds)["loss"])
    for name, gradient in derivatives(case).items():
        assume(np.isfinite(loss))  # a window of padding alone has the maximum of nothing
        assert float((gradient * feeds[name]).sum()) == pytest.approx(loss, rel=1e-9, abs=1e-9)


@settings(max_examples=60)
@given(windowed())
def test_derivatives_are_those_of_torch(case: Case) -> None:
    torch = pytest.importorskip("torch")
    from tensoropt.peers.torch_graph import TorchGraph

    graph, feeds = TorchGraph(case.model()), case.feeds()
    inputs = [torch.tensor(feeds[name], requires_grad=True) for name in graph.inputs]
    try:
        (loss,) = graph(*inputs)
    except RuntimeError:  # forms that torch does not take, such as an empty result
        assume(False)
    assume(bool(torch.isfinite(loss)))  # for a window of padding alone torch chooses an element that is not in it
    expected = torch.autograd.grad(loss, inputs)
    found = derivatives(case)
    for name, value in zip(graph.inputs, expected, strict=True):
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-9, atol=1e-10, err_msg=name)
