"""How sums of products are cut: within what the target has, so that it is filled, and smaller where the result is."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.lower.device import lower
from codegen.lower.stages import split_stages
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.context import Context
from codegen.schedules.gpu.contraction.geometry import Geometry, candidates
from codegen.schedules.sums_of_products import classify
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.types import DataType
from tests.codegen.schedules.gpu.contraction.test_emit import product_of
from tests.codegen.schedules.test_contraction import convolution
from tests.strategies.compilers import OPENCL


def geometries(scope: Scope, target: GpuTarget) -> list[Geometry]:
    stage = split_stages(scope)[0]
    contraction = classify(Context({}, frozenset(), "int32", target), stage.scope)
    assert contraction is not None
    return candidates(Epilogue(stage), contraction, target)


@given(
    sizes=st.tuples(*[st.integers(4, 3000)] * 3), batch=st.integers(1, 20),
    dtype=st.sampled_from([DataType.FLOAT32, DataType.FLOAT64, DataType.FLOAT16, DataType.INT64]),
    target=st.sampled_from([OPENCL, NAMED["a100"], NAMED["t4"], replace(OPENCL, max_threads=64, shared_bytes=8 << 10)]),
)  # fmt: skip
@settings(max_examples=40)
def test_candidates_fit_the_target(sizes: tuple[int, int, int], batch: int, dtype: DataType, target: GpuTarget) -> None:
    scope, _ = product_of(sizes, batch, (False, False), dtype)
    found = geometries(scope, target)
    assert [one.cycles for one in found] == sorted(one.cycles for one in found)
    assert {one.tile for one in found if one.parts == 1}, "there is a small one for every target"
    for one in found:
        assert one.tile.threads <= target.max_threads
        assert one.tile.shared_bytes(dtype.itemsize) <= target.shared_bytes
        assert sizes[2] % one.parts == 0


def test_large_results_get_large_tiles_and_small_ones_fill_the_gpu() -> None:
    h200 = NAMED["h200"]
    large = geometries(product_of((4096, 4096, 4096), 1, (False, False))[0], h200)[0]
    assert (large.tile.rows, large.tile.columns, large.parts) == (128, 128, 1)
    for scope in (
        product_of((64, 64, 8192), 1, (False, False))[0],
        convolution(1, 512, 512, (7, 7), (3, 3), 1, 1, (1, 1), 1),
    ):
        kernel = lower(Tensor("y", scope.type), scope, h200)
        assert len(kernel.launches) == 2
        assert kernel.launches[0].grid[0] >= h200.multiprocessors / 2
        assert kernel.workspace_bytes >= scope.type.bytes


def test_what_has_no_two_sides_is_folded() -> None:
    scope, _ = product_of((1, 300, 300), 1, (False, True))
    assert lower(Tensor("y", scope.type), scope, OPENCL).schedules[0].startswith("reduction")
