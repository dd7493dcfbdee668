"""Attention in one launch on OpenCL, at sizes around those of tiles, against the interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codegen.device.kernel import compile_kernel
from codegen.schedules.gpu.attention.form import recognize
from codegen.schedules.gpu.attention.geometry import candidates
from tensoropt.ir.expression import Access, Apply, Cast, Constant, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.ir.program import Array, Compute
from tensoropt.ir.types import DataType
from tests.strategies.attention import Sizes, attention, band, tensor, values_of, weighted
from tests.strategies.compilers import OPENCL

TOLERANCES = {
    DataType.FLOAT16: 1e-2,  # scores are rounded, which weights show many times as large
    DataType.BFLOAT16: 6e-2,
    DataType.FLOAT32: 1e-5,
    DataType.FLOAT64: 1e-12,
}
SIZES = st.builds(
    Sizes, st.integers(1, 3), st.integers(2, 70), st.integers(8, 80), st.integers(2, 40), st.integers(2, 40)
)


def agrees(scope: Scope, values: dict[str, Array], variant: int, exact: Scope | None = None) -> None:
    """Compares with the interpreter: with what it makes of ``exact``, the same in f64, where each step's rounding shows."""
    kernel = compile_kernel(Compute(Tensor("y", scope.type), scope), OPENCL, (), {"attention": variant})
    (name,) = kernel.kernel.schedules
    assert name.startswith("attention")
    assert not kernel.kernel.workspace_bytes
    with np.errstate(all="ignore"):
        if exact is None:
            expected = evaluate(scope, values).astype(np.float64)
        else:
            expected = evaluate(exact, {name: array.astype(np.float64) for name, array in values.items()})
    tolerance = TOLERANCES[scope.dtype]
    np.testing.assert_allclose(kernel(values)["y"].astype(np.float64), expected, rtol=tolerance, atol=tolerance)


@given(
    sizes=SIZES, dtype=st.sampled_from(list(TOLERANCES)), scaled=st.booleans(), masked=st.booleans(),
    variant=st.integers(0, 100),
)  # fmt: skip
@example(Sizes(2, 64, 64, 32, 32), DataType.FLOAT32, True, True, 0)
@example(Sizes(1, 65, 129, 33, 17), DataType.FLOAT16, True, True, 1)
@settings(max_examples=12)
def test_softmax_of_products_and_its_product(
    sizes: Sizes, dtype: DataType, scaled: bool, masked: bool, variant: int
) -> None:
    scope = attention(sizes, dtype, scaled, masked)
    values = values_of(scope, variant)
    values["q"] = (values["q"].astype(np.float64) / sizes.depth**0.5).astype(dtype.numpy)  # as models scale scores
    agrees(scope, values, variant, attention(sizes, DataType.FLOAT64, scaled, masked))


@given(
    sizes=st.builds(Sizes, st.integers(1, 2), *[st.integers(1, 9).map(lambda count: 8 * count)] * 4),
    dtype=st.sampled_from(list(TOLERANCES)), masked=st.booleans(), variant=st.integers(0, 100),
)  # fmt: skip
@settings(max_examples=12)
def test_neighbours_that_are_read_at_once(sizes: Sizes, dtype: DataType, masked: bool, variant: int) -> None:
    scope = attention(sizes, dtype, True, masked)
    values = values_of(scope, variant)
    values["q"] = (values["q"].astype(np.float64) / sizes.depth**0.5).astype(dtype.numpy)
    agrees(scope, values, variant, attention(sizes, DataType.FLOAT64, True, masked))


@given(
    sizes=st.builds(Sizes, st.integers(1, 3), st.integers(2, 50), st.integers(8, 70), st.integers(2, 20), st.integers(2, 20)),
    step=st.integers(1, 3), shift=st.integers(-5, 80), dtype=st.sampled_from(list(TOLERANCES)), masked=st.booleans(),
    variant=st.integers(0, 100),
)  # fmt: skip
@example(Sizes(2, 64, 17, 32, 32), 2, 16, DataType.FLOAT32, True, 0)
@example(Sizes(1, 50, 8, 8, 8), 1, -2, DataType.FLOAT32, False, 0)
@settings(max_examples=12)
def test_bands(sizes: Sizes, step: int, shift: int, dtype: DataType, masked: bool, variant: int) -> None:
    """Keys at distances from their rows, before the first and behind the last too, where they are zero and take part."""
    sizes = replace(sizes, rows=step * sizes.rows)
    scope = band(sizes, dtype, step, shift, masked)
    values = values_of(scope, variant)
    values["q"] = (values["q"].astype(np.float64) / sizes.depth**0.5).astype(dtype.numpy)
    agrees(scope, values, variant, band(sizes, DataType.FLOAT64, step, shift, masked))


def test_blocks_go_past_the_keys_of_their_rows_alone() -> None:
    """Cuts of all sizes, of a band that is much shorter than the rows: keys that no row of a block has are not read."""
    scope = band(Sizes(1, 150, 20, 8, 16), DataType.FLOAT32, 1, 10, True)
    found = recognize(scope)
    assert found is not None
    values, cuts = values_of(scope, 0), candidates(found, OPENCL)
    assert len(cuts) > 10
    for variant in range(0, len(cuts), 4):
        agrees(scope, values, variant)
    values["k"][:100] = values["v"][:100] = np.nan
    kernel = compile_kernel(Compute(Tensor("y", scope.type), scope), OPENCL, (), {"attention": 0})
    values["mask"][:] = 0
    result = kernel(values)["y"]
    read = cuts[0].scores
    assert np.isfinite(result[:, 100 + 10 + read.rows + read.columns :]).all()


def test_every_cut() -> None:
    """All tiles that some size may get, with keys that end within a tile."""
    scope = attention(Sizes(1, 65, 71, 17, 130), DataType.FLOAT32, True, True)
    found = recognize(scope)
    assert found is not None
    values = values_of(scope, 3)
    cuts = candidates(found, OPENCL)
    assert len({(cut.scores, cut.sums) for cut in cuts}) == len(cuts) > 20
    for variant in range(0, len(cuts), 5):
        agrees(scope, values, variant)


@pytest.mark.parametrize("first", [-np.inf, 80.0, np.nan, np.inf])
def test_what_comes_in_an_early_tile_and_not_later(first: float) -> None:
    """A row whose first keys are masked, whose first scores are by far the largest, or have no softmax."""
    sizes = Sizes(1, 16, 64, 4, 16)
    scope = attention(sizes, DataType.FLOAT32, False, True)
    values = values_of(scope, 0)
    values["mask"][:] = 0
    values["mask"][:, :16] = first
    values["mask"][3:5, 16:] = -np.inf
    agrees(scope, values, 2)


def test_an_epilogue_of_its_own_point() -> None:
    core = attention(Sizes(2, 20, 30, 8, 12), DataType.FLOAT32, True, False)
    h, i, e = core.traversal
    residual = tensor("r", DataType.FLOAT32, 20, 2, 12)
    ended = Apply(
        "add", Apply("max", Access(core, [h, i, e]), Constant(0.1, DataType.FLOAT32)), Access(residual, [i, h, e])
    )
    scope = Scope([i, h, e], ended)
    agrees(scope, values_of(scope, 0), 0)


def test_operands_that_are_computed() -> None:
    """A scale on the queries, and keys that heads share and that lie the other way around."""
    h, i, j, c, e = (Iterator(name, extent) for name, extent in zip("hijce", (2, 20, 30, 8, 12), strict=True))
    q, k, v = (tensor(name, DataType.FLOAT32, *shape) for name, shape in QKV.items())
    query = Apply("mul", Access(q, [i, h, c]), Constant(0.5, DataType.FLOAT32))
    products = Scope([h, i, j], Apply("mul", query, Apply("tanh", Access(k, [c, j]))), [c])
    scope = weighted((h, i, j), e, products, lambda score: score, Access(v, [j, e]))
    agrees(scope, values_of(scope, 0), 0)


def test_a_softmax_in_f32_between_products_of_halves() -> None:
    h, i, j, c, e = (Iterator(name, extent) for name, extent in zip("hijce", (2, 20, 30, 8, 12), strict=True))
    q, k, v = (tensor(name, DataType.FLOAT16, *shape) for name, shape in QKV.items())
    products = Scope([h, i, j], Apply("mul", Access(q, [i, h, c]), Access(k, [c, j])), [c])
    wide = weighted(
        (h, i, j), e, products, lambda score: Cast(score, DataType.FLOAT32), Cast(Access(v, [j, e]), DataType.FLOAT32)
    )
    assert isinstance(wide.body, Apply)
    weights, _ = wide.body.arguments
    scope = Scope([h, i, e], Apply("mul", Cast(weights, DataType.FLOAT16), Access(v, [j, e])), [j])
    agrees(scope, values_of(scope, 0), 0)


QKV = {"q": (20, 2, 8), "k": (8, 30), "v": (30, 12)}
