"""Convolutions by products at points as one kernel: what the expression says, for random geometry and every way to cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from codegen.kernel import compile_kernel
from codegen.lower.kernel import lower
from codegen.targets.cpu import CpuTarget, host_target
from passes.winograd import Filtered, filtered
from tensoropt.ir.expression import Access, Apply, Scope
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array, Compute
from tests.strategies import networks
from tests.strategies.networks import random_array, tensor

TARGET = replace(host_target(), threads=2)


def convolution(
    images: int,
    channels: int,
    filters: int,
    size: tuple[int, int],
    taps: tuple[int, int],
    padding: tuple[int, int],
    apart: tuple[int, int] = (1, 1),
) -> Compute:
    """A convolution with a bias and a residual behind it, large enough to be rewritten."""
    outputs = tuple(
        extent + 2 * pad - (tap - 1) * distance
        for extent, pad, tap, distance in zip(size, padding, taps, apart, strict=True)
    )
    image, kernel = tensor("A", images, channels, *size), tensor("K", filters, channels, *taps)
    return networks.convolution(tensor("out", images, filters, *outputs), image, kernel, padding, apart)


def finished(kernel: Compute) -> Compute:
    """The kernel with a bias and a residual added in an epilogue."""
    scope = kernel.expression
    axes = [Iterator(f"o{number}", int(extent)) for number, extent in enumerate(scope.shape)]
    biased = Apply("add", Access(scope, axes), Access(tensor("bias", int(scope.shape[1])), [axes[1]]))
    result = Apply("relu", Apply("add", biased, Access(tensor("before", *map(int, scope.shape)), axes)))
    return Compute(kernel.output, Scope(axes, result))


def ways(core: Compute) -> list[Filtered]:
    return list(filtered(core, ["K"], 1e6))


def values_for(core: Compute) -> dict[str, Array]:
    shape = tuple(map(int, core.output.shape))
    tensors = (*core.inputs, tensor("bias", shape[1]), tensor("before", *shape))
    return {one.name: random_array(one) for one in tensors}


def run(one: Filtered, values: dict[str, Array], target: CpuTarget, variant: int) -> tuple[Array, str]:
    constants = dict(values)
    for statement in one.constants:
        constants[statement.output.name] = evaluate(statement.expression, constants)
    weights = {one.constants[-1].output.name: constants[one.constants[-1].output.name]}
    kernel = compile_kernel(finished(one.kernel), target, weights, {"filtering": variant})
    return kernel(values)["out"], kernel.kernel.schedules[0]


@settings(max_examples=24, derandomize=True, phases=[Phase.generate])
@given(st.data())
def test_random_geometry(data: st.DataObject) -> None:
    images, channels, filters = data.draw(st.tuples(st.integers(1, 2), st.integers(2, 20), st.integers(2, 27)))
    taps = data.draw(st.sampled_from([(3, 3), (3, 3), (5, 5), (2, 2), (1, 3), (3, 1), (3, 2), (1, 5)]))
    apart = data.draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 1), (1, 2)])) if max(taps) == 3 else (1, 1)
    padding = data.draw(st.tuples(st.integers(0, taps[0] - 1), st.integers(0, taps[1] - 1)))
    least = 1 << 20
    width = data.draw(st.integers(max(taps[1] + 8, 20), 75))
    lines = least // (images * channels * filters * taps[0] * taps[1] * width) + 1
    size = (lines + taps[0] * apart[0] + data.draw(st.integers(0, 4)), width)
    core = convolution(images, channels, filters, size, taps, padding, apart)
    values = values_for(core)
    expected = evaluate(finished(core).expression, values)
    scale = float(np.abs(expected).max())
    for one in ways(core):
        found, label = run(one, values, TARGET, data.draw(st.integers(0, 40)))
        assert label.startswith("filtering"), label
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * scale)


@pytest.mark.parametrize("bits", [128, 256, 512])
def test_vectors_of_every_width(bits: int) -> None:
    if bits > TARGET.vector_bits:
        pytest.skip("this processor has no such vectors")
    target = replace(TARGET, vector_bits=bits, registers=32 if bits == 512 else 16)
    core = convolution(1, 8, 9, (40, 37), (3, 3), (1, 1))
    values = values_for(core)
    expected = evaluate(finished(core).expression, values)
    for one in ways(core):
        found, label = run(one, values, target, 0)
        assert label.startswith("filtering"), label
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * float(np.abs(expected).max()))


def test_scratch_memory_is_a_block_and_not_the_transformed_input() -> None:
    core = convolution(1, 64, 64, (112, 112), (3, 3), (1, 1))
    for one in ways(core):
        weights = one.constants[-1].output
        kernel = lower(one.kernel.output, one.kernel.expression, TARGET, frozenset({weights.name}))
        assert kernel.workspace_bytes < 64 * 112 * 112 * 4


def test_weights_that_come_at_run_time_are_left_alone() -> None:
    assert not list(filtered(convolution(1, 8, 8, (50, 50), (3, 3), (1, 1)), [], 1e6))


def test_the_growth_of_errors_is_limited() -> None:
    core = convolution(1, 8, 8, (50, 50), (3, 3), (1, 1))
    assert [one.tile for one in filtered(core, ["K"], 100)] == [4, 2]
    assert [one.tile for one in filtered(core, ["K"], 10)] == [2]
    assert not list(filtered(core, ["K"], 1))
