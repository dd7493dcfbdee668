"""Derivations as data."""

from __future__ import annotations

import pytest

from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Access, Apply, Scope, tensors
from tensoropt.ir.index import Iterator
from tensoropt.rewrite.derivation import Derivation, ReplayError, Step, derive_along
from tensoropt.rewrite.rule import Refusal, Site, apply_at, nested_at, replaced_at
from tests.strategies.expressions import tensor


class Doubling:
    """``f = f + f - f``, a rule for tests."""

    name = "doubling"

    def sites(self, scope: Scope) -> list[Site]:
        return [Site()]

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        if scope.reduction:
            return Refusal("only without reductions")
        body = Apply("sub", Apply("add", scope.body, scope.body), scope.body)
        return Scope(scope.traversal, body)


I3 = Iterator("i", 3)
INNER = Scope((I3,), Apply("neg", Access(tensor("x", 3), [I3])))
OUTER = Scope((I3,), Apply("add", Access(INNER, [I3]), Access(INNER, [2])))
RULES = {"doubling": Doubling()}


def test_a_rule_is_applied_at_one_access_only() -> None:
    after = apply_at(RULES["doubling"], OUTER, (0,), Site())
    assert isinstance(after, Scope)
    assert nested_at(after, (0,)) is not INNER
    assert nested_at(after, (1,)) is INNER
    assert replaced_at(after, (0,), INNER) is OUTER


def test_paths_that_lead_nowhere_are_refused() -> None:
    assert isinstance(apply_at(RULES["doubling"], OUTER, (5,), Site()), Refusal)
    assert isinstance(apply_at(RULES["doubling"], INNER, (0,), Site()), Refusal)


def test_json_round_trip_and_replay() -> None:
    derivation = derive_along(OUTER, [("doubling", (0,), Site()), ("doubling", (), Site())], RULES)
    read = {found.name: found for found in tensors(OUTER)}
    again = Derivation.from_json(derivation.as_json(), read)
    assert again == derivation
    assert again.result(RULES) is derivation.result(RULES)
    assert [step.after for step in derivation.steps[:1]] == [derivation.steps[1].before]
    seen: list[tuple[Scope, Scope]] = []
    derivation.check_steps(RULES, lambda before, after: seen.append((before, after)))
    assert seen[0][0] is INNER


def test_replay_notices_what_does_not_fit() -> None:
    derivation = derive_along(OUTER, [("doubling", (), Site())], RULES)
    with pytest.raises(ReplayError, match="no rule"):
        derivation.result({})
    step = derivation.steps[0]
    wrong = Derivation(OUTER, (Step(step.rule, step.path, step.site, step.before, canonical_key(OUTER)),))
    with pytest.raises(ReplayError, match="gives another"):
        wrong.result(RULES)
    with pytest.raises(ReplayError, match="only without reductions"):
        derive_along(Scope((), Access(tensor("x", 3), [I3]), (I3,)), [("doubling", (), Site())], RULES)


def test_sites_are_typed() -> None:
    site = Site.of(iterator="h", factor=2, terms=(("y", -1),), names=("a", "b"))
    assert site.text("iterator") == "h"
    assert site.integer("factor") == 2
    assert site.terms("terms") == (("y", -1),)
    assert site.names("names") == ("a", "b")
    assert str(site) == "iterator=h, factor=2, terms=((y, -1)), names=(a, b)"
    with pytest.raises(TypeError):
        site.integer("iterator")
