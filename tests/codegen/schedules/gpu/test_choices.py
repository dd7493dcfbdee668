"""What can be chosen of a schedule: every way computes the same, each is another one, and the first is what is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tvm_ffi import structural_hash

from codegen.device.kernel import compile_kernel
from codegen.lower.device import DeviceKernel, lower
from codegen.targets.named import NAMED
from codegen.tune.space import DEFAULT, ROW_MAJOR, lowered_for_device, variants
from passes.derive.cost import EstimatedCosts
from passes.pipeline import compile_as_written, device_kernels
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Compute
from tensoropt.pass_manager import Context
from tests.strategies.compilers import OPENCL
from tests.strategies.networks import random_array
from tests.strategies.small_models import model, program_of

KERNELS = {
    "element-wise": ("a = Mul (x, b) y = Relu (a)", "float[64, 256] x, float[64, 256] b", "float[64, 256] y", {"injective"}),
    "movers": ("y = Transpose <perm = [1, 0]> (x)", "float[33, 40] x", "float[40, 33] y", {"injective"}),
    "pooling": (
        "y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)",
        "float[1, 3, 24, 24] x", "float[1, 3, 12, 12] y", {"reduction"},
    ),
    "mean": ("y = GlobalAveragePool (x)", "float[1, 5, 14, 14] x", "float[1, 5, 1, 1] y", {"reduction"}),
    "depthwise": (
        "y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 6> (x, w)",
        "float[1, 6, 12, 12] x, float[6, 1, 3, 3] w", "float[1, 6, 12, 12] y", {"reduction"},
    ),
    "softmax": ("y = Softmax <axis = 1> (x)", "float[5, 70] x", "float[5, 70] y", {"rows", "stages"}),
    "product": ("y = MatMul (x, w)", "float[20, 24] x, float[24, 36] w", "float[20, 36] y", {"contraction", "unblocked"}),
    "attention": (
        "t = Transpose <perm = [0, 2, 1]> (k) a = MatMul (q, t) p = Softmax <axis = 2> (a) y = MatMul (p, v)",
        "float[2, 20, 16] q, float[2, 20, 16] k, float[2, 20, 16] v", "float[2, 20, 16] y", {"attention", "stages"},
    ),
}  # fmt: skip
"""A model whose last statement is the kernel, and what can be chosen of it."""


def kernel_of(name: str) -> Compute:
    body, inputs, outputs, _ = KERNELS[name]
    program = program_of(model(body, inputs, outputs))
    made = compile_as_written(program, Context(EstimatedCosts()), device_kernels(lambda expression: True))
    statement = made.statements[-1]
    assert isinstance(statement, Compute)
    return statement


def code(kernel: DeviceKernel) -> list[tuple[object, ...]]:
    return [(structural_hash(one.function, map_free_vars=True), one.grid, one.block) for one in kernel.launches]


@pytest.mark.parametrize("name", KERNELS)
def test_every_way_computes_the_same(name: str) -> None:
    kernel = kernel_of(name)
    values = {tensor.name: random_array(tensor, number) for number, tensor in enumerate(kernel.inputs)}
    expected = evaluate(kernel.expression, values)
    found = variants(kernel, frozenset(), OPENCL, 40)
    assert found[0] is DEFAULT
    assert {parameter for one in found for parameter in one.parameters} == KERNELS[name][3]
    for one in found[1::3]:
        compiled = compile_kernel(kernel, OPENCL, (), one.parameters)
        np.testing.assert_allclose(compiled(values)[kernel.output.name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KERNELS)
def test_no_way_is_listed_twice(name: str) -> None:
    kernel = kernel_of(name)
    found = variants(kernel, frozenset(), OPENCL, 1 << 20)
    assert len({one.key for one in found}) == len(found)
    made = [lowered_for_device(kernel, frozenset(), OPENCL, ROW_MAJOR, one.parameters) for one in found[:60]]
    codes = [code(one) for one in made]
    assert all(other not in codes[:number] for number, other in enumerate(codes))
    assert code(lower(kernel.output, kernel.expression, OPENCL)) == codes[0]


@pytest.mark.parametrize("name", ["element-wise", "pooling", "mean", "softmax"])
def test_ways_have_names(name: str) -> None:
    kernel = kernel_of(name)
    found = variants(kernel, frozenset(), OPENCL, 1 << 20)
    names = [lowered_for_device(kernel, frozenset(), OPENCL, ROW_MAJOR, one.parameters).schedules for one in found]
    assert len(set(names)) == len(names)


def test_blocks_for_rows_fill_whole_warps() -> None:
    kernel, gpu = kernel_of("softmax"), replace(NAMED["h200"], max_threads=1024)
    for one in variants(kernel, frozenset(), gpu, 1 << 20):
        for launch in lowered_for_device(kernel, frozenset(), gpu, ROW_MAJOR, one.parameters).launches:
            assert launch.block[0] % gpu.warp == 0


def test_fewer_are_listed_where_fewer_are_wanted() -> None:
    kernel = kernel_of("product")
    assert [len(variants(kernel, frozenset(), OPENCL, most)) for most in (1, 2, 6)] == [1, 2, 6]
