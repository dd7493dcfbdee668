"""Chains in slabs compute what they did, with the same bits where they are compiled, and chains that cannot be cut are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from codegen.targets.cpu import host_target
from passes.fuse import Fuse
from passes.pipeline import plan
from passes.slabs import NotSeparable, chain_of, in_slabs
from tensoropt.api.compiling import compiled
from tensoropt.frontend import load_program
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Program
from tensoropt.ir.verifier import verify
from tensoropt.pass_manager import Context

Array = np.ndarray[Any, Any]


def pooled(batch: int, channels: int, filters: int, size: int, biased: bool, pool: str) -> Program:
    """A convolution with a rectifier, a pooling, and a second convolution of kernels as they are fused."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((filters, channels, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", *(["b"] if biased else [])], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node(pool, ["r"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Conv", ["p", "v"], ["y"]),
    ]
    values = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(generator.standard_normal((5, filters, 1, 1)).astype(np.float32), "v"),
        *([numpy_helper.from_array(generator.standard_normal(filters).astype(np.float32), "b")] if biased else []),
    ]
    graph = helper.make_graph(
        nodes,
        "pooled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels, size, size])],
        [onnx.ValueInfoProto(name="y")],
        values,
    )
    program = load_program(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)).program
    return Fuse().run(program, Context(None))  # type: ignore[arg-type]  # it asks no cost model


@settings(max_examples=12)
@given(
    st.integers(1, 2), st.integers(1, 3), st.sampled_from([4, 8]), st.integers(5, 9), st.booleans(),
    st.sampled_from(["MaxPool", "AveragePool"]), st.sampled_from([2, 4]),
)  # fmt: skip
def test_slabs_give_the_same_bits(
    batch: int, channels: int, filters: int, size: int, biased: bool, pool: str, count: int
) -> None:
    program = pooled(batch, channels, filters, size, biased, pool)
    name = next(statement.outputs[0].name for statement in program.statements if "Relu_1" in statement.origin)
    chain = chain_of(program, name)
    assert chain is not None
    assert chain.axis == (0 if batch > 1 else 1)
    count = min(count, chain.extent)
    cut = in_slabs(program, chain, count)
    verify(cut)
    feeds = {"x": np.random.default_rng(1).standard_normal((batch, channels, size, size)).astype(np.float32)}
    np.testing.assert_array_equal(run_program(cut, feeds)["y"], run_program(program, feeds)["y"])
    target = host_target(1)
    before, after = compiled(program, target, {}), compiled(cut, target, {})
    np.testing.assert_allclose(after.model().run(feeds)["y"], before.model().run(feeds)["y"], rtol=1e-5, atol=1e-5)
    kernels = {step.shared.name for step in after.steps}
    assert len(kernels) == len({step.shared.name for step in before.steps})  # pieces share their code


def test_less_memory() -> None:
    program = pooled(1, 3, 16, 32, True, "MaxPool")
    name = next(statement.outputs[0].name for statement in program.statements if "Relu_1" in statement.origin)
    chain = chain_of(program, name)
    assert chain is not None
    assert plan(in_slabs(program, chain, 8)).arena_bytes < plan(program).arena_bytes / 2
    with pytest.raises(NotSeparable, match="16 points are not 3 equal pieces"):
        in_slabs(program, chain, 3)


def test_a_contraction_over_the_axis_cannot_be_cut() -> None:
    program = pooled(1, 3, 8, 8, False, "MaxPool")
    last = program.statements[-1].outputs[0].name
    assert chain_of(program, last) is None


def fused(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int]], values: dict[str, Array], opset: int = 18
) -> Program:
    """The kernels of a graph with the output y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return Fuse().run(load_program(model).program, Context(None))  # type: ignore[arg-type]


def test_two_chains_cut_in_other_numbers_of_pieces_share_a_constant() -> None:
    window: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1] * 4}
    nodes = [
        helper.make_node("MaxPool", ["x"], ["m"], **window),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("MaxPool", ["a"], ["c"], **window),
        helper.make_node("Conv", ["c", "w"], ["d"]),
        helper.make_node("MaxPool", ["d"], ["e"], **window),
        helper.make_node("Add", ["e", "b"], ["e1"]),
        helper.make_node("MaxPool", ["e1"], ["f"], **window),
        helper.make_node("Conv", ["f", "w"], ["y"]),
    ]
    weights = np.random.default_rng(0).standard_normal((8, 8, 1, 1)).astype(np.float32)
    values = {"w": weights, "b": np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1)}
    program = fused(nodes, {"x": [1, 8, 8, 8]}, values)
    cut = program
    for name, count in (("c", 2), ("f", 4)):
        chain = chain_of(cut, name)
        assert chain is not None
        cut = in_slabs(cut, chain, count)
        verify(cut)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 8, 8, 8)).astype(np.float32)}
    np.testing.assert_array_equal(run_program(cut, feeds)["y"], run_program(program, feeds)["y"])


def test_rows_that_are_normalised_are_not_cut() -> None:
    """The softmax's own maximum and sum read all of the value that the cut would take apart."""
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Softmax", ["m"], ["l"]),
        helper.make_node("MatMul", ["l", "v"], ["k"]),
        helper.make_node("MatMul", ["k", "u"], ["y"]),
    ]
    sizes = {"w": (16, 64), "v": (64, 32), "u": (32, 8)}
    values = {name: generator.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    program = fused(nodes, {"x": [1, 16]}, values)
    for statement in program.statements:
        chain = chain_of(program, statement.outputs[0].name)
        if chain is not None:
            verify(in_slabs(program, chain, 2))
            assert "l" not in {one.output.name for one in chain.statements}
