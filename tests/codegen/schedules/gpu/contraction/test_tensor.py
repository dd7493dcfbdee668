"""Blocks of halves for tensor cores, with each instruction told in words: on OpenCL, and in CUDA's source on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.cuda.source import cuda_source
from codegen.device.kernel import compile_kernel
from codegen.lower.device import lower
from codegen.lower.stages import split_stages
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.context import Context
from codegen.schedules.gpu.contraction.geometry import Geometry, candidates
from codegen.schedules.gpu.contraction.tiles import TensorTile
from codegen.schedules.sums_of_products import classify
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from tensoropt.ir.expression import Access, Apply, Constant, Scope, Tensor, tensors
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType
from tests.codegen.cuda.test_sources_on_host import of_scope, run_on_host
from tests.codegen.schedules.gpu.contraction.test_emit import product_of
from tests.codegen.schedules.test_contraction import integers
from tests.strategies.compilers import OPENCL
from tests.strategies.cuda_on_host import available
from tests.strategies.nvcc import lean

HALVES = st.sampled_from([DataType.FLOAT16, DataType.BFLOAT16])


def geometries(scope: Scope, target: GpuTarget) -> list[Geometry]:
    stage = split_stages(scope)[0]
    contraction = classify(Context({}, frozenset(), "int32", target), stage.scope)
    assert contraction is not None
    return candidates(Epilogue(stage), contraction, target)


@given(
    sizes=st.tuples(st.integers(9, 70), st.integers(9, 70), st.integers(16, 100)), dtype=HALVES,
    transposed=st.tuples(st.booleans(), st.booleans()), data=st.data(),
)  # fmt: skip
@settings(max_examples=6)
def test_halves_with_an_epilogue(
    sizes: tuple[int, int, int], dtype: DataType, transposed: tuple[bool, bool], data: st.DataObject
) -> None:
    core, axes = product_of(sizes, 2, transposed, dtype)
    scope = Scope(axes, Apply("max", Access(core, axes), Constant(-2, dtype)))
    tiles = [n for n, one in enumerate(geometries(scope, OPENCL)) if isinstance(one.tile, TensorTile)]
    values = {read.name: integers(read) for read in tensors(scope)}
    variant = {"contraction": data.draw(st.sampled_from(tiles))}
    kernel = compile_kernel(Compute(Tensor("y", scope.type), scope), OPENCL, (), variant)
    assert kernel.kernel.schedules[0].endswith("on tensor cores")
    np.testing.assert_array_equal(kernel(values)["y"], evaluate(scope, values))


def test_halves_whose_depth_is_cut_in_parts_are_rounded_once() -> None:
    scope, _ = product_of((16, 16, 512), 1, (False, True), DataType.FLOAT16)
    found = geometries(scope, OPENCL)
    variant = next(n for n, one in enumerate(found) if isinstance(one.tile, TensorTile) and one.parts == 4)
    generator = np.random.default_rng(5)
    values = {
        read.name: generator.uniform(0, 4, tuple(map(int, read.shape))).astype(np.float16) for read in tensors(scope)
    }
    kernel = compile_kernel(Compute(Tensor("y", scope.type), scope), OPENCL, (), {"contraction": variant})
    assert len(kernel.kernel.launches) == 2
    exact = values["left"].astype(np.float64) @ values["right"].astype(np.float64).transpose(0, 2, 1)
    np.testing.assert_allclose(kernel(values)["y"].astype(np.float64), exact, rtol=2**-11 + 512 * 2**-24)


@pytest.mark.skipif(not available(), reason="needs a C++ compiler with barriers and 16-bit floats")
@pytest.mark.parametrize("dtype", [DataType.FLOAT16, DataType.BFLOAT16])
def test_the_source_for_cuda(tmp_path: Path, dtype: DataType) -> None:
    scope, _ = product_of((37, 29, 70), 1, (False, False), dtype)
    values = {read.name: integers(read) for read in tensors(scope)}
    assert isinstance(geometries(scope, NAMED["h200"])[0].tile, TensorTile)
    found = run_on_host(of_scope(scope), values, tmp_path, True)
    np.testing.assert_array_equal(found["y"], evaluate(scope, values))


@pytest.mark.parametrize(("gpu", "tensor"), [("h200", True), ("a100", True), ("t4", False)])
def test_gpus_that_have_them_get_them(gpu: str, tensor: bool) -> None:
    for dtype in (DataType.FLOAT16, DataType.BFLOAT16):
        scope, _ = product_of((256, 256, 256), 1, (False, False), dtype)
        assert isinstance(geometries(scope, NAMED[gpu])[0].tile, TensorTile) == tensor
    single, _ = product_of((256, 256, 256), 1, (False, False))
    assert not any(isinstance(one.tile, TensorTile) for one in geometries(single, NAMED[gpu]))


@pytest.mark.parametrize("gpu", ["a100", "h200"])
def test_registers_of_all_tiles(gpu: str) -> None:
    scope, _ = product_of((1000, 1000, 1000), 1, (False, False), DataType.FLOAT16)
    functions = {}
    for number, one in enumerate(geometries(scope, NAMED[gpu])):
        if isinstance(one.tile, TensorTile) and one.parts == 1 and one.tile.rows * one.tile.columns >= 64 * 64:
            (launch,) = lower(Tensor("y", scope.type), scope, NAMED[gpu], variant={"contraction": number}).launches
            functions[f"kernel_{number}"] = launch.function
    assert len(functions) >= 8
    assert 'MULTIPLY_ADD(multiply_add_f16, "m16n8k16", "f16")' in cuda_source(functions, NAMED[gpu])
    lean(functions, NAMED[gpu])
