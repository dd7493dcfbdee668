"""Merging keeps the zeros that an axis of one element gives where it is read elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from passes.derive.rules.staging import Merge
from tensoropt.ir.expression import Access, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interpreter import evaluate
from tensoropt.rewrite.rule import Refusal, Site
from tests.strategies.expressions import tensor

SITE = Site.of(access=0)
Y, U, Q = Iterator("y", 7), Iterator("u", 1), Iterator("q", 4)


def nested(source: Access) -> Scope:
    """``L<y> { L<q, u> source }[y//2, y%2]``: 0 at every odd y, where u has no second element."""
    return Scope((Y,), Access(Scope((Q, U), source), [Index.of(Y) // 2, Index.of(Y) % 2]))


def same(scope: Scope, merged: Scope) -> bool:
    values = {"A": np.arange(1, 5, dtype=np.float32), "B": np.arange(1, 9, dtype=np.float32).reshape(4, 1, 2)}
    return np.array_equal(evaluate(scope, values), evaluate(merged, values))


def test_the_guard_goes_to_an_axis_of_one_element() -> None:
    scope = nested(Access(tensor("B", 4, 1, 2), [Index.of(Q), 0, 1]))
    merged = Merge().apply(scope, SITE)
    assert isinstance(merged, Scope)
    assert same(scope, merged)
    assert evaluate(merged, {"B": np.ones((4, 1, 2), np.float32)}).tolist() == [1, 0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    "source",
    [
        Access(tensor("A", 4), [Index.of(Q)]),
        Access(tensor("B", 4, 1, 2), [Index.of(Q), 0, 1], 1.0),
        Access(tensor("C", 4, 2), [Index.of(Q), 0]),
        Access(tensor("B", 4, 1, 2), [Index.of(Q), -1, 1]),
    ],
    ids=["no such axis", "another value outside", "two elements", "read outside already"],
)
def test_without_such_an_axis_it_is_refused(source: Access) -> None:
    refused = Merge().apply(nested(source), SITE)
    assert isinstance(refused, Refusal)
    assert "u's box" in refused.reason


def test_one_axis_does_not_guard_for_two() -> None:
    v = Iterator("v", 1)
    inner = Scope((Q, U, v), Access(tensor("B", 4, 1, 2), [Index.of(Q), 0, 1]))
    scope = Scope((Y,), Access(inner, [Index.of(Y) // 2, Index.of(Y) % 2, Index.of(Y) // 4]))
    assert isinstance(Merge().apply(scope, SITE), Refusal)


def test_a_sum_of_the_nested_scope_is_not_guarded_by_it() -> None:
    r = Iterator("r", 2)
    inner = Scope((Q, U), Access(tensor("B", 4, 1, 2), [Index.of(Q), 0, Index.of(r)]), (r,))
    scope = Scope((Y,), Access(inner, [Index.of(Y) // 2, Index.of(Y) % 2]))
    assert isinstance(Merge().apply(scope, SITE), Refusal)


def test_an_index_that_may_be_negative_is_refused() -> None:
    inner = Scope((Q, U), Access(tensor("B", 4, 1, 2), [Index.of(Q), 0, 1]))
    scope = Scope((Y,), Access(inner, [Index.of(Y) // 2, Index.of(Y) % 2 - 1]))
    result = Merge().apply(scope, SITE)
    assert isinstance(result, Refusal) or same(scope, result)
