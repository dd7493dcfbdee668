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


def test_a_band_is_not_taken() -> None:
    """Keys and values differ from row to row, so no rows have them in common: its stages stay launches of their own."""
    scope = band(Sizes(2, 40, 9, 8, 12), F32, 2, 8)
    assert recognize(scope) is None
    assert len(lower(Tensor("y", scope.type), scope, OPENCL).launches) > 1
