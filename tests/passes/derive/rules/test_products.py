"""What the rules on products and sums do, and what they refuse."""

from __future__ import annotations

from passes.derive.certify.comparison import difference
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.exact import choose_domain
from tensoropt.ir.expression import Access, Apply, Constant, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import is_contraction
from tensoropt.ir.types import DataType, Extent, TensorType
from tensoropt.rewrite.rule import Refusal, Site, nested_at
from tests.strategies.expressions import F32, tensor

H, J, K, L = Iterator("i", 3), Iterator("j", 4), Iterator("k", 5), Iterator("l", 2)


def product(*factors: Scalar) -> Scalar:
    result = factors[0]
    for factor in factors[1:]:
        result = Apply("mul", result, factor)
    return result


def applied(name: str, scope: Scope, site: Site) -> Scope:
    after = RULES_BY_NAME[name].apply(scope, site)
    assert isinstance(after, Scope), after
    assert difference(scope, after, choose_domain([scope, after]), 3) is None
    return after


def refused(name: str, scope: Scope, site: Site) -> str:
    after = RULES_BY_NAME[name].apply(scope, site)
    assert isinstance(after, Refusal)
    return after.reason


def chain() -> Scope:
    a, b, c = tensor("A", 3, 4), tensor("B", 4, 5), tensor("C", 5, 2)
    return Scope([H, L], product(Access(a, [H, J]), Access(b, [J, K]), Access(c, [K, L])), [J, K])


def test_any_pair_of_a_chain_is_grouped_with_its_own_sums() -> None:
    for pair, inner_shape, outer_sums in (((0, 1), (3, 5), 1), ((1, 2), (4, 2), 1), ((0, 2), (3, 4, 5, 2), 2)):
        after = applied("group_factors", chain(), Site.of(term=0, factors=pair))
        inner = nested_at(after, (0 if 0 in pair else 1,))
        assert inner is not None
        assert (inner.shape, len(after.reduction)) == (inner_shape, outer_sums)


def test_a_nested_sum_is_flattened_back() -> None:
    after = applied("group_factors", chain(), Site.of(term=0, factors=(0, 1)))
    flat = applied("flatten_product", after, Site.of(access=0))
    assert is_contraction(flat)
    assert {iterator.extent for iterator in flat.reduction} == {4, 5}


def test_a_factor_without_the_summation_leaves_the_sum() -> None:
    scope = Scope([H], product(Access(tensor("g", 3), [H]), Access(tensor("A", 3, 4), [H, J])), [J])
    after = applied("group_factors", scope, Site.of(term=0, factors=(1,)))
    assert after.reduction == ()


def test_products_do_not_distribute_over_maxima() -> None:
    scope = chain()
    greatest = Scope(scope.traversal, scope.body, scope.reduction, Reducer.MAX)
    assert "sums only" in refused("group_factors", greatest, Site.of(term=0, factors=(0, 1)))
    inner = Scope([H], Access(tensor("A", 3, 4), [H, J]), [J], Reducer.MAX)
    outer = Scope([H], product(Access(inner, [H]), Access(tensor("g", 3), [H])))
    assert "sums only" in refused("flatten_product", outer, Site.of(access=0))


def test_nothing_is_grouped_where_all_or_no_factors_are_chosen() -> None:
    for factors in ((), (0, 1, 2), (0, 7)):
        assert "others are not" in refused("group_factors", chain(), Site.of(term=0, factors=factors))
    assert "nothing is summed" in refused("group_factors", chain(), Site.of(term=0, factors=(1,)))


def shifted_convolution(outside: float = 0.0, offset: int = -1) -> Scope:
    """``Σ<r> {A[x]·g[x] + b[0]}[i + r + offset] · K[r]``."""
    x, r = Iterator("x", 6), Iterator("r", 3)
    shifted = Scope(
        [x],
        Apply("add", product(Access(tensor("A", 6), [x]), Access(tensor("g", 6), [x])), Access(tensor("b", 1), [0])),
    )
    y = Iterator("y", 6 if offset else 4)
    read = Access(shifted, [Index.of(y) + r + offset], outside)
    return Scope([y], product(read, Access(tensor("K", 3), [r])), [r])


def test_a_shift_before_a_padded_sum_does_not_merge_but_separates() -> None:
    scope = shifted_convolution()
    assert "need not be the outside value" in refused("merge", scope, Site.of(access=0))
    apart = applied("separate_terms", scope, Site.of(access=0))
    apart = applied("distribute", apart, Site.of(term=0, factor=0))
    apart = applied("distribute_sum", apart, Site())
    moving = nested_at(apart, (0,))
    assert moving is not None
    applied("merge", moving, Site.of(access=0))  # what is multiplied with the image is 0 beyond it
    shift = nested_at(apart, (1,))
    assert shift is not None
    assert "need not be the outside value" in refused("merge", shift, Site.of(access=0))


def test_terms_are_not_separated_where_padding_is_not_zero() -> None:
    assert "something else than 0" in refused("separate_terms", shifted_convolution(1.0), Site.of(access=0))


def test_a_shift_before_an_unpadded_sum_merges() -> None:
    applied("merge", shifted_convolution(offset=0), Site.of(access=0))


def padded_sum(inner: Scope) -> Scope:
    """``Σ<r> inner[y + r − 1] · K[r]``, which reads one element before and one after the nested scope."""
    y, r = Iterator("y", inner.traversal[0].extent), Iterator("r", 3)
    return Scope([y], product(Access(inner, [Index.of(y) + r - 1]), Access(tensor("K", 3), [r])), [r])


def test_a_sum_read_beyond_its_box_is_flattened_only_where_it_ends_there() -> None:
    x, c = Iterator("x", 4), Iterator("c", 2)
    weights = Access(tensor("W", 2), [c])
    longer = Scope([x], product(Access(tensor("A", 2, 9), [c, Index.of(x) + 2]), weights), [c])
    assert "need not be the outside value" in refused("flatten_product", padded_sum(longer), Site.of(access=0))
    exact = Scope([x], product(Access(tensor("A", 2, 4), [c, x]), weights), [c])
    applied("flatten_product", padded_sum(exact), Site.of(access=0))


def test_division_of_integers_stays() -> None:
    whole = DataType.INT64
    source = Tensor("n", TensorType(whole, (Extent(3),)))
    scope = Scope([H], Apply("div", Access(source, [H]), Constant(2, whole)))
    assert "truncates" in refused("divide_by_reciprocal", scope, Site.of(term=0, factor=0))
    halves = Scope([H], Apply("div", Access(tensor("x", 3), [H]), Constant(2.0, F32)))
    applied("divide_by_reciprocal", halves, Site.of(term=0, factor=0))


def test_addends_are_grouped_with_their_signs() -> None:
    a, b, c = (Access(tensor(name, 3), [H]) for name in "abc")
    scope = Scope([H], Apply("sub", Apply("sub", a, b), c))
    after = applied("group_terms", scope, Site.of(terms=(1, 2)))
    inner = nested_at(after, (1,))
    assert inner is not None
    assert isinstance(inner.body, Apply)
    assert inner.body.operation == "add"


def test_an_affine_map_goes_into_the_weights() -> None:
    a, w = tensor("A", 3, 4), tensor("W", 4, 5)
    inner = Scope([H, K], product(Access(a, [H, J]), Access(w, [J, K])), [J])
    scope = Scope([H, K], product(Access(inner, [H, K]), Access(tensor("g", 5), [K])))
    flat = applied("flatten_product", scope, Site.of(access=0))
    folded = applied("group_factors", flat, Site.of(term=0, factors=(1, 2)))
    weights = nested_at(folded, (1,))
    assert weights is not None
    assert weights.shape == (4, 5)
    assert is_contraction(folded)


def test_an_addend_under_a_sum_is_not_grouped_alone() -> None:
    first = product(Access(tensor("A", 3, 4), [H, J]), Access(tensor("w", 4), [J]), Access(tensor("g", 3), [H]))
    scope = Scope([H], Apply("add", first, Access(tensor("B", 3, 4), [H, J])), [J])
    assert "split first" in refused("group_factors", scope, Site.of(term=0, factors=(0, 1)))
    negative = Scope([H], Apply("neg", first), [J])
    assert "split first" in refused("group_factors", negative, Site.of(term=0, factors=(0, 1)))
    inner = Scope([H, K], product(Access(tensor("A", 3, 4), [H, J]), Access(tensor("B", 4, 5), [J, K])), [J])
    both = Apply("add", product(Access(inner, [H, K]), Access(tensor("w", 5), [K])), Access(tensor("b", 5), [K]))
    assert "factor of the whole body" in refused("flatten_product", Scope([H], both, [K]), Site.of(access=0))


def test_summations_that_no_factor_uses_count_once() -> None:
    unused = Iterator("u", 3)
    scope = Scope([H], product(Access(tensor("g", 3), [H]), Access(tensor("A", 3, 4), [H, J])), [J, unused])
    after = applied("group_factors", scope, Site.of(term=0, factors=(1,)))
    assert not after.reduction


def adjoint(outside: float = 0.0, channels: int = 2) -> Scope:
    """``Σ<c, h> X[c, h]·W[c, y − 2·h]·g[c]``, as before a transposed convolution."""
    c, h, y = Iterator("c", 2), Iterator("h", 3), Iterator("y", 6)
    kernel = Access(tensor("W", channels, 4), [Index.of(c), Index.of(y) - Index.of(h) * 2], outside)
    return Scope([y], product(Access(tensor("X", 2, 3), [c, h]), kernel, Access(tensor("g", 2), [c])), [c, h])


def test_a_scale_takes_the_axes_of_what_it_scales() -> None:
    after = applied("scale_source", adjoint(), Site.of(term=0, source=1, factors=(2,)))
    scaled = nested_at(after, (1,))
    assert scaled is not None
    assert scaled.shape == (2, 4)


def test_a_scale_stays_where_the_source_has_another_axis_or_is_not_zero_outside() -> None:
    assert "0 outside" in refused("scale_source", adjoint(1.0), Site.of(term=0, source=1, factors=(2,)))
    assert "no whole axis" in refused("scale_source", adjoint(channels=3), Site.of(term=0, source=1, factors=(2,)))
    assert "no whole axis" in refused("scale_source", adjoint(), Site.of(term=0, source=1, factors=(0,)))
    assert "no such factors" in refused("scale_source", adjoint(), Site.of(term=0, source=1, factors=(1,)))


def test_only_sums_are_distributed_over_addends() -> None:
    body = Apply("add", Access(tensor("A", 3, 4), [H, J]), Access(tensor("B", 3, 4), [H, J]))
    applied("distribute_sum", Scope([H], body, [J]), Site())
    assert "nothing is summed" in refused("distribute_sum", Scope([H], body, [J], Reducer.MAX), Site())
    assert "nothing is summed" in refused("distribute_sum", Scope([H, J], body), Site())


def test_a_nested_sum_over_a_range_is_not_separated() -> None:
    body = Apply("add", Access(tensor("A", 3, 4), [H, J]), Access(tensor("B", 3, 4), [H, J]))
    scope = Scope([H], Access(Scope([H], body, [J], Reducer.MAX), [H]))
    assert "reduces" in refused("separate_terms", scope, Site.of(access=0))
