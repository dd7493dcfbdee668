"""Kernels for devices from schedules of their blocks give the interpreter's values; what cannot be launched is refused."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tvm import s_tir

from codegen.device.code import compiled_code
from codegen.device.kernel import CompiledKernel, compile_kernel, function_names
from codegen.device.sources import generated
from codegen.lower.blocks import UnsafeSchedule
from codegen.lower.device import Scratch, dialect_of, lower
from codegen.lower.dialect import written_in
from codegen.lower.schedulable import Schedulable, Unschedulable, schedulable
from codegen.lower.scheduled import describe
from tensoropt.ir.expression import Access, Apply, Constant, Reducer, Scope, Tensor, leaves
from tensoropt.ir.expression import scopes as nested_scopes
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array, Compute
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.codegen.lower.test_random_kernels import small_integers
from tests.strategies.compilers import OPENCL
from tests.strategies.device_schedules import bound_schedule, searched_schedules
from tests.strategies.exact_scopes import exact_expressions, exact_sums
from tests.strategies.networks import random_array, tensor
from tests.strategies.programs import CASES


def blocks_of(scope: Scope) -> Schedulable:
    with written_in(dialect_of(OPENCL)):
        return schedulable(scope)


def run(scope: Scope, values: dict[str, Array], kernel: Schedulable, schedule: object) -> Array:
    """The scope's value as a schedule of its blocks computes it on PoCL."""
    variant = {"metaschedule": describe(kernel, schedule)}
    return compile_kernel(Compute(Tensor("y", scope.type), scope), OPENCL, variant=variant)(values)["y"]


def knows_nan(scope: Scope) -> bool:
    """Whether an expression has NaN as a literal: what PoCL makes of the ``floor`` of one that it knows is anything."""
    literals = [leaf for inner in nested_scopes(scope) for leaf in leaves(inner.body) if isinstance(leaf, Constant)]
    return any(leaf.dtype.is_float and np.isnan(leaf.value) for leaf in literals)


def check_exactly(scope: Scope, values: dict[str, Array], random: Random) -> None:
    """Under random schedules the same bits as the interpreter's."""
    try:
        kernel = blocks_of(scope)
    except Unschedulable:
        return
    with np.errstate(all="ignore"):
        expected = evaluate(scope, values)
    for schedule in (bound_schedule(kernel, random), *searched_schedules(kernel, OPENCL, random, 1)):
        try:
            actual = run(scope, values, kernel, schedule)
        except UnsafeSchedule:
            continue
        np.testing.assert_array_equal(actual, expected, str(schedule.trace))


@pytest.mark.parametrize("dtypes", [("f32",), ("f32", "i64", "bool"), ("f64", "i32"), ("f16", "f32")])
@given(data=st.data())
@settings(max_examples=max(5, CASES // 32), suppress_health_check=list(HealthCheck))
def test_random_expressions(dtypes: tuple[str, ...], data: st.DataObject) -> None:
    scope, values = data.draw(exact_expressions(dtypes))
    assume(not knows_nan(scope))
    check_exactly(scope, values, Random(data.draw(st.integers(0, 99))))


@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=max(5, CASES // 16))
def test_contractions_windows_and_towers(seed: int) -> None:
    scope, values = exact_sums(seed)
    check_exactly(scope, values, Random(seed))


def shifted_after_rectifier() -> Scope:
    """A sum over windows, padded with zeros, of a rectified input: what is inlined reads outside where nothing guards it."""
    x = tensor("x", 40)
    i, k = Iterator("i", 40), Iterator("k", 3)
    positive = Scope([i], Apply("relu", Access(x, [i])))
    return Scope([i], Access(positive, [Index.of(i) + k - 1], 0.0), [k])


def test_guards_stay_around_what_is_inlined() -> None:
    scope = shifted_after_rectifier()
    kernel = blocks_of(scope)
    values = {"x": random_array(tensor("x", 40))}
    values["x"][[0, -1]] = np.nan
    for seed in range(3):
        schedule = bound_schedule(kernel, Random(seed))
        np.testing.assert_allclose(run(scope, values, kernel, schedule), evaluate(scope, values), rtol=1e-6)


@pytest.mark.parametrize("reducer", [Reducer.MAX, Reducer.MIN, Reducer.SUM])
@pytest.mark.parametrize("dtype", [DataType.FLOAT32, DataType.FLOAT64])
def test_not_a_number_goes_through_folds_by_threads_together(reducer: Reducer, dtype: DataType) -> None:
    values = np.arange(60, dtype=dtype.numpy).reshape(6, 10)
    values[2, 0] = values[3, 9] = np.nan
    source = Tensor("x", TensorType(dtype, (Extent(6), Extent(10))))
    row, column = Iterator("i", 6), Iterator("k", 10)
    scope = Scope([row], Access(source, [row, column]), [column], reducer)
    kernel = blocks_of(scope)
    schedule = s_tir.Schedule(kernel.function)
    for number, block in enumerate(schedule.get_child_blocks(schedule.get_sblock("root"))):
        loops = schedule.get_loops(block)
        schedule.bind(loops[0], "blockIdx.x")
        if not number:
            _, together = schedule.split(loops[1], [None, 4])
            schedule.bind(together, "threadIdx.x")
    np.testing.assert_array_equal(run(scope, {"x": values}, kernel, schedule), evaluate(scope, {"x": values}))


def stages() -> tuple[Scope, Schedulable]:
    """Rows minus their largest elements, and its blocks."""
    i, j = Iterator("i", 8), Iterator("j", 5)
    x = tensor("x", 8, 5)
    top = Scope([i], Access(x, [i, j]), [j], Reducer.MAX)
    scope = Scope([i, j], Apply("sub", Access(x, [i, j]), Access(top, [i])))
    return scope, blocks_of(scope)


def test_what_launches_hand_on_lies_in_scratch_memory() -> None:
    scope, kernel = stages()
    schedule = s_tir.Schedule(kernel.function)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        schedule.bind(schedule.get_loops(block)[0], "threadIdx.x")
    text = describe(kernel, schedule)
    made = lower(Tensor("y", scope.type), scope, OPENCL, variant={"metaschedule": text})
    assert [(launch.grid, launch.block) for launch in made.launches] == [((1, 1, 1), (8, 1, 1))] * 3
    between = {one.offset for launch in made.launches for one in launch.arguments if isinstance(one, Scratch)}
    assert len(between) == 2
    assert all(offset % OPENCL.alignment == 0 for offset in between)
    assert max(between) < made.workspace_bytes
    assert made.schedules == ("metaschedule",) * 3
    values = {"x": random_array(tensor("x", 8, 5))}
    np.testing.assert_array_equal(run(scope, values, kernel, schedule), evaluate(scope, values))


@pytest.mark.parametrize("dtype", [DataType.FLOAT32, DataType.FLOAT16])
def test_launches_share_scratch_memory_of_different_sizes(dtype: DataType) -> None:
    """Statistics of two lengths, handed on by launch after launch."""
    x = Tensor("x", TensorType(dtype, (Extent(24), Extent(5))))
    i, j = Iterator("i", 24), Iterator("j", 5)
    top = Scope([i], Access(x, [i, j]), [j], Reducer.MAX)
    moved = Scope([i, j], Apply("sub", Access(x, [i, j]), Access(top, [i])))
    total = Scope([j], Access(moved, [i, j]), [i])
    least = Scope([i], Apply("mul", Access(moved, [i, j]), Access(total, [j])), [j], Reducer.MIN)
    scope = Scope([i, j], Apply("add", Access(least, [i]), Access(total, [j])))
    kernel = blocks_of(scope)
    schedule = s_tir.Schedule(kernel.function)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        schedule.bind(schedule.get_loops(block)[0], "threadIdx.x")
    values = {"x": small_integers(x, 3)}
    np.testing.assert_array_equal(run(scope, values, kernel, schedule), evaluate(scope, values))


def test_what_is_bound_to_no_threads_is_refused() -> None:
    scope, kernel = stages()
    variant = {"metaschedule": describe(kernel, s_tir.Schedule(kernel.function))}
    with pytest.raises(UnsafeSchedule, match="no threads"):
        lower(Tensor("y", scope.type), scope, OPENCL, variant=variant)


def test_a_thread_may_not_allocate_the_device_s_memory() -> None:
    scope, kernel = stages()
    schedule = s_tir.Schedule(kernel.function)
    first, *_, last = schedule.get_child_blocks(schedule.get_sblock("root"))
    schedule.compute_inline(schedule.get_consumers(first)[0])
    loop = schedule.get_loops(last)[0]
    schedule.compute_at(first, loop)
    schedule.bind(loop, "blockIdx.x")
    with pytest.raises(UnsafeSchedule, match="allocates"):
        lower(Tensor("y", scope.type), scope, OPENCL, variant={"metaschedule": describe(kernel, schedule)})
    schedule.set_scope(first, 0, "local")
    values = {"x": random_array(tensor("x", 8, 5))}
    np.testing.assert_array_equal(run(scope, values, kernel, schedule), evaluate(scope, values))


def test_where_values_are_not_aligned_the_usual_schedule_is_taken() -> None:
    scope, kernel = stages()
    variant = {"metaschedule": describe(kernel, bound_schedule(kernel, Random(1)))}
    output = Tensor("y", scope.type)
    for alignments, found in (({"x": 16}, True), ({"x": 4}, False), ({"y": 8}, False)):
        made = lower(output, scope, OPENCL, variant=variant, alignments=alignments)
        assert ("metaschedule" in made.schedules) == found


@given(seed=st.integers(0, 99))
@settings(max_examples=max(3, CASES // 32))
def test_outputs_lie_as_they_are_told_to(seed: int) -> None:
    scope, kernel = stages()
    values = {"x": random_array(tensor("x", 8, 5))}
    for schedule in (bound_schedule(kernel, Random(seed)), *searched_schedules(kernel, OPENCL, Random(seed), 1)):
        variant = {"metaschedule": describe(kernel, schedule)}
        made = lower(Tensor("y", scope.type), scope, OPENCL, variant=variant, strides=(20, 2))
        names = function_names(made, "kernel")
        functions = dict(zip(names, (launch.function for launch in made.launches), strict=True))
        compiled = CompiledKernel(made, names, compiled_code(functions, OPENCL, ()))
        np.testing.assert_array_equal(compiled(values)["y"], evaluate(scope, values))


def test_several_elements_at_once_only_from_multiples_of_their_number_on() -> None:
    """TVM's generator looks at the index; a name for a part of it would hide what is a multiple."""
    i, j = Iterator("i", 4), Iterator("j", 8)
    for first, loads in ((1, 0), (4, 1)):
        scope = Scope([i, j], Access(tensor("x", 4, 12), [i, Index.of(j) + first]))
        kernel = blocks_of(scope)
        schedule = s_tir.Schedule(kernel.function)
        rows, columns = schedule.get_loops(schedule.get_sblock("stage0"))
        threads, together = schedule.split(columns, [None, 4])
        schedule.vectorize(together)
        schedule.bind(rows, "blockIdx.x")
        schedule.bind(threads, "threadIdx.x")
        made = lower(Tensor("y", scope.type), scope, OPENCL, variant={"metaschedule": describe(kernel, schedule)})
        source = generated({"k": made.launches[0].function}, OPENCL)
        assert source.count("vload4") == loads
        values = {"x": random_array(tensor("x", 4, 12))}
        np.testing.assert_array_equal(run(scope, values, kernel, schedule), evaluate(scope, values))
