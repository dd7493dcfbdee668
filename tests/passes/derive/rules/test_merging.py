"""Branches of one form become ranges of one expression; what does not fit side by side is refused."""

from __future__ import annotations

from hypothesis import given, settings

from passes.derive.certify.comparison import difference
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.exact import choose_domain
from tensoropt.ir.expression import Access, Apply, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Argument, Refusal, Site, apply_at, nested_at
from tests.strategies.expressions import tensor
from tests.strategies.sums import branches


def concatenated(scope: Scope, before: int, after: int, parts: tuple[Argument, ...]) -> Scope | Refusal:
    site = Site.of(iterator="n", before=before, after=after, parts=parts)
    return RULES_BY_NAME["concatenate"].apply(scope, site)


@settings(max_examples=40, derandomize=True)
@given(branches())
def test_branches_become_ranges_of_the_same_expression(scopes: list[Scope]) -> None:
    widths = [scope.traversal[1].extent for scope in scopes]
    nested = any(isinstance(access.source, Scope) for access in [scope_read(scope) for scope in scopes])
    merged = []
    for place, scope in enumerate(scopes):
        names = [(f"W{other}", width) for other, width in enumerate(widths)]
        biases = [(f"b{other}", width) for other, width in enumerate(widths)]
        before, after = sum(widths[:place]), sum(widths[place + 1 :])
        root: Scope | Refusal = scope
        moves = [((0,) if nested else (), "concatenate", names)]
        if nested:
            moves += [((), "merge", []), ((), "concatenate", biases)]
        for path, rule, beside in moves:
            assert isinstance(root, Scope)
            site = Site.of(access=0)
            if rule == "concatenate":
                parts = (1, tuple(beside[:place]), tuple(beside[place + 1 :]))
                site = Site.of(iterator="n", before=before, after=after, parts=(parts,))
            previous, root = root, apply_at(RULES_BY_NAME[rule], root, path, site)
            assert isinstance(root, Scope), root
            assert difference(previous, root, choose_domain([previous, root]), 1) is None
        assert isinstance(root, Scope)
        inner = nested_at(root, (0,))
        assert inner is not None
        merged.append(canonical_key(inner))
    assert len(set(merged)) == 1


def scope_read(scope: Scope) -> Access:
    body = scope.body
    while isinstance(body, Apply):
        body = body.arguments[0]
    assert isinstance(body, Access)
    return body


def test_only_whole_axes_are_put_side_by_side() -> None:
    n, k = Iterator("n", 3), Iterator("k", 2)
    other = (0, (("V", 2),), ())
    shifted = Scope([n], Access(tensor("W", 5), [Index.of(n) + 1]))
    assert isinstance(concatenated(shifted, 2, 0, (other,)), Refusal)
    longer = Scope([n], Access(tensor("W", 5), [n]))
    assert isinstance(concatenated(longer, 2, 0, (other,)), Refusal)
    padded = Scope([n], Access(tensor("W", 3), [n], 1.0))
    assert isinstance(concatenated(padded, 2, 0, (other,)), Refusal)
    diagonal = Scope([n], Access(tensor("W", 3, 3), [n, n]))
    assert isinstance(concatenated(diagonal, 2, 0, (other,)), Refusal)
    nested = Scope([n], Access(longer, [n]))
    assert isinstance(concatenated(nested, 2, 0, (other,)), Refusal)
    summed = Scope([k], Access(tensor("W", 3), [n]), [n])
    assert isinstance(concatenated(summed, 2, 0, (other,)), Refusal)


def test_widths_must_agree() -> None:
    n = Iterator("n", 3)
    scope = Scope([n], Apply("mul", Access(tensor("W", 3), [n]), Access(tensor("b", 3), [n])))
    uneven = ((0, (("V", 2),), ()), (1, (("c", 1),), ()))
    assert isinstance(concatenated(scope, 2, 0, uneven), Refusal)
    assert isinstance(concatenated(scope, 0, 0, ()), Refusal)
    even = ((0, (("V", 2),), ()), (1, (("c", 2),), ()))
    after = concatenated(scope, 2, 0, even)
    assert isinstance(after, Scope)
    assert difference(scope, after, choose_domain([scope, after]), 1) is None


def test_ranges_of_different_functions_do_not_join() -> None:
    x, u, v = Iterator("x", 6), Iterator("u", 2), Iterator("v", 4)
    first = Scope([u], Access(tensor("A", 6), [u]))
    along = Scope([v], Access(tensor("A", 6), [Index.of(v) + 2]))
    wrong = Scope([v], Access(tensor("A", 6), [Index.of(v) + 1]))
    rule, site = RULES_BY_NAME["join_ranges"], Site.of(iterator="x")
    for second, fits in ((along, True), (wrong, False)):
        scope = Scope([x], Apply("add", Access(first, [x]), Access(second, [Index.of(x) - 2])))
        assert isinstance(rule.apply(scope, site), Scope if fits else Refusal)
    gap = Scope([x], Apply("add", Access(first, [x]), Access(along, [Index.of(x) - 1])))
    assert isinstance(rule.apply(gap, site), Refusal)
