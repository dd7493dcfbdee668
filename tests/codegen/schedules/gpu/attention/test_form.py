"""What is attention, and what only looks like it."""

from __future__ import annotations

import pytest

from codegen.lower.device import lower
from codegen.schedules.gpu.attention.form import recognize
from tensoropt.ir.expression import Access, Apply, Constant, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType
from tests.strategies.attention import Sizes, attention, band, tensor, weighted
from tests.strategies.compilers import OPENCL

F32 = DataType.FLOAT32
H, I, J, C, E = (Iterator(name, extent) for name, extent in zip("hijce", (3, 20, 30, 8, 12), strict=True))  # noqa: E741
AXES = (H, I, J)
Q, K, V = (tensor(name, F32, 3, extent, width) for name, extent, width in (("q", 20, 8), ("k", 30, 8), ("v", 30, 12)))
PRODUCTS = Scope(AXES, Apply("mul", Access(Q, [H, I, C]), Access(K, [H, J, C])), [C])
VALUE = Access(V, [H, J, E])


def plain(score: Scalar) -> Scalar:
    return score


def test_its_parts() -> None:
    found = recognize(attention(Sizes(3, 20, 30, 8, 12), F32, True, True))
    assert found is not None
    assert (found.sums.batches, found.rows, found.keys, found.products.depth, found.columns) == (3, 20, 30, 8, 12)


def test_a_scale_on_the_queries_and_keys_that_heads_share() -> None:
    shared = tensor("k", F32, 8, 30)
    query = Apply("mul", Access(Q, [H, I, C]), Constant(0.5, F32))
    products = Scope(AXES, Apply("mul", query, Access(shared, [C, J])), [C])
    found = recognize(weighted(AXES, E, products, plain, VALUE))
    assert found is not None
    assert (found.sums.batches, found.rows) == (3, 20), "values differ from head to head"


def test_the_softmax_of_other_scores_is_none() -> None:
    """The largest or the sum is of something else than what is weighted."""
    score = Access(PRODUCTS, AXES)
    for of_top, of_total in ((Apply("neg", score), score), (score, Apply("neg", score))):
        top = Scope([H, I], of_top, [J], Reducer.MAX)
        power = Apply("exp", Apply("sub", score, Access(top, [H, I])))
        total = Scope([H, I], Apply("exp", Apply("sub", of_total, Access(top, [H, I]))), [J])
        body = Apply("mul", Apply("div", power, Access(total, [H, I])), VALUE)
        assert recognize(Scope([H, I, E], body, [J])) is None


@pytest.mark.parametrize("reducer", [Reducer.MAX, Reducer.MIN])
def test_scores_that_are_no_products(reducer: Reducer) -> None:
    products = Scope(AXES, PRODUCTS.body, [C], reducer)
    assert recognize(weighted(AXES, E, products, plain, VALUE)) is None


def test_weights_that_are_read_elsewhere_too() -> None:
    """The sum is over fewer keys than the softmax."""
    share = weighted(AXES, E, PRODUCTS, plain, VALUE).body
    assert isinstance(share, Apply)
    weights, _ = share.arguments
    assert isinstance(weights, Access)
    few = Iterator("j", 15)
    body = Apply("mul", Access(weights.source, [H, I, Index.of(few) * 2]), Access(V, [H, few, E]))
    scope = Scope([H, I, E], body, [few])
    assert recognize(scope) is None
    assert len(lower(Tensor("y", scope.type), scope, OPENCL).launches) > 1


@pytest.mark.parametrize("step", [1, 2, 4])
def test_rows_of_a_band_share_keys_with_those_of_their_class(step: int) -> None:
    found = recognize(band(Sizes(2, 40, 9, 8, 12), F32, step, 4 * step))
    assert found is not None
    assert found.band is not None
    assert (found.sums.batches, found.rows, found.keys) == (2 * step, 40 // step, 40 // step + 8)
    assert (found.products.depth, found.columns) == (8, 12)
    assert (found.passed(1), found.passed(8), found.passed(64)) == (9, min(16, found.keys), found.keys)


def test_rows_that_have_no_keys_in_common_are_no_band() -> None:
    """Classes of different sizes, and keys twice as far apart in what is weighted as in the scores."""
    uneven = band(Sizes(2, 41, 9, 8, 12), F32, 2, 8)
    assert recognize(uneven) is None
    assert len(lower(Tensor("y", uneven.type), uneven, OPENCL).launches) > 1
    h, i, j, e = H, Iterator("i", 40), Iterator("j", 9), E
    q, k, v = (tensor(name, F32, 3, 40, 12) for name in "qkv")
    c = Iterator("c", 12)
    products = Scope((h, i, j), Apply("mul", Access(q, [h, i, c]), Access(k, [h, Index.of(i) + j, c])), [c])
    other = weighted((h, i, j), e, products, plain, Access(v, [h, Index.of(i) + Index.of(j) * 2, e]))
    assert recognize(other) is None
    turned = weighted((h, i, j), e, products, plain, Access(v, [h, Index.of(i) - j, e]))
    assert recognize(turned) is None
