"""Schedules of MetaSchedule's space for CUDA: nvcc compiles them, they fit the GPU, and their sources compute the kernel."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from codegen.cuda.cubins import compile_functions
from codegen.cuda.occupancy import beyond
from codegen.cuda.source import cuda_source
from codegen.lower.device import dialect_of, lower
from codegen.lower.dialect import written_in
from codegen.lower.schedulable import schedulable
from codegen.lower.scheduled import describe
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from tensoropt.ir.expression import Access, Apply, Reducer, Scope, Tensor, tensors
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.types import DataType, Extent, TensorType
from tests.codegen.cuda.test_sources_on_host import of_scope, run_on_host
from tests.strategies.cuda_on_host import available
from tests.strategies.device_schedules import searched_schedules
from tests.strategies.networks import convolution, random_array, tensor
from tests.strategies.nvcc import needs_nvcc


def product(rows: int, columns: int, depth: int) -> Scope:
    i, j, k = Iterator("i", rows), Iterator("j", columns), Iterator("k", depth)
    factors = Access(tensor("a", rows, depth), [i, k]), Access(tensor("b", depth, columns), [k, j])
    return Scope([i, j], Apply("relu", Access(Scope([i, j], Apply("mul", *factors), [k]), [i, j])))


def sums(rows: int, columns: int) -> Scope:
    i, k = Iterator("i", rows), Iterator("k", columns)
    return Scope([i], Access(tensor("a", rows, columns), [i, k]), [k])


def softmax(rows: int, columns: int) -> Scope:
    i, j = Iterator("i", rows), Iterator("j", columns)
    x = tensor("a", rows, columns)
    top = Scope([i], Access(x, [i, j]), [j], Reducer.MAX)
    powers = Scope([i, j], Apply("exp", Apply("sub", Access(x, [i, j]), Access(top, [i]))))
    return Scope([i, j], Apply("div", Access(powers, [i, j]), Access(Scope([i], Access(powers, [i, j]), [j]), [i])))


def windows(channels: int, size: int) -> Scope:
    x, y = tensor("a", 1, 8, size, size), tensor("y", 1, channels, size, size)
    return convolution(y, x, tensor("b", channels, 8, 3, 3), 1).expression


LARGE = {
    "product": product(512, 512, 512),
    "sums": sums(64, 8192),
    "softmax": softmax(64, 1000),
    "windows": windows(64, 56),
}
SMALL = {"product": product(16, 24, 8), "sums": sums(3, 64), "softmax": softmax(4, 40), "windows": windows(4, 6)}


def texts(scope: Scope, target: GpuTarget, count: int, seed: int) -> list[str]:
    """Points of the space."""
    with written_in(dialect_of(target)):
        blocks = schedulable(scope)
    return [describe(blocks, schedule) for schedule in searched_schedules(blocks, target, Random(seed), count)]


@needs_nvcc
@pytest.mark.parametrize("name", ["a100", "h200"])
@pytest.mark.parametrize("kind", list(LARGE))
def test_what_is_proposed_compiles_and_fits(kind: str, name: str) -> None:
    target = NAMED[name]
    scope = LARGE[kind]
    found = [
        lower(Tensor("y", scope.type), scope, target, variant={"metaschedule": text})
        for text in texts(scope, target, 3, seed=1)
    ]
    assert len(found) == 3
    launches = {f"kernel_{n}_{m}": launch for n, made in enumerate(found) for m, launch in enumerate(made.launches)}
    cubins = compile_functions({name: launch.function for name, launch in launches.items()}, target)
    resources = {name: needed for cubin in cubins for name, needed in cubin.kernels.items()}
    for label, launch in launches.items():
        assert beyond(target, label, resources[label], launch.grid, launch.block) is None
        assert resources[label].shared_bytes <= 48 << 10


@pytest.mark.skipif(not available(), reason="needs a C++ compiler with barriers and 16-bit floats")
@pytest.mark.parametrize("kind", list(SMALL))
def test_sources_compute_the_kernel_on_the_host(kind: str, tmp_path: Path) -> None:
    """But for sums within a warp, whose shuffles no host has."""
    scope, target, ran = SMALL[kind], NAMED["h200"], 0
    values = {source.name: random_array(source) for source in tensors(scope)}
    for number, text in enumerate(texts(scope, target, 4, seed=2)):
        variant = {"metaschedule": text}
        made = lower(Tensor("y", scope.type), scope, target, variant=variant)
        functions = {str(place): launch.function for place, launch in enumerate(made.launches)}
        if "shfl" in cuda_source(functions, target):
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        found = run_on_host(of_scope(scope), values, folder, contracted=False, variants={"y": variant})["y"]
        np.testing.assert_allclose(found, evaluate(scope, values), rtol=1e-4, atol=1e-5)
        ran += 1
    assert ran


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("name", ["a100", "h200"])
def test_products_of_f16_are_for_tensor_cores(name: str) -> None:
    """What the instructions compute no processor shows; that memory is shared and enough, the assembler does."""
    target = NAMED[name]
    a, b = (Tensor(label, TensorType(DataType.FLOAT16, (Extent(256), Extent(256)))) for label in "ab")
    i, j, k = (Iterator(label, 256) for label in "ijk")
    inner = Scope([i, j], Apply("mul", Access(a, [i, k]), Access(b, [k, j])), [k])
    scope = Scope([i, j], Apply("relu", Access(inner, [i, j])))
    found = next(text for text in texts(scope, target, 8, seed=7) if "wmma" in text)
    (launch,) = lower(Tensor("y", scope.type), scope, target, variant={"metaschedule": found}).launches
    assert "wmma::mma_sync" in cuda_source({"kernel": launch.function}, target)
    ((needed,),) = [cubin.kernels.values() for cubin in compile_functions({"kernel": launch.function}, target)]
    assert 16 * 16 * 2 <= needed.shared_bytes <= 48 << 10
    assert beyond(target, "kernel", needed, launch.grid, launch.block) is None
