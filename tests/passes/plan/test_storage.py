"""Views, parts and wholes: what is kept where, and the results of compiled programs that keep values so."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from codegen.targets.cpu import host_target
from passes.pipeline import plan
from passes.plan.lifetimes import joined_storage
from passes.plan.storage import storage_of
from tensoropt.api.compiling import compiled
from tensoropt.frontend import load_program
from tensoropt.ir.expression import Tensor
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import copy_of


def joined(batch: int, widths: list[int], size: int) -> Program:
    """Pools of one image joined along the channels, and that joined with one more; slices of it; all added up."""
    nodes = []
    for place in range(len(widths)):
        nodes.append(helper.make_node("Slice", ["x", f"zero{place}", f"end{place}", "one"], [f"s{place}"]))
        nodes.append(helper.make_node("AveragePool", [f"s{place}"], [f"p{place}"], kernel_shape=[3, 3], pads=[1] * 4))
    names = [f"p{place}" for place in range(len(widths))]
    nodes.append(helper.make_node("Concat", names, ["inner"], axis=1))
    nodes.append(helper.make_node("AveragePool", ["inner"], ["q"], kernel_shape=[3, 3], pads=[1] * 4))
    nodes.append(helper.make_node("Concat", ["inner", "q"], ["outer"], axis=1))
    nodes.append(helper.make_node("Split", ["outer"], ["left", "right"], axis=1, num_outputs=2))
    nodes.append(helper.make_node("Mul", ["left", "right"], ["product"]))
    nodes.append(helper.make_node("Exp", ["product"], ["y"]))
    constants = [helper.make_tensor("one", TensorProto.INT64, [1], [1])]
    for place, width in enumerate(widths):
        constants.append(helper.make_tensor(f"zero{place}", TensorProto.INT64, [1], [0]))
        constants.append(helper.make_tensor(f"end{place}", TensorProto.INT64, [1], [width]))
    graph = helper.make_graph(
        nodes,
        "joined",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, max(widths), size, size])],
        [onnx.ValueInfoProto(name="y")],
        constants,
    )
    return load_program(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)).program


@settings(max_examples=15)
@given(st.integers(1, 2), st.lists(st.integers(1, 5), min_size=2, max_size=3), st.integers(3, 9), st.integers(1, 2))
def test_results_are_those_of_the_interpreter(batch: int, widths: list[int], size: int, threads: int) -> None:
    """Parts begin at any element, as planes of odd sizes do."""
    program = joined(batch, widths, size)
    feeds: dict[str, Any] = {
        tensor.name: np.random.default_rng(0).standard_normal(tensor.shape).astype(np.float32)
        for tensor in program.inputs
    }
    found = compiled(program, host_target(threads), {}).model().run(feeds)["y"]
    np.testing.assert_allclose(found, run_program(program, feeds)["y"], rtol=1e-4, atol=1e-5)


def test_wholes_in_wholes_and_views_of_them() -> None:
    program = joined(1, [2, 3], 4)
    storage = storage_of(program, ())
    assert storage.parts == {"p0": "inner", "p1": "inner", "inner": "outer", "q": "outer"}
    assert [storage.owner(name) for name in ("p1", "q", "left", "right")] == ["outer"] * 4
    plane = 4 * 4 * 4
    assert [storage.start(name) for name in ("p0", "p1", "q", "right")] == [0, 2 * plane, 5 * plane, 5 * plane]
    assert {"inner", "outer", "left", "right"} <= storage.idle
    assert not storage_of(program, {"outer"}).idle & {"outer"}
    assert not storage_of(program).parts


def test_parts_of_several_images_lie_between_one_another() -> None:
    found = storage_of(joined(2, [2, 3], 4), ())
    assert dict(found.strides) == dict.fromkeys(found.parts, (80, 16, 4, 1))
    assert [found.start(part) for part in found.parts] == [0, 2 * 16 * 4]


def test_what_lies_between_is_only_written() -> None:
    """Another reader would have to know the strides, and so would an operator outside the algebra that writes it."""
    program = joined(2, [2, 3], 4)
    (part, *_) = storage_of(program, ()).parts
    read = next(one.outputs[0] for one in program.statements if one.outputs[0].name == part)
    extra = Compute(Tensor("copy", read.type), copy_of(read))
    other = Program(
        program.name,
        program.inputs,
        (*program.outputs, extra.output),
        program.constants,
        (*program.statements, extra),
    )
    assert part not in storage_of(other, ()).parts


def test_joining_does_not_take_more_memory() -> None:
    program = joined(1, [4, 5], 32)
    assert joined_storage(program).parts
    assert plan(program).arena_bytes < plan(program, storage=storage_of(program)).arena_bytes
