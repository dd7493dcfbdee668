"""Kernels from the trace of a schedule, alone and linked; texts that do not fit are refused and cost nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tvm import s_tir

from codegen.build import compile_program
from codegen.kernel import compile_kernel
from codegen.lower.blocks import UnsafeSchedule
from codegen.lower.kernel import lower
from codegen.lower.schedulable import schedulable
from codegen.lower.scheduled import ScheduleMismatch, describe
from codegen.targets.cpu import host_target
from tensoropt.allocation import Placement
from tensoropt.ir.expression import Access, Apply, Scope
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute
from tests.strategies.networks import convolution, program, random_array, tensor

TARGET = host_target(2)
IMAGE, KERNEL, BIAS, OUT = tensor("x", 1, 8, 9, 9), tensor("k", 24, 8, 3, 3), tensor("b", 24), tensor("y", 1, 24, 9, 9)


def with_epilogue() -> Compute:
    """A convolution, a bias and a rectifier as one kernel."""
    product = convolution(OUT, IMAGE, KERNEL, 1).expression
    n, f, h, w = (Iterator(name, int(extent)) for name, extent in zip("nfhw", OUT.shape, strict=True))
    body = Apply("relu", Apply("add", Access(product, [n, f, h, w]), Access(BIAS, [f])))
    return Compute(OUT, Scope([n, f, h, w], body))


def tiled(statement: Compute) -> str:
    """The text of a schedule by hand: the padding inside the rows, channels in parallel, columns as vectors."""
    kernel = schedulable(statement.expression)
    schedule = s_tir.Schedule(kernel.function)
    fold, last = schedule.get_sblock("stage0"), schedule.get_sblock("stage1")
    padding = schedule.get_producers(fold)[0]
    n, f, h, w = schedule.get_loops(last)
    outer, inner = schedule.split(f, [None, 8])
    schedule.reorder(n, outer, h, w, inner)
    schedule.compute_at(fold, h)
    schedule.compute_at(padding, outer)
    schedule.vectorize(inner)
    schedule.parallel(outer)
    return describe(kernel, schedule)


def test_a_linked_program_agrees_with_the_interpreter() -> None:
    statement = with_epilogue()
    network = program([statement], [IMAGE], [OUT], k=random_array(KERNEL), b=random_array(BIAS, 1))
    variants = {"y": {"metaschedule": tiled(statement)}}
    built = compile_program(network, Placement({}, 0, 0), TARGET, variants=variants)
    feeds = {"x": random_array(IMAGE, 2)}
    expected = run_program(network, feeds)["y"]
    np.testing.assert_allclose(built.model().run(feeds)["y"], expected, rtol=1e-4, atol=1e-4)
    values = {**feeds, **network.constants}
    np.testing.assert_allclose(built.execute(network.statements[0], values)["y"], expected, rtol=1e-4, atol=1e-4)
    (told,) = built.kernels_as_json()
    assert told["schedules"] == ["metaschedule"]


def test_what_is_computed_outside_all_loops_lies_in_the_workspace() -> None:
    statement = with_epilogue()
    kernel = schedulable(statement.expression)
    plain = lower(
        OUT, statement.expression, TARGET, variant={"metaschedule": describe(kernel, s_tir.Schedule(kernel.function))}
    )
    assert plain.workspace_bytes >= 4 * (8 * 11 * 11 + 24 * 9 * 9)
    assert lower(OUT, statement.expression, TARGET, variant={"metaschedule": tiled(statement)}).workspace_bytes == 0


def changed(text: str, **entries: Any) -> str:
    """A text of a schedule with other entries."""
    return json.dumps({**json.loads(text), **entries})


def test_texts_that_do_not_fit_are_refused() -> None:
    statement = with_epilogue()
    text = tiled(statement)
    smaller = convolution(tensor("y", 1, 24, 7, 7), tensor("x", 1, 8, 7, 7), KERNEL, 1)
    cases = [
        (smaller, text, "another kernel"),
        (statement, changed(text, tvm="0.1"), r"of TVM 0\.1"),
        (statement, changed(text, trace=[[["Parallel", ["l9"], [], []]], []]), "does not apply"),
        (statement, changed(text, trace="x"), "does not apply"),
        (statement, changed(text, trace=None), "does not apply"),
        (statement, text[:-20], "damaged"),
        (statement, "[]", "damaged"),
        (statement, "", "damaged"),
    ]
    for kernel, given, reason in cases:
        with pytest.raises(ScheduleMismatch, match=reason):
            compile_kernel(kernel, TARGET, variant={"metaschedule": given})
    values = {source.name: random_array(source) for source in (IMAGE, KERNEL, BIAS)}
    compile_kernel(statement, TARGET, variant={"metaschedule": text})(values)


def test_a_vectorised_loop_that_allocates_is_refused() -> None:
    i, k = Iterator("i", 8), Iterator("k", 5)
    row = Scope([i], Access(tensor("x", 8, 5), [i, k]), [k])
    statement = Compute(tensor("y", 8), Scope([i], Apply("relu", Access(row, [i]))))
    kernel = schedulable(statement.expression)
    schedule = s_tir.Schedule(kernel.function)
    (loop,) = schedule.get_loops(schedule.get_sblock("stage1"))
    schedule.compute_at(schedule.get_sblock("stage0"), loop)
    schedule.vectorize(loop)
    with pytest.raises(UnsafeSchedule, match="allocates"):
        compile_kernel(statement, TARGET, variant={"metaschedule": describe(kernel, schedule)})
