"""Predictions: more work is never faster, a better GPU never slower, and every second has its reason."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codegen.roofline.bounds import DEPTH, MEMORY, STARTS, THREADS
from codegen.roofline.costs import RooflineCost
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from passes.pipeline import optimize
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.expression import Access, Apply, Cast, Reducer, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType, Extent, TensorType
from tensoropt.pass_manager import Context
from tests.strategies.expressions import closed_scopes
from tests.strategies.small_models import feeds_of, model, program_of

F32, F16 = DataType.FLOAT32, DataType.FLOAT16


def tensor(name: str, *shape: int, dtype: DataType = F32) -> Tensor:
    return Tensor(name, TensorType(dtype, tuple(Extent(extent) for extent in shape)))


def matmul(batch: int, rows: int, columns: int, depth: int, dtype: DataType = F32) -> Compute:
    n, i, j, k = Iterator("n", batch), Iterator("i", rows), Iterator("j", columns), Iterator("k", depth)
    a, b = tensor("a", batch, rows, depth, dtype=dtype), tensor("b", batch, depth, columns, dtype=dtype)
    scope = Scope([n, i, j], Apply("mul", Access(a, [n, i, k]), Access(b, [n, k, j])), [k])
    return Compute(Tensor("y", scope.type), scope)


def pointwise(*shape: int, operation: str = "exp") -> Compute:
    axes = [Iterator(f"i{place}", extent) for place, extent in enumerate(shape)]
    scope = Scope(axes, Apply(operation, Access(tensor("x", *shape), axes)))
    return Compute(Tensor("y", scope.type), scope)


def fold(outputs: int, folded: int) -> Compute:
    i, j = Iterator("i", outputs), Iterator("j", folded)
    scope = Scope([i], Access(tensor("x", outputs, folded), [i, j]), [j], Reducer.MAX)
    return Compute(Tensor("y", scope.type), scope)


def seconds(target: GpuTarget, kernel: Compute) -> float:
    return RooflineCost(target).cost(kernel).seconds


def binding(target: GpuTarget, kernel: Compute) -> str:
    ((_, bound),) = RooflineCost(target).launches(Alternative((kernel,), kernel.outputs))
    return bound.binding


gpus = st.sampled_from(list(NAMED.values()))
extents = st.integers(1, 3000)


@settings(max_examples=150, deadline=None)
@given(
    gpus,
    st.tuples(st.integers(1, 40), extents, extents, extents),
    st.integers(0, 3),
    st.integers(1, 500),
    st.sampled_from([F32, F16]),
)
@example(NAMED["t4"], (1, 1, 1, 230), 3, 26, F32)
def test_larger_products_are_never_faster(
    gpu: GpuTarget, sizes: tuple[int, int, int, int], axis: int, more: int, dtype: DataType
) -> None:
    batch, rows, columns, depth = (size + more * (place == axis) for place, size in enumerate(sizes))
    before, after = seconds(gpu, matmul(*sizes, dtype)), seconds(gpu, matmul(batch, rows, columns, depth, dtype))
    if min(rows, columns, depth) >= 8 > min(sizes[1:]) and dtype is F16:
        return  # from here on tensor cores are used
    assert after >= before * (1 - 1e-12)


@settings(max_examples=100, deadline=None)
@given(gpus, extents, extents, st.integers(1, 3000), st.booleans())
def test_larger_folds_and_maps_are_never_faster(
    gpu: GpuTarget, rows: int, columns: int, more: int, wider: bool
) -> None:
    larger = (rows, columns + more) if wider else (rows + more, columns)
    assert seconds(gpu, fold(*larger)) >= seconds(gpu, fold(rows, columns)) * (1 - 1e-12)
    assert seconds(gpu, pointwise(*larger)) >= seconds(gpu, pointwise(rows, columns))


@settings(max_examples=100, deadline=None)
@given(
    gpus,
    closed_scopes(),
    st.sampled_from(["bytes_per_second", "f32", "f64", "f16_tensor", "l2_bytes"]),
    st.integers(2, 5),
)
def test_a_better_gpu_is_never_slower(gpu: GpuTarget, expression: Scope, ceiling: str, times: int) -> None:
    better = replace(gpu, ceilings=replace(gpu.ceilings, **{ceiling: getattr(gpu.ceilings, ceiling) * times}))
    kernel = Compute(Tensor("y", expression.type), expression)
    assert seconds(better, kernel) <= seconds(gpu, kernel) * (1 + 1e-12)


@settings(max_examples=100, deadline=None)
@given(gpus, closed_scopes())
def test_every_second_has_a_reason(gpu: GpuTarget, expression: Scope) -> None:
    cost = RooflineCost(gpu).cost(Compute(Tensor("y", expression.type), expression))
    assert cost.source == "predicted"
    assert math.isfinite(cost.seconds)
    assert math.isclose(cost.seconds, sum(seconds for _, seconds in cost.terms), rel_tol=1e-9, abs_tol=1e-15)
    assert list(cost.terms) == sorted(cost.terms, key=lambda term: -term[1])
    assert cost.reason.split()[0].isdigit()
    again = RooflineCost(gpu).cost(Compute(Tensor("y", expression.type), expression))
    assert again == cost


@pytest.mark.parametrize("name", sorted(NAMED))
def test_what_binds(name: str) -> None:
    gpu = NAMED[name]
    assert binding(gpu, matmul(1, 8192, 8192, 8192)) == "f32"
    assert binding(gpu, pointwise(1 << 14, 1 << 14, operation="relu")) == MEMORY
    assert binding(gpu, pointwise(16, operation="relu")) == STARTS
    assert binding(gpu, fold(1, 1 << 26)) == THREADS
    assert binding(gpu, matmul(1, 16, 16, 1 << 9)) in (STARTS, DEPTH)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_large_kernels_come_near_the_ceilings(name: str) -> None:
    gpu = NAMED[name]
    product = 2 * 8192**3 / gpu.ceilings.f32
    assert product < seconds(gpu, matmul(1, 8192, 8192, 8192)) < 1.5 * product
    moved = 2 * 4 * (1 << 28) / gpu.ceilings.bytes_per_second
    assert moved < seconds(gpu, pointwise(1 << 14, 1 << 14, operation="relu")) < 1.1 * moved


def test_units_by_type() -> None:
    gpu = NAMED["h200"]
    exact, half = seconds(gpu, matmul(1, 4096, 4096, 4096)), seconds(gpu, matmul(1, 4096, 4096, 4096, F16))
    coarse = RooflineCost(replace(gpu, tf32=True)).cost(matmul(1, 4096, 4096, 4096)).seconds
    assert half * 4 < exact
    assert half < coarse < exact
    double = seconds(gpu, matmul(1, 4096, 4096, 4096, DataType.FLOAT64))
    assert double > exact
    assert seconds(NAMED["t4"], matmul(1, 512, 512, 512, DataType.BFLOAT16)) > seconds(
        NAMED["t4"], matmul(1, 512, 512, 512, F16)
    ), "Turing multiplies bf16 as f32"


def test_one_kernel_is_faster_than_two() -> None:
    gpu, i, j = NAMED["a100"], Iterator("i", 2048), Iterator("j", 2048)
    x, y, z = tensor("x", 2048, 2048), tensor("y", 2048, 2048), tensor("z", 2048, 2048)
    first = Compute(y, Scope([i, j], Apply("exp", Access(x, [i, j]))))
    second = Compute(z, Scope([i, j], Apply("relu", Access(y, [i, j]))))
    both = Compute(z, Scope([i, j], Apply("relu", Apply("exp", Access(x, [i, j])))))
    apart, fused = RooflineCost(gpu).compare([Alternative((first, second), (z,)), Alternative((both,), (z,))])
    assert fused.seconds < apart.seconds
    assert apart.reason.startswith("2 launches: ")
    assert fused.reason.startswith("1 launch: ")


def test_what_constants_alone_decide_is_free() -> None:
    gpu, i, j, k = NAMED["a100"], Iterator("i", 64), Iterator("j", 64), Iterator("k", 64)
    w, v, x, y = (tensor(name, 64, 64) for name in "wvxy")
    fold_weights = Compute(v, Scope([i, j], Apply("exp", Access(w, [i, j]))))
    product = Compute(y, Scope([i, j], Apply("mul", Access(x, [i, k]), Access(v, [k, j])), [k]))
    whole = Alternative((fold_weights, product), (y,), frozenset({"w"}))
    model = RooflineCost(gpu)
    assert len(model.launches(whole)) == 1
    alone = Alternative((product,), (y,), frozenset({"v"}))
    assert model.compare([whole]) == model.compare([alone])


def test_weights_come_from_memory_and_small_values_from_the_cache() -> None:
    gpu, kernel = NAMED["l4"], matmul(1, 1, 4096, 512)
    cold = RooflineCost(gpu).cost(kernel, frozenset({"b"}))
    assert cold.seconds > RooflineCost(gpu).cost(kernel).seconds
    assert cold.terms[0][0] == MEMORY


def test_a_target_without_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="no rates are known of a device"):
        RooflineCost(GpuTarget(kind="opencl", name="a device"))


def test_a_conversion_is_counted() -> None:
    i = Iterator("i", 1 << 20)
    scope = Scope([i], Cast(Access(tensor("x", 1 << 20), [i]), F16))
    cost = RooflineCost(NAMED["t4"]).cost(Compute(Tensor("y", scope.type), scope))
    assert cost.seconds > 2e-6 + 6 * (1 << 20) / 2e12  # through the L2 cache


def test_passes_take_it_as_their_cost_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path))
    found = model(
        "a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 4> (x, w) b = Relu (a) y = Conv (b, v)",
        "float[1, 16, 14, 14] x", "float[1, 32, 14, 14] y", w=(16, 4, 3, 3), v=(32, 16, 1, 1),
    )  # fmt: skip
    imported = program_of(found)
    programs = []
    for _ in range(2):
        context = Context(RooflineCost(NAMED["h200"]))
        programs.append(optimize(imported, context))
        measured = [entry for entry in context.derivations if entry["cost_source"] == "predicted"]
        assert measured
        for entry in measured:
            assert entry["cost_terms"]
            assert "launch" in entry["why"] or "another" in entry["why"]
    assert programs[0] == programs[1]
    feeds = feeds_of(imported)
    values = run_program(programs[0], feeds)
    for tensor_ in imported.outputs:
        assert abs(values[tensor_.name] - run_program(imported, feeds)[tensor_.name]).max() < 1e-4


def test_costs_are_data() -> None:
    assert KernelCost(1.0).terms == ()
    assert RooflineCost(NAMED["h200"]).cost(pointwise(8)).terms[0] == (STARTS, 2e-6)
