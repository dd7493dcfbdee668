"""Kernels that write into a box of a larger array: every schedule, batches and odd shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from codegen.targets.cpu import host_target
from passes.fuse import Fuse
from tensoropt.api.compiling import compiled
from tensoropt.frontend import load_program
from tensoropt.ir.interpreter import run_program
from tensoropt.pass_manager import Context

KINDS = ("Conv", "Pointwise", "Softmax", "MaxPool", "Tanh", "LayerNormalization")


def node_of(kind: str, name: str) -> onnx.NodeProto:
    """An operator that keeps rows and columns of x."""
    match kind:
        case "Conv":
            return helper.make_node("Conv", ["x", "w"], [name], pads=[1] * 4)
        case "Pointwise":
            return helper.make_node("Conv", ["x", "v"], [name])
        case "Softmax":
            return helper.make_node("Softmax", ["x"], [name], axis=3)
        case "MaxPool":
            return helper.make_node("MaxPool", ["x"], [name], kernel_shape=[3, 3], pads=[1] * 4)
        case "LayerNormalization":
            return helper.make_node("LayerNormalization", ["x", "s"], [name], axis=3)
        case _:
            return helper.make_node(kind, ["x"], [name])


@settings(max_examples=8)
@given(
    st.lists(st.sampled_from(KINDS), min_size=2, max_size=3), st.integers(2, 3), st.integers(1, 9), st.integers(1, 37),
    st.integers(1, 2),
)  # fmt: skip
def test_parts_of_an_output(kinds: list[str], batch: int, rows: int, columns: int, threads: int) -> None:
    generator = np.random.default_rng(0)
    channels = 6
    shapes: dict[str, tuple[int, ...]] = {"w": (16, channels, 3, 3), "v": (20, channels, 1, 1), "s": (columns,)}
    names = [f"a{number}" for number in range(len(kinds))]
    nodes = [node_of(kind, name) for kind, name in zip(kinds, names, strict=True)]
    nodes.append(helper.make_node("Concat", names, ["y"], axis=1))
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels, rows, columns])],
        [onnx.ValueInfoProto(name="y")],
        [
            numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name)
            for name, shape in shapes.items()
            if name in read
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    program = Fuse().run(load_program(model).program, Context(None))  # type: ignore[arg-type]  # it asks no cost model
    built = compiled(program, host_target(threads), {})
    feeds: dict[str, Any] = {"x": generator.standard_normal((batch, channels, rows, columns)).astype(np.float32)}
    values = run_program(program, feeds)
    assert built.plan.strides.keys() <= {*names}
    for part in built.plan.strides:
        assert built.plan.inside[part] == "y"
    np.testing.assert_allclose(built.model().run(feeds)["y"], values["y"], rtol=1e-4, atol=1e-5)
    for statement in program.statements:
        name = statement.outputs[0].name
        np.testing.assert_allclose(built.execute(statement, values)[name], values[name], rtol=1e-4, atol=1e-5)
    if len(kinds) == len(built.steps):
        assert built.plan.strides.keys() == {*names}
