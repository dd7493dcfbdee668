"""Folds that are no products: unit factors, overlapping halves, residue views, and the older rules on other reducers than sums."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.derive.certify.comparison import difference
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.exact import choose_domain
from tensoropt.ir.expression import Access, Reducer, Scope, reducer_identity
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Refusal, Site
from tests.strategies.expressions import F32, closed_scopes, tensor

REDUCERS = list(Reducer)


def window(
    reducer: Reducer, taps: int, stride: int, padding: int, outside: float | None = None, size: int = 9
) -> Scope:
    """``L<x> fold<r> A[stride·x + r − padding]``."""
    x, r = Iterator("x", (size + 2 * padding - taps) // stride + 1), Iterator("r", taps)
    fill = reducer_identity(reducer, F32) if outside is None else outside
    return Scope((x,), Access(tensor("A", size), [Index.of(x) * stride + r - padding], fill), (r,), reducer)


def nothing_differs(before: Scope, after: Scope) -> bool:
    return difference(before, after, choose_domain([before, after]), 5) is None


def is_exact(rule: str, scope: Scope, site: Site) -> bool:
    """Whether the rule applies; fails where it applies and the value is another one."""
    after = RULES_BY_NAME[rule].apply(scope, site)
    if isinstance(after, Refusal):
        return False
    assert nothing_differs(scope, after)
    return True


@settings(max_examples=60)
@given(closed_scopes())
def test_the_rules_are_exact_on_random_expressions(scope: Scope) -> None:
    for name in ("unit_factor", "split_overlapping", "view_residues"):
        rule = RULES_BY_NAME[name]
        for site in rule.sites(scope):
            after = rule.apply(scope, site)
            if isinstance(after, Scope):
                wrong = difference(scope, after, choose_domain([scope, after]), 5)
                assert wrong is None or "infinity" in wrong, f"{name}({site}) {wrong}"


@settings(max_examples=60)
@given(st.sampled_from(REDUCERS), st.integers(3, 7), st.integers(1, 3), st.integers(0, 2))
def test_windows_of_every_reducer(reducer: Reducer, taps: int, stride: int, padding: int) -> None:
    scope = window(reducer, taps, stride, padding)
    extreme = reducer in (Reducer.MAX, Reducer.MIN)
    assert is_exact("split_overlapping", scope, Site.of(iterator="r", factor=2, offset=0)) == extreme
    assert is_exact("unit_factor", scope, Site()) == (reducer is Reducer.SUM)
    assert is_exact("view_residues", scope, Site.of(access=0, axis=0, factor=2))
    even = is_exact("split_reduction", scope, Site.of(iterator="r", factor=2, offset=0))
    assert even or taps % 2, "a split that divides is always allowed"
    is_exact("skew_reduction", scope, Site.of(iterator="r", sign=1, terms=(("x", stride),)))
    is_exact("relax_reduction", scope, Site.of(iterator="r", before=1, after=0))
    is_exact("tighten", scope, Site())


@pytest.mark.parametrize("reducer", REDUCERS)
def test_only_the_identity_outside_lets_a_range_be_cut(reducer: Reducer) -> None:
    """Seven taps on six elements, one of them before the first."""
    y, r = Iterator("y", 2), Iterator("r", 7)

    def beyond(outside: float) -> Scope:
        return Scope((y,), Access(tensor("A", 2, 5), [y, Index.of(r) - 1], outside), (r,), reducer)

    identity = float(reducer_identity(reducer, F32))
    after = RULES_BY_NAME["tighten"].apply(beyond(identity), Site())
    assert isinstance(after, Scope)
    assert [iterator.extent for iterator in after.reduction] == [5]
    assert nothing_differs(beyond(identity), after)
    for outside in {0.0, 1.0, -math.inf, math.inf} - {identity}:
        assert isinstance(RULES_BY_NAME["tighten"].apply(beyond(outside), Site()), Refusal)


@pytest.mark.parametrize("reducer", REDUCERS)
def test_only_the_identity_outside_lets_a_range_grow(reducer: Reducer) -> None:
    site = Site.of(iterator="r", before=1, after=0)
    x, r = Iterator("x", 1), Iterator("r", 4)

    def whole(outside: float) -> Scope:
        return Scope((x,), Access(tensor("A", 4), [r], outside), (r,), reducer)

    assert is_exact("relax_reduction", whole(float(reducer_identity(reducer, F32))), site)
    wrong = 1.0 if reducer is not Reducer.PROD else 0.0
    assert isinstance(RULES_BY_NAME["relax_reduction"].apply(whole(wrong), site), Refusal)


@pytest.mark.parametrize("reducer", REDUCERS)
def test_windows_of_every_reducer_are_compacted(reducer: Reducer) -> None:
    """``fold<h> A[h, x − 2·h]``: of twelve positions three meet the window of five."""
    x, h = Iterator("x", 26), Iterator("h", 12)

    def adjoint(outside: float) -> Scope:
        return Scope((x,), Access(tensor("A", 12, 5), [h, Index.of(x) - Index.of(h) * 2], outside), (h,), reducer)

    identity = float(reducer_identity(reducer, F32))
    site = Site.of(iterator="h", access=0, axis=1)
    after = RULES_BY_NAME["compact_window"].apply(adjoint(identity), site)
    assert isinstance(after, Scope)
    assert [iterator.extent for iterator in after.reduction] == [3]
    assert nothing_differs(adjoint(identity), after)
    for outside in {0.0, 1.0, -math.inf, math.inf} - {identity}:
        assert isinstance(RULES_BY_NAME["compact_window"].apply(adjoint(outside), site), Refusal)


@pytest.mark.parametrize("reducer", [Reducer.SUM, Reducer.PROD])
def test_halves_that_overlap_count_twice_in_sums_and_products(reducer: Reducer) -> None:
    refusal = RULES_BY_NAME["split_overlapping"].apply(
        window(reducer, 5, 1, 0), Site.of(iterator="r", factor=2, offset=0)
    )
    assert isinstance(refusal, Refusal)
    assert "twice" in refusal.reason


def test_sites_that_fit_no_half_are_refused() -> None:
    rule = RULES_BY_NAME["split_overlapping"]
    assert isinstance(rule.apply(window(Reducer.MAX, 2, 1, 0), Site.of(iterator="r", factor=2, offset=0)), Refusal)
    assert isinstance(rule.apply(window(Reducer.MAX, 5, 1, 0), Site.of(iterator="r", factor=3, offset=0)), Refusal)
    assert isinstance(rule.apply(window(Reducer.MAX, 5, 1, 0), Site.of(iterator="q", factor=2, offset=0)), Refusal)


@pytest.mark.parametrize("reducer", [Reducer.MAX, Reducer.MIN, Reducer.PROD])
def test_no_other_reducer_gets_a_unit_factor(reducer: Reducer) -> None:
    assert isinstance(RULES_BY_NAME["unit_factor"].apply(window(reducer, 3, 1, 0), Site()), Refusal)


def test_what_is_not_folded_gets_no_unit_factor() -> None:
    x = Iterator("x", 3)
    assert isinstance(RULES_BY_NAME["unit_factor"].apply(Scope((x,), Access(tensor("A", 3), [x])), Site()), Refusal)


def test_views_of_padded_images_hold_the_padding() -> None:
    for padding in (1, 2, 3):
        after = RULES_BY_NAME["view_residues"].apply(
            window(Reducer.MAX, 3, 2, padding), Site.of(access=0, axis=0, factor=2)
        )
        assert isinstance(after, Scope)
        assert isinstance(after.body, Access)
        assert after.body.stays_inside
        assert nothing_differs(window(Reducer.MAX, 3, 2, padding), after)


def test_views_need_an_index_that_reaches_over_the_residues() -> None:
    rule = RULES_BY_NAME["view_residues"]
    scope = window(Reducer.MAX, 3, 2, 0)
    for site in (
        Site.of(access=1, axis=0, factor=2),
        Site.of(access=0, axis=1, factor=2),
        Site.of(access=0, axis=0, factor=99),
    ):
        assert isinstance(rule.apply(scope, site), Refusal)
