"""Statements computed otherwise one after another: what one change took away is in no later one."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from codegen.tune.leaner import Leaner
from passes.derive.cost import EstimatedCosts
from passes.fuse import Fuse
from passes.plan.lifetimes import joined_storage
from passes.plan.of_program import problem_of
from passes.plan.realise import in_arena
from passes.plan.storage import storage_of
from tensoropt.api.shrinking import Shrinking, Written
from tensoropt.frontend import load_program
from tensoropt.ir.expression import Tensor, replace_sources
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program
from tensoropt.pass_manager import Context

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


def no_other(statement: Compute, most: int) -> None:
    """No kernel of another variant."""


def no_written(statement: Compute) -> None:
    """No statement that was rewritten."""


def test_an_inlined_operand_is_in_no_chain() -> None:
    program = operand()
    problem = in_arena(problem_of(program, EstimatedCosts(), joined_storage(program)))
    shrinking = Shrinking(program, problem, {"m": 64}, storage_of(program), no_other, no_written)
    most = 4 * COLUMNS - 100
    found = shrinking.within(most, most, 0.02)
    assert found is not None
    assert found.inlined == ("m",)
    assert "p" not in {statement.outputs[0].name for statement in found.program.statements}
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 1, 1, COLUMNS)).astype(np.float32)}
    np.testing.assert_array_equal(run_program(found.program, feeds)["m"], run_program(program, feeds)["m"])


def test_nothing_is_done_within_the_budget() -> None:
    program = operand()
    problem = in_arena(problem_of(program, EstimatedCosts(), joined_storage(program)))
    assert (
        Shrinking(program, problem, {}, storage_of(program), no_other, no_written).within(1 << 30, 1 << 30, 1.0) is None
    )


def test_a_kernel_with_less_scratch_memory_where_that_is_enough() -> None:
    """What is asked of it is what the statement is over the goal by; what takes too long, or saves too little, is not taken."""
    program = operand()
    problem = in_arena(problem_of(program, EstimatedCosts(), joined_storage(program)))
    values, scratch = 4 * COLUMNS + 16, 1 << 20
    steps = tuple(replace(step, workspace=scratch if step.name == "m" else 0) for step in problem.steps)
    problem = replace(problem, steps=steps)
    asked: list[int] = []

    def another(workspace: int, share: float) -> Shrinking:
        def found(statement: Compute, most: int) -> Leaner:
            assert statement.output.name == "m"
            asked.append(most)
            return Leaner({"contraction": 3}, workspace, share * problem.duration / 1e9)

        return Shrinking(program, problem, {"m": scratch}, storage_of(program), found, no_written)

    for alone in (
        1 << 30,
        8 * COLUMNS,
    ):  # what is live may be for a plan to save; what it needs by itself must be saved
        live = 8 * COLUMNS
        found = another(1 << 10, 0.01).within(alone, live, 0.02)
        assert found is not None
        assert {name: one.workspace for name, one in found.leaner.items()} == {"m": 1 << 10}
        assert (found.cut, found.inlined, found.program) == ((), (), program)
        assert 8 * COLUMNS - values - 64 <= asked[-1] <= 8 * COLUMNS - values + 64
        slow = another(1 << 10, 0.5).within(alone, live, 0.02)
        assert (slow is not None and "m" in slow.leaner) == (alone == live)
        much = another(scratch * 99 // 100, 0.0).within(alone, live, 0.02)
        assert much is None or "m" not in much.leaner


def test_a_statement_as_the_model_says_it() -> None:
    """Where its kernel needs less scratch memory, and no variant of the one that there is does."""
    program = operand()
    problem = in_arena(problem_of(program, EstimatedCosts(), joined_storage(program)))
    scratch, live = 1 << 20, 8 * COLUMNS
    (product,) = (one for one in program.statements if isinstance(one, Compute) and one.output.name == "m")
    weight = next(tensor for tensor in product.inputs if tensor.name == "w")
    other = Tensor("w_as_it_was", weight.type)
    constants = {other.name: program.constants["w"]}
    statement = replace(product, expression=replace_sources(product.expression, {weight: other}))

    def written(asked: Compute) -> Written:
        assert asked is product
        return Written(statement, constants, 0, 0.0)

    found = Shrinking(program, problem, {"m": scratch}, storage_of(program), no_other, written).within(live, live, 0.02)
    assert found is not None
    assert (found.written, found.cut, dict(found.leaner)) == (("m",), (), {})
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 1, 1, COLUMNS)).astype(np.float32)}
    np.testing.assert_array_equal(run_program(found.program, feeds)["m"], run_program(program, feeds)["m"])


def test_a_concatenation_that_is_joined_is_in_no_chain() -> None:
    """And its parts, which lie in it, are no values beside it."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("AveragePool", ["a"], ["b"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Concat", ["a", "b"], ["c"], axis=1),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("AveragePool", ["d"], ["y"], kernel_shape=[32, 32]),
    ]
    graph = helper.make_graph(
        nodes,
        "joined",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 32, 32])],
        [helper.make_empty_tensor_value_info("y")],
    )
    program = load_program(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)).program
    kernels = Fuse().run(program, Context(EstimatedCosts()))
    joined, apart = storage_of(kernels, ()), storage_of(kernels)
    assert joined.parts.keys() == {"a", "b"}
    whole = 2 * 4 * 32 * 32 * 4
    cuts = {}
    for storage in (joined, apart):
        problem = in_arena(problem_of(kernels, EstimatedCosts(), storage))
        known = Shrinking(kernels, problem, {}, storage, no_other, no_written).known()
        assert sum(known.others["d"].values()) == 2 * whole
        found = Shrinking(kernels, problem, {}, storage, no_other, no_written).within(
            3 * whole // 2, 3 * whole // 2, inf
        )
        assert found is not None
        cuts[storage is joined] = found.cut
        assert ("c" in known.cut) == (storage is joined)
        changed = found.program
        feeds = {"x": np.random.default_rng(0).standard_normal((1, 4, 32, 32)).astype(np.float32)}
        np.testing.assert_array_equal(run_program(changed, feeds)["y"], run_program(kernels, feeds)["y"])
    assert cuts[True]


def test_an_operand_that_is_not_stored_has_no_kernel() -> None:
    """Another kernel was found for it, and then what reads it computes it."""
    program = operand()
    storage = storage_of(program)
    problem = in_arena(problem_of(program, EstimatedCosts(), storage))
    steps = tuple(replace(step, workspace=1 << 20 if step.name == "p" else 0) for step in problem.steps)
    most = 4 * COLUMNS - 100

    def found(statement: Compute, most: int) -> Leaner | None:
        return Leaner({}, 0, 0.0) if statement.output.name == "p" else None

    shrinking = Shrinking(program, replace(problem, steps=steps), {"p": 1 << 20}, storage, found, no_written)
    less = shrinking.within(most, most, 0.02)
    assert less is not None
    assert less.inlined == ("m",)
    assert not less.leaner
