"""Chains in slabs compute what they did, whatever the axis, the number of pieces and what becomes of the halo."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from codegen.targets.cpu import host_target
from passes.fuse import Fuse
from passes.pipeline import plan
from passes.plan.lifetimes import joined_storage
from passes.slabs.choosing import chains
from passes.slabs.cutting import Halo, Slabs, in_slabs
from tensoropt.api.compiling import compiled
from tensoropt.frontend import load_program
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Program
from tensoropt.ir.verifier import verify
from tensoropt.pass_manager import Context

Array = np.ndarray[Any, Any]


def fused(nodes: list[onnx.NodeProto], inputs: dict[str, list[int]], values: dict[str, Array]) -> Program:
    """The kernels of a graph with the output y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return Fuse().run(load_program(model).program, Context(None))  # type: ignore[arg-type]  # it asks no cost model


def network(batch: int, size: int, stride: int, kernel: int, pool: str) -> Program:
    """Windows that overlap, a stride, a transposed convolution, and a concatenation with what an earlier value was."""
    generator = np.random.default_rng(0)
    pads = [kernel // 2] * 4
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=pads, strides=[stride, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node(pool, ["r"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        helper.make_node("ConvTranspose", ["p", "t"], ["u"], strides=[2, 2]),
        helper.make_node("Relu", ["u"], ["ur"]),
        helper.make_node("Conv", ["ur", "v"], ["d"], pads=[1] * 4),
        helper.make_node("Concat", ["d", "ur"], ["j"], axis=1),
        helper.make_node("Conv", ["j", "q"], ["y"], pads=[1, 1, 1, 1]),
    ]
    shapes = {"w": (4, 3, kernel, kernel), "t": (4, 4, 2, 2), "v": (5, 4, 3, 3), "q": (3, 9, 3, 3)}
    values = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return fused(nodes, {"x": [batch, 3, size, size + 3]}, values)


@settings(max_examples=25)
@given(
    st.integers(1, 2), st.integers(6, 13), st.integers(1, 2), st.sampled_from([1, 3, 5]),
    st.sampled_from(["MaxPool", "AveragePool"]), st.integers(0, 3), st.integers(2, 9), st.sampled_from(Halo), st.randoms(),
)  # fmt: skip
def test_the_same_values(
    batch: int, size: int, stride: int, kernel: int, pool: str, axis: int, count: int, halo: Halo, random: Any
) -> None:
    program = network(batch, size, stride, kernel, pool)
    name = random.choice(program.statements).outputs[0].name
    found = list(chains(program, name))
    if not found:
        return
    cut = in_slabs(program, Slabs(random.choice(found), axis, count, halo))
    verify(cut)
    shape = tuple(int(extent) for extent in program.inputs[0].shape)
    feeds = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    np.testing.assert_array_equal(run_program(cut, feeds)["y"], run_program(program, feeds)["y"])


@settings(max_examples=3)
@given(st.integers(8, 20), st.integers(2, 5), st.sampled_from(Halo), st.integers(1, 2), st.randoms())
def test_compiled_pieces_are_written_in_their_places(
    size: int, count: int, halo: Halo, threads: int, random: Any
) -> None:
    program = network(1, size, 1, 3, "MaxPool")
    longest = max(chains(program, random.choice(program.statements[1:]).outputs[0].name), key=len)
    cut = in_slabs(program, Slabs(longest, 2, count, halo))
    assert joined_storage(cut).strides
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 3, size, size + 3)).astype(np.float32)}
    built = compiled(cut, host_target(threads), {})
    assert built.plan.strides
    expected = run_program(program, feeds)["y"]
    np.testing.assert_allclose(built.model().run(feeds)["y"], expected, rtol=1e-4, atol=1e-4)
    values = run_program(cut, feeds)
    for statement in cut.statements:  # each kernel by itself, pieces and what they make up
        name = statement.outputs[0].name
        np.testing.assert_allclose(built.execute(statement, values)[name], values[name], rtol=1e-4, atol=1e-4)


def convolutions() -> Program:
    """Three, the last of which writes the output."""
    generator = np.random.default_rng(0)
    shapes = {"w": (16, 3, 3, 3), "v": (16, 16, 3, 3), "q": (4, 16, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        helper.make_node("Conv", ["a", "v"], ["b"], pads=[1] * 4),
        helper.make_node("Conv", ["b", "q"], ["y"]),
    ]
    values = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return fused(nodes, {"x": [1, 3, 64, 64]}, values)


def test_less_memory() -> None:
    program = convolutions()
    chain = max(chains(program, "a"), key=len)
    cut = in_slabs(program, Slabs(chain, 2, 16))
    assert joined_storage(cut).strides.keys() == {
        f"y/slab{number}" for number in range(16)
    }  # written where the caller wants y
    assert plan(cut).arena_bytes < plan(program).arena_bytes / 5


def test_pieces_of_channels_share_their_code() -> None:
    values = {"w": np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Transpose", ["p"], ["y"], perm=[0, 2, 3, 1]),
    ]
    program = fused(nodes, {"x": [1, 3, 12, 12]}, values)
    (chain,) = [found for found in chains(program, "p") if [one.output.name for one in found] == ["c", "p"]]
    cut = in_slabs(program, Slabs(chain, 1, 4))
    target = host_target(1)
    before, after = compiled(program, target, {}), compiled(cut, target, {})
    assert len({step.shared.name for step in after.steps}) == len({step.shared.name for step in before.steps})


def test_two_chains_share_a_constant_in_other_numbers_of_pieces() -> None:
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
    program = fused(nodes, {"x": [1, 8, 8, 8]}, {"w": weights, "b": np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1)})
    cut = program
    for last, count in (("c", 2), ("f", 4)):
        made = {one.outputs[0].name for one in cut.statements if one not in program.statements}
        chain = next(found for found in chains(cut, last, made) if found[-1].output.name == last)
        cut = in_slabs(cut, Slabs(chain, 1, count))
        verify(cut)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 8, 8, 8)).astype(np.float32)}
    np.testing.assert_array_equal(run_program(cut, feeds)["y"], run_program(program, feeds)["y"])


def test_a_kept_halo_is_not_computed_again() -> None:
    program = convolutions()
    chain = max(chains(program, "a"), key=len)

    def points(halo: Halo) -> int:
        cut = in_slabs(program, Slabs(chain, 2, 4, halo))
        conv = chain[0].output.name
        made = [one.outputs[0] for one in cut.statements if one.outputs[0].name.startswith(f"{conv}/slab")]
        computed = [one for one in made if not one.name.endswith("/kept")]
        wholes = {one.name.removesuffix("/new") for one in computed if one.name.endswith("/new")}
        return sum(one.type.elements for one in computed if one.name not in wholes)

    assert points(Halo.KEPT) == chain[0].output.type.elements
    assert points(Halo.COMPUTED) > chain[0].output.type.elements


def test_two_chains_read_the_same_part_of_an_input() -> None:
    """The later is cut first: what it reads of the input stands at its own place, behind the other."""
    window: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1] * 4}
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], **window),
        helper.make_node("MaxPool", ["a"], ["b"], **window),
        helper.make_node("AveragePool", ["x"], ["c"], **window),
        helper.make_node("MaxPool", ["c"], ["d"], **window),
        helper.make_node("Concat", ["b", "d"], ["y"], axis=1),
    ]
    program = fused(nodes, {"x": [4, 2, 6, 7]}, {})
    cut = program
    for last in ("d", "b"):
        chain = next(found for found in chains(cut, last) if found[-1].output.name == last)
        cut = in_slabs(cut, Slabs(chain, 0, 2))
        verify(cut)
    feeds = {"x": np.random.default_rng(1).standard_normal((4, 2, 6, 7)).astype(np.float32)}
    np.testing.assert_array_equal(run_program(cut, feeds)["y"], run_program(program, feeds)["y"])
