"""Kernels in blocks give the interpreter's values, unscheduled and under any schedule."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import s_tir

from codegen.kernel import compile_kernel
from codegen.lower.blocks import UnsafeSchedule
from codegen.lower.schedulable import Schedulable, Unschedulable, schedulable
from codegen.lower.scheduled import describe
from codegen.targets.cpu import host_target
from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array, Compute
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.codegen.lower.test_operations import CASES as OPERATION_CASES
from tests.codegen.lower.test_operations import ULPS, operands
from tests.strategies.exact_scopes import exact_expressions, exact_sums
from tests.strategies.networks import convolution, tensor
from tests.strategies.programs import CASES
from tests.strategies.schedules import random_schedule

TARGET = host_target(2)
F32 = DataType.FLOAT32


def run(scope: Scope, values: dict[str, Array], kernel: Schedulable, schedule: object) -> Array:
    """The scope's value as a schedule of its blocks computes it."""
    variant = {"metaschedule": describe(kernel, schedule)}
    return compile_kernel(Compute(Tensor("y", scope.type), scope), TARGET, variant=variant)(values)["y"]


def vectorised(kernel: Schedulable) -> object:
    """The last loop of the only block eight elements at a time."""
    schedule = s_tir.Schedule(kernel.function)
    loops = schedule.get_loops(schedule.get_sblock("stage0"))
    schedule.vectorize(schedule.split(loops[-1], [None, 8])[1])
    return schedule


def check_exactly(scope: Scope, values: dict[str, Array], random: Random) -> None:
    """Unscheduled and under a random schedule the same bits as the interpreter's."""
    try:
        kernel = schedulable(scope)
    except Unschedulable:
        return
    with np.errstate(all="ignore"):
        expected = evaluate(scope, values)
    np.testing.assert_array_equal(run(scope, values, kernel, s_tir.Schedule(kernel.function)), expected)
    schedule = random_schedule(kernel, random)
    try:
        actual = run(scope, values, kernel, schedule)
    except UnsafeSchedule:
        return
    np.testing.assert_array_equal(actual, expected, str(schedule.trace))


@pytest.mark.parametrize("dtypes", [("f32",), ("f32", "i64", "bool"), ("f64", "i32")])
@given(data=st.data())
@settings(max_examples=max(10, CASES // 16), suppress_health_check=list(HealthCheck))
def test_random_expressions(dtypes: tuple[str, ...], data: st.DataObject) -> None:
    scope, values = data.draw(exact_expressions(dtypes))
    check_exactly(scope, values, Random(data.draw(st.integers(0, 99))))


@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=max(10, CASES // 8))
def test_contractions_windows_and_towers(seed: int) -> None:
    scope, values = exact_sums(seed)
    check_exactly(scope, values, Random(seed))


@pytest.mark.parametrize("name", [name for name, dtype in OPERATION_CASES if dtype is F32])
def test_operations_on_special_values(name: str) -> None:
    arrays = operands(F32, OPERATIONS[name].arity - (name == "where"))
    i = Iterator("i", len(arrays[0]))
    sources = [Tensor(f"x{n}", TensorType(F32, (Extent(len(array)),))) for n, array in enumerate(arrays)]
    reads: list[Scalar] = [Access(source, [i]) for source in sources]
    if name == "where":
        reads.insert(0, Apply("eq", IndexValue(Index.of(i) % 2), Constant(0, DataType.INT64)))
    body = Apply(name, *reads)
    bodies: list[Scalar] = [body]
    if body.dtype is DataType.BOOL:  # what a simplifier that knows no NaN would change
        bodies += [Apply("not", body), Apply("or", body, Apply("not", body)), Apply(name, *([reads[0]] * len(reads)))]
    bodies += [Cast(body, DataType.BOOL)] if body.dtype is F32 else []
    values = {source.name: array for source, array in zip(sources, arrays, strict=True)}
    for form in bodies:
        scope = Scope([i], form)
        kernel = schedulable(scope)
        with np.errstate(all="ignore"):
            expected = evaluate(scope, values)
        for schedule in (s_tir.Schedule(kernel.function), vectorised(kernel)):
            actual = run(scope, values, kernel, schedule)
            if scope.dtype is F32:
                tolerance = ULPS[F32] * (8 if name in ("pow", "tan", "sinh", "cosh") else 1)
                np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=float(np.finfo(np.float32).tiny))
            else:
                np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("reducer", [Reducer.MAX, Reducer.MIN, Reducer.SUM])
def test_not_a_number_goes_through_folds(reducer: Reducer) -> None:
    values = np.arange(60, dtype=np.float32).reshape(6, 10)
    values[2, 0] = values[3, 9] = np.nan
    row, column = Iterator("i", 6), Iterator("k", 10)
    scope = Scope([row], Access(tensor("x", 6, 10), [row, column]), [column], reducer)
    kernel = schedulable(scope)
    split = s_tir.Schedule(kernel.function)
    split.rfactor(split.split(split.get_loops(split.get_sblock("stage0"))[1], [None, 5])[1], 1)
    for schedule in (s_tir.Schedule(kernel.function), split):
        np.testing.assert_array_equal(run(scope, {"x": values}, kernel, schedule), evaluate(scope, {"x": values}))


def test_padding_is_a_block_of_its_own() -> None:
    statement = convolution(tensor("y", 1, 8, 9, 9), tensor("x", 1, 4, 9, 9), tensor("k", 8, 4, 3, 3), 1)
    kernel = schedulable(statement.expression)
    assert "if_then_else" not in kernel.function.script().partition('sblock("stage0")')[2]
    assert [source.name for source in kernel.inputs] == ["x", "k"]


def test_what_has_no_form_in_blocks_is_refused_with_a_reason() -> None:
    i, k, none = Iterator("i", 3), Iterator("k", 4), Iterator("n", 0)
    half = Tensor("h", TensorType(DataType.FLOAT16, (Extent(3), Extent(4))))
    with pytest.raises(Unschedulable, match="values of type f16"):
        schedulable(Scope([i], Access(half, [i, k]), [k]))
    with pytest.raises(Unschedulable, match="writes nothing"):
        schedulable(Scope([none], Constant(1.0, F32)))
    large = Iterator("l", 1 << 32)
    with pytest.raises(Unschedulable, match="32 bits"):
        schedulable(Scope([i], Access(tensor("x", 1 << 32), [large]), [large]))


def test_the_digest_is_of_the_form_and_not_of_names() -> None:
    def product(first: str, second: str, extent: int) -> str:
        i, k = Iterator(first, extent), Iterator(second, 4)
        return schedulable(Scope([i], Access(tensor(second, extent, 4), [i, k]), [k])).digest

    assert product("i", "k", 3) == product("a", "b", 3)
    assert product("i", "k", 3) != product("i", "k", 5)
