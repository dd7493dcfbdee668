"""Derivatives of every operator: by finite differences in f64, and against PyTorch's where it is installed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from passes.differentiate.reverse import differentiate
from tensoropt.errors import ModelError
from tensoropt.frontend import load_program
from tensoropt.frontend.lift.table import LIFTS
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.verifier import verify
from tests.strategies.differentiable import CASES, SMOOTH, WITHOUT, Case

Array = np.ndarray[Any, Any]


def gradients_of(case: Case, feeds: dict[str, Array]) -> dict[str, Array]:
    """The derivatives of the loss by every input, zero where it does not depend on one."""
    loaded = load_program(case.model())
    found = differentiate(loaded.program, "loss", case.inputs, loaded.operators)
    verify(found.program)
    values = run_program(found.program, feeds)
    return {
        name: values[found.gradients[name]] if name in found.gradients else np.zeros_like(feeds[name])
        for name in case.inputs
    }


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_derivatives_are_the_limits_of_differences(case: Case) -> None:
    feeds = case.feeds()
    found = gradients_of(case, feeds)
    program = load_program(case.model()).program
    generator = np.random.default_rng(1)
    step = 1e-6
    for name in case.inputs:
        direction = generator.standard_normal(feeds[name].shape)
        values = [
            float(run_program(program, {**feeds, name: feeds[name] + sign * step * direction})["loss"])
            for sign in (1, -1)
        ]
        slope = (values[0] - values[1]) / (2 * step)
        along = float((found[name] * direction).sum())
        assert along == pytest.approx(slope, rel=1e-6, abs=1e-6 * max(1.0, float(np.abs(found[name]).max(initial=0.0))))


@pytest.mark.parametrize("case", [case for case in CASES if case.torch], ids=str)
def test_derivatives_are_those_of_torch(case: Case) -> None:
    torch = pytest.importorskip("torch")
    from tensoropt.peers.torch_graph import TorchGraph

    feeds = case.feeds()
    graph = TorchGraph(case.model())
    inputs = [torch.tensor(feeds[name], requires_grad=True) for name in graph.inputs]
    (loss,) = graph(*inputs)
    expected = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
    found = gradients_of(case, feeds)
    for name, value in zip(graph.inputs, expected, strict=True):
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-10, atol=1e-12, err_msg=name)


def test_every_expressed_operator_has_a_case() -> None:
    cases = {case.operator for case in CASES}
    assert cases | WITHOUT.keys() >= {operator for _, operator in LIFTS}
    assert not cases & WITHOUT.keys()


def graph(nodes: list[onnx.NodeProto], inputs: dict[str, int], dims: list[int]) -> onnx.ModelProto:
    """A model with outputs ``loss`` and inputs of one shape and the given types."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, dims) for name, kind in inputs.items()],
        [helper.make_tensor_value_info("loss", TensorProto.FLOAT, [])],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_value_that_is_read_twice_gets_both_parts() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node("Add", ["square", "x"], ["both"]),
        helper.make_node("ReduceSum", ["both"], ["loss"], keepdims=0),
    ]
    program = load_program(graph(nodes, {"x": TensorProto.FLOAT}, [3])).program
    found = differentiate(program, "loss", ["x"])
    values = run_program(found.program, {"x": np.array([1, -2, 3], np.float32)})
    assert found.gradients == {"x": "x.grad"}
    np.testing.assert_array_equal(values["x.grad"], [3, -3, 7])


def test_a_weight_that_is_used_twice_has_one_derivative_under_its_name() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["first"]),
        helper.make_node("MatMul", ["first", "w"], ["second"]),
        helper.make_node("ReduceSum", ["second"], ["loss"], keepdims=0),
    ]
    program = load_program(graph(nodes, {"x": TensorProto.FLOAT, "w": TensorProto.FLOAT}, [2, 2])).program
    found = differentiate(program, "loss", ["x", "w"])
    assert found.gradients == {"x": "x.grad", "w": "w.grad"}
    x, w = np.array([[1, 2], [3, 4]], np.float32), np.array([[1, -1], [2, 0]], np.float32)
    ones = np.ones((2, 2), np.float32)
    values = run_program(found.program, {"x": x, "w": w})
    np.testing.assert_array_equal(values["w.grad"], (x @ w).T @ ones + x.T @ (ones @ w.T))
    np.testing.assert_array_equal(values["x.grad"], ones @ w.T @ w.T)


def test_casts_between_floats_hand_on_and_casts_to_integers_stop() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Cast", ["whole"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "real"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["loss"], keepdims=0),
    ]
    program = load_program(graph(nodes, {"x": TensorProto.FLOAT}, [3])).program
    found = differentiate(program, "loss", ["x"])
    values = run_program(found.program, {"x": np.array([1.5, -2.25, 3], np.float32)})
    np.testing.assert_array_equal(values["x.grad"], [1, -2, 3])


def test_an_opaque_operator_in_the_way_is_named() -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["d"], "determinant"),
        helper.make_node("ReduceSum", ["d"], ["loss"], keepdims=0),
    ]
    program = load_program(graph(nodes, {"x": TensorProto.FLOAT}, [2, 3, 3])).program
    with pytest.raises(ModelError, match="'determinant' \\(Det\\) is between the loss 'loss' and a parameter"):
        differentiate(program, "loss", ["x"])


def test_what_is_no_loss_is_refused() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["loss"])]
    program = load_program(graph(nodes, {"x": TensorProto.FLOAT}, [])).program
    with pytest.raises(ModelError, match="no output 'cost' to be the loss; its outputs are loss"):
        differentiate(program, "cost", ["x"])
    several = load_program(Case("Neg", ((3,),)).model()).program
    wide = several.with_statements(several.statements)
    with pytest.raises(ModelError, match="has to be one number"):
        differentiate(replace(wide, outputs=(wide.statements[0].outputs[0],)), "y", ["x0"])
    with pytest.raises(ModelError, match="does not depend on any parameter"):
        differentiate(program, "loss", [])
