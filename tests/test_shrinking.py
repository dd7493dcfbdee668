"""Statements computed otherwise one after another: what one change took away is in no later one."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from passes.derive.cost import EstimatedCosts
from passes.plan.lifetimes import joined_storage
from passes.plan.of_program import problem_of
from passes.plan.realise import in_arena
from tensoropt.api.shrinking import Shrinking
from tensoropt.frontend import load_program
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Program

COLUMNS = 4096


def operand() -> Program:
    """A product whose left operand an element-wise statement computes of a pooled input."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["q"], kernel_shape=[1, 3], pads=[0, 1, 0, 1]),
        helper.make_node("Tanh", ["q"], ["p"]),
        helper.make_node("MatMul", ["p", "w"], ["m"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, COLUMNS])],
        [helper.make_empty_tensor_value_info("m")],
        [numpy_helper.from_array(np.ones((COLUMNS, 4), np.float32), "w")],
    )
    return load_program(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)).program


def test_an_inlined_operand_is_in_no_chain() -> None:
    program = operand()
    problem = in_arena(problem_of(program, EstimatedCosts(), joined_storage(program)))
    shrinking = Shrinking(program, problem, {"m": 64})
    found = shrinking.within(4 * COLUMNS - 100, 0.02)
    assert found is not None
    assert found.inlined == ("m",)
    assert "p" not in {statement.outputs[0].name for statement in found.program.statements}
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 1, 1, COLUMNS)).astype(np.float32)}
    np.testing.assert_array_equal(run_program(found.program, feeds)["m"], run_program(program, feeds)["m"])


def test_nothing_is_done_within_the_budget() -> None:
    program = operand()
    problem = in_arena(problem_of(program, EstimatedCosts(), joined_storage(program)))
    assert Shrinking(program, problem, {}).within(1 << 30, 1.0) is None
