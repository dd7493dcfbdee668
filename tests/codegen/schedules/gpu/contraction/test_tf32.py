"""f32 on tensor cores where the target wants tf32: operands rounded as PTX says, sums in f32, and nothing else changed."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.cuda.nvcc import find_nvcc
from codegen.cuda.source import cuda_source
from codegen.device.kernel import compile_kernel
from codegen.lower.device import lower
from codegen.schedules.gpu.contraction.tiles import TensorTile
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from codegen.targets.parsing import parse_target
from tensoropt.ir.error_analysis import estimate_at
from tensoropt.ir.expression import Access, Apply, Constant, Scope, Tensor, tensors
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.operand_rounding import OperandRounding
from tensoropt.ir.program import Array, Compute
from tensoropt.ir.types import DataType
from tests.codegen.cuda.test_sources_on_host import of_scope, run_on_host
from tests.codegen.schedules.gpu.contraction.test_emit import product_of
from tests.codegen.schedules.gpu.contraction.test_tensor import geometries
from tests.codegen.schedules.test_contraction import convolution
from tests.strategies.attention import Sizes, attention
from tests.strategies.compilers import OPENCL
from tests.strategies.cuda_on_host import available
from tests.strategies.nvcc import lean, needs_nvcc

IN_WORDS = replace(OPENCL, tf32=True)
"""PoCL, on which the same schedule has the instruction's description in words."""


CALLED = r"\n +multiply_add_tf32\("


def with_tf32(gpu: str) -> GpuTarget:
    return replace(NAMED[gpu], tf32=True)


def rounded(values: Array) -> Array:
    """To ten digits behind the first, ties away from zero, in f64."""
    significand, exponent = np.frexp(values.astype(np.float64))
    scaled = significand * 2**11
    whole = np.where(scaled < 0, np.ceil(scaled - 0.5), np.floor(scaled + 0.5))
    return np.ldexp(whole / 2**11, exponent)


def tensor_tiles(scope: Scope, target: GpuTarget) -> list[int]:
    """The numbers of the ways that use tensor cores."""
    return [number for number, one in enumerate(geometries(scope, target)) if isinstance(one.tile, TensorTile)]


def on_pocl(scope: Scope, values: dict[str, Array], variant: int) -> Array:
    """The value, by a schedule for tensor cores in words."""
    kernel = compile_kernel(Compute(Tensor("y", scope.type), scope), IN_WORDS, (), {"contraction": variant})
    assert kernel.kernel.schedules[0].endswith("on tf32 tensor cores")
    return kernel(values)["y"]


def normal(scope: Scope, seed: int) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    shapes = {read.name: tuple(map(int, read.shape)) for read in tensors(scope)}
    return {name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()}


@given(
    sizes=st.tuples(st.integers(9, 70), st.integers(9, 70), st.integers(8, 100)),
    transposed=st.tuples(st.booleans(), st.booleans()), data=st.data(),
)  # fmt: skip
@settings(max_examples=6)
def test_operands_are_rounded_and_sums_are_not(
    sizes: tuple[int, int, int], transposed: tuple[bool, bool], data: st.DataObject
) -> None:
    core, axes = product_of(sizes, 2, transposed)
    scope = Scope(axes, Apply("max", Access(core, axes), Constant(-2, DataType.FLOAT32)))
    values = normal(scope, sizes[0])
    found = on_pocl(scope, values, data.draw(st.sampled_from(tensor_tiles(scope, IN_WORDS))))
    left, right = (
        rounded(values[name]).transpose(0, 2, 1) if turned else rounded(values[name])
        for name, turned in zip(("left", "right"), transposed, strict=True)
    )
    np.testing.assert_allclose(found, np.maximum(left @ right, -2), atol=2.0**-21 * sizes[2], rtol=0)
    exact = np.maximum(evaluate(core, {name: value.astype(np.float64) for name, value in values.items()}), -2)
    points = tuple(axis.ravel() for axis in np.indices(found.shape))
    error = estimate_at(scope, points, values, OperandRounding()).error.reshape(found.shape)
    assert (np.abs(found - exact) <= error + 2.0**-21 * sizes[2]).all()
    assert np.abs(found - exact).max() > 2.0**-21 * sizes[2], "f32 would differ by less"


def test_every_tile_of_few_rows() -> None:
    """One of them PoCL's compiler makes wrong where the rounding is inline."""
    scope, _ = product_of((16, 17, 48), 2, (True, False))
    values = normal(scope, 16)
    for variant in tensor_tiles(scope, IN_WORDS):
        found = on_pocl(scope, values, variant)
        expected = rounded(values["left"]).transpose(0, 2, 1) @ rounded(values["right"])
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_convolutions_with_their_padding() -> None:
    scope = convolution(1, 12, 20, (9, 11), (3, 3), 1, 1, (1, 1), 1)
    values = normal(scope, 3)
    found = on_pocl(scope, values, tensor_tiles(scope, IN_WORDS)[0])
    operands = {name: rounded(values[name]).astype(np.float32) for name in ("x", "weight")}
    np.testing.assert_allclose(found, evaluate(scope, values | operands), atol=1e-4)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=52, max_size=52))
@settings(max_examples=4)
def test_rounding_is_that_of_the_instruction(bits: list[int]) -> None:
    """A product with the identity, of anything: ties go away from zero, the largest numbers become infinite."""
    ties = [
        sign * scale * (1 + 2.0**-11 + odd * 2.0**-23)
        for sign in (-1, 1)
        for scale in (1, 2.0**90)
        for odd in (-1, 0, 1)
    ]
    numbers = np.array(bits, np.uint32).view(np.float32)
    numbers[~(np.isfinite(numbers) & (np.abs(numbers) >= 2.0**-126))] = 0
    given_values = np.array([*numbers, *ties], np.float32).reshape(1, 8, 8)
    scope, _ = product_of((8, 8, 8), 1, (False, False))
    values = {"left": given_values, "right": np.eye(8, dtype=np.float32)[None]}
    with np.errstate(over="ignore"):
        expected = rounded(given_values).astype(np.float32)
    finite = np.isfinite(expected).all(2)  # an infinite element makes its row's other sums NaN
    found = on_pocl(scope, values, tensor_tiles(scope, IN_WORDS)[0])
    np.testing.assert_array_equal(found[finite], expected[finite])


@pytest.mark.parametrize("transposed", [(False, False), (True, True)])
def test_integers_of_eleven_digits_are_exact(transposed: tuple[bool, bool]) -> None:
    scope, _ = product_of((33, 40, 8), 1, transposed)
    generator = np.random.default_rng(0)
    large = {
        read.name: generator.integers(1 << 10, 1 << 11, tuple(map(int, read.shape)), endpoint=True).astype(np.float32)
        for read in tensors(scope)
    }
    large["right"] %= 64  # so that the sums stay exact
    for variant in tensor_tiles(scope, IN_WORDS)[:3]:
        np.testing.assert_array_equal(on_pocl(scope, large, variant), evaluate(scope, large))
    large["left"][0, :, :] += 2.0**11
    assert not np.array_equal(on_pocl(scope, large, variant), evaluate(scope, large)), "of twelve digits they are not"


@pytest.mark.skipif(not available(), reason="needs a C++ compiler with barriers")
def test_the_source_for_cuda(tmp_path: Path) -> None:
    scope, _ = product_of((37, 29, 70), 1, (False, False))
    values = normal(scope, 1)
    assert isinstance(geometries(scope, with_tf32("h200"))[0].tile, TensorTile)
    found = run_on_host(of_scope(scope), values, tmp_path, True, with_tf32("h200"))["y"]
    np.testing.assert_allclose(found, rounded(values["left"]) @ rounded(values["right"]), atol=2e-5)


def test_nothing_changes_without_it() -> None:
    """What is not asked for is not done, and what is asked for is done to sums of products of f32 alone."""
    single, axes = product_of((256, 256, 256), 1, (False, False))
    assert not tensor_tiles(single, NAMED["h200"])
    assert not tensor_tiles(single, OPENCL)
    assert isinstance(geometries(single, with_tf32("h200"))[0].tile, TensorTile)
    plain, asked = parse_target("cuda:sm_90"), parse_target('{"kind": "cuda", "arch": "sm_90", "tf32": true}')
    assert plain == parse_target('{"kind": "cuda", "arch": "sm_90", "tf32": false}')
    assert isinstance(plain, GpuTarget)
    assert isinstance(asked, GpuTarget)

    def source(scope: Scope, target: GpuTarget) -> str:
        kernel = lower(Tensor("y", scope.type), scope, target)
        return cuda_source({f"kernel_{n}": launch.function for n, launch in enumerate(kernel.launches)}, target)

    half, _ = product_of((256, 256, 256), 1, (False, False), DataType.FLOAT16)
    double, _ = product_of((256, 256, 256), 1, (False, False), DataType.FLOAT64)
    attending = attention(Sizes(2, 64, 64, 64, 64), DataType.FLOAT32, True, True)
    for scope in (half, double, attending, Scope(axes, Apply("exp", Access(tensors(half)[0], axes)))):
        assert source(scope, plain) == source(scope, asked)
    assert not re.search(CALLED, source(single, plain))
    assert re.search(CALLED, source(single, asked))


@needs_nvcc
@pytest.mark.parametrize("gpu", ["a100", "h200"])
def test_registers_of_all_tiles(gpu: str) -> None:
    target = with_tf32(gpu)
    functions = {}
    for shape in ((1000, 1000, 1000), (1024, 1024, 1024)):
        scope, _ = product_of(shape, 1, (False, False))
        for number in tensor_tiles(scope, target):
            one = geometries(scope, target)[number]
            if one.parts == 1 and one.tile.rows * one.tile.columns >= 64 * 64:
                (launch,) = lower(Tensor("y", scope.type), scope, target, variant={"contraction": number}).launches
                functions[f"kernel_{shape[0]}_{number}"] = launch.function
    assert len(functions) >= 8
    lean(functions, target)


@needs_nvcc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_instructions_of_a_step(tmp_path: Path, arch: str) -> None:
    """Each instruction multiplies eight of the depth, and each element that is brought is rounded once."""
    target = replace(NAMED["h200"], arch=arch, tf32=True)
    scope, _ = product_of((256, 256, 256), 1, (False, False))
    number = tensor_tiles(scope, target)[0]
    tile = geometries(scope, target)[number].tile
    assert isinstance(tile, TensorTile)
    kernel = lower(Tensor("y", scope.type), scope, target, variant={"contraction": number})
    source, made = tmp_path / "kernels.cu", tmp_path / "kernels.ptx"
    source.write_text(cuda_source({"kernel": kernel.launches[0].function}, target))
    command = [find_nvcc().path, "-ptx", f"-arch={arch}", "-std=c++17", "-O3", str(source), "-o", str(made)]
    subprocess.run(command, capture_output=True, check=True)
    text = made.read_text()
    multiplied = len(re.findall(r"mma\.sync\.aligned\.m16n8k8\.row\.col\.f32\.tf32\.tf32\.f32", text))
    each = tile.height // 16 * (tile.width // 8) * (tile.depth // 8)
    assert multiplied >= each
    assert multiplied % each == 0, "once, or as often as the loop is unrolled"
    assert len(re.findall(r"cvt\.rna\.tf32\.f32", text)) >= 2 * tile.brought, "in the first step, and in the loop"
