"""Which slabs are chosen: those that fit in the least time, and estimates that cutting bears out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from passes.fuse import Fuse
from passes.pipeline import plan
from passes.plan.lifetimes import lifetimes
from passes.plan.storage import storage_of
from passes.slabs.choosing import Goal, Known, cheapest
from passes.slabs.cutting import Slabs, in_slabs
from tensoropt.frontend import load_program
from tensoropt.ir.expression import Access, Apply, Scope, Tensor
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.structure import axes_of, row_major
from tensoropt.ir.types import DataType, Extent, TensorType
from tensoropt.pass_manager import Context


def program_of(channels: tuple[int, ...], size: int) -> Program:
    """Convolutions of 3 x 3, one behind the other."""
    generator = np.random.default_rng(0)
    names = ["x", *(f"a{number}" for number in range(len(channels) - 2)), "y"]
    values, nodes = [], []
    for number, (read, written) in enumerate(pairwise(channels)):
        weight = generator.standard_normal((written, read, 3, 3)).astype(np.float32)
        values.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("Conv", [names[number], f"w{number}"], [names[number + 1]], pads=[1] * 4))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels[0], size, size])],
        [onnx.ValueInfoProto(name="y")],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return Fuse().run(load_program(model).program, Context(None))  # type: ignore[arg-type]  # it asks no cost model


def known_of(program: Program) -> Known:
    buffers = lifetimes(program, {}, storage_of(program)).problem.buffers
    names = [statement.outputs[0].name for statement in program.statements]
    others = {
        name: {one.name: one.bytes for one in buffers if one.first <= step <= one.last}
        for step, name in enumerate(names)
    }
    callers = {tensor.name for tensor in (*program.inputs, *program.outputs)} | program.constants.keys()
    return Known(others, dict.fromkeys(names, 1e-3), {}, callers)


def test_what_fits_in_the_least_time() -> None:
    program = program_of((3, 8, 8, 3), 64)
    whole = plan(program).arena_bytes
    known = known_of(program)
    before = None
    for share in (0.9, 0.6, 0.3):
        found = cheapest(program, "a1", known, Goal(int(share * whole), int(share * whole)))
        assert found is not None
        assert found.bytes <= share * whole
        assert plan(in_slabs(program, found.slabs)).arena_bytes <= share * whole  # as estimated, and in fact
        assert before is None or found.seconds >= before  # less memory never takes less time
        before = found.seconds


def test_bytes_over_the_budget_have_a_price() -> None:
    program = program_of((3, 8, 8, 8, 3), 64)
    known = known_of(program)
    least = cheapest(program, "a1", known, Goal(1 << 30, 0))
    fast = cheapest(program, "a1", known, Goal(1 << 30, 0, penalty=1e-15))
    assert least is not None
    assert fast is not None
    assert least.bytes < fast.bytes
    assert least.seconds > fast.seconds


def test_what_was_cut_is_not_cut_again() -> None:
    program = program_of((3, 8, 8, 3), 32)
    known = known_of(program)
    everything = [statement.outputs[0].name for statement in program.statements]
    assert cheapest(program, "a0", known, Goal(1, 1)) is not None
    assert (
        cheapest(program, "a0", Known(known.others, known.seconds, {}, known.callers, everything[1:]), Goal(1, 1))
        is None
    )


def test_an_axis_of_one_tile_is_not_cut() -> None:
    """Rows of 64 read what lay in rows of 18: nothing starts anew before the end."""
    x, a, b = (
        Tensor(name, TensorType(DataType.FLOAT32, (Extent(rows), Extent(columns))))
        for name, rows, columns in (("x", 32, 18), ("a", 32, 18), ("b", 9, 64))
    )
    here, there = axes_of(a.shape), axes_of(b.shape)
    place = row_major(there, (9, 64))
    first = Compute(a, Scope(here, Apply("exp", Access(x, here))))
    second = Compute(b, Scope(there, Apply("neg", Access(a, [place // 18, place % 18]))))
    program = Program("p", (x,), (b,), {}, (first, second))
    assert len(Slabs(program.statements, 0, 4).pieces()) == 1  # type: ignore[arg-type]
    assert cheapest(program, "b", known_of(program), Goal(0, 0)) is None
