"""Traversals that a body sees through one form are joined; others are not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from passes.derive.certify.comparison import difference
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.exact import choose_domain
from tensoropt.ir.expression import Access, Apply, IndexValue, Reducer, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Refusal, Site
from tests.strategies.expressions import closed_scopes, tensor

X, U, Y = Iterator("x", 4), Iterator("u", 3), Iterator("y", 2)
RULE = RULES_BY_NAME["collapse_traversal"]
FORM = Site.of(terms=(("x", 2), ("u", 1)))


def nothing_differs(before: Scope, after: Scope) -> bool:
    return difference(before, after, choose_domain([before, after]), 5) is None


@settings(max_examples=60)
@given(closed_scopes())
def test_collapsing_and_dropping_are_exact_on_random_expressions(scope: Scope) -> None:
    for name in ("collapse_traversal", "drop_idle"):
        rule = RULES_BY_NAME[name]
        for site in rule.sites(scope):
            after = rule.apply(scope, site)
            if isinstance(after, Scope):
                wrong = difference(scope, after, choose_domain([scope, after]), 5)
                assert wrong is None or "infinity" in wrong


@pytest.mark.parametrize("reducer", list(Reducer))
def test_a_form_takes_the_place_of_its_first_iterator(reducer: Reducer) -> None:
    r = Iterator("r", 2)
    body = Access(tensor("A", 2, 12), [Y, Index.of(X) * 2 + U - 1 + r], 1.0)
    scope = Scope((Y, X, U), body, (r,), reducer)
    after = RULE.apply(scope, FORM)
    assert isinstance(after, Scope)
    assert isinstance(after.body, Access)
    assert isinstance(after.body.source, Scope)
    assert [iterator.extent for iterator in after.body.source.traversal] == [2, 9]
    assert after.body.stays_inside
    assert nothing_differs(scope, after)


def test_multiples_and_quotients_of_the_form_are_seen() -> None:
    """``5·(x·2 + u)`` is its multiple and ``(2·x + u)//3`` a quotient of it."""
    form = Index.of(X) * 2 + U
    for index in (form * 5 + 1, form // 3, Index.of(2) - form):
        scope = Scope((X, U), Access(tensor("A", 60), [index], 3.0))
        after = RULE.apply(scope, FORM)
        assert isinstance(after, Scope)
        assert nothing_differs(scope, after)


@pytest.mark.parametrize(
    "body",
    [
        Access(tensor("A", 12, 4), [Index.of(X) * 2 + U, X]),
        Access(tensor("A", 12), [Index.of(X) * 2 + Index.of(U) * 2]),
        Access(tensor("A", 12), [Index.of(X) + U]),
        Access(tensor("A", 12), [(Index.of(X) * 2 + U) // 3 + U]),
        Apply("mul", Access(tensor("A", 12), [Index.of(X) * 2 + U]), Access(tensor("B", 3), [U])),
        Access(tensor("A", 2), [Y]),
    ],
    ids=["also x alone", "another ratio", "another coefficient", "u beside it", "another factor", "idle"],
)
def test_other_uses_of_the_iterators_are_refused(body: Access | Apply) -> None:
    assert isinstance(RULE.apply(Scope((Y, X, U), body), FORM), Refusal)


def test_positions_are_seen_through_the_form_too() -> None:
    scope = Scope((X, U), IndexValue(Index.of(X) * 2 + U))
    after = RULE.apply(scope, FORM)
    assert isinstance(after, Scope)
    assert nothing_differs(scope, after)
    assert isinstance(RULE.apply(Scope((X, U), IndexValue(Index.of(X) + U)), FORM), Refusal)


def test_sites_that_name_no_two_traversals_are_refused() -> None:
    scope = Scope((X, U), Access(tensor("A", 12), [Index.of(X) * 2 + U]))
    for terms in ((("x", 2),), (("x", 2), ("x", 1)), (("x", 2), ("r", 1))):
        assert isinstance(RULE.apply(scope, Site.of(terms=terms)), Refusal)


def test_only_idle_iterators_are_dropped() -> None:
    scope = Scope((X, U), Access(tensor("A", 4), [X]))
    after = RULES_BY_NAME["drop_idle"].apply(scope, Site())
    assert isinstance(after, Scope)
    assert nothing_differs(scope, after)
    assert isinstance(after.body, Access)
    assert after.body.source.shape == (4,)
    used = Scope((X, U), Access(tensor("A", 4, 3), [X, U]))
    assert isinstance(RULES_BY_NAME["drop_idle"].apply(used, Site()), Refusal)
