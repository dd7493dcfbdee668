"""Expressions of one form and shape become layers of one expression; what does not fit is refused."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from passes.derive.certify.comparison import difference
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.exact import choose_domain
from tensoropt.ir.expression import Access, Apply, Reducer, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Refusal, Site, apply_at, nested_at
from tests.strategies.expressions import closed_scopes, tensor


def stacked(scope: Scope, before: tuple[str, ...], after: tuple[str, ...], access: int = 0) -> Scope | Refusal:
    parts = ((access, (*before, *after)),)
    site = Site.of(before=len(before), after=len(after), parts=parts, stacked=())
    return RULES_BY_NAME["stack"].apply(scope, site)


@settings(max_examples=100, derandomize=True)
@given(closed_scopes(), st.sampled_from([((), ("V",)), (("V",), ()), (("V",), ("U", "T"))]))
def test_a_layer_of_anything_is_itself(scope: Scope, names: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    after = stacked(scope, *names)
    if isinstance(after, Refusal):
        return
    wrong = difference(scope, after, choose_domain([scope, after]), 1)
    assert wrong is None or "infinity" in wrong


def depthwise(place: int, outside: float = 0.0) -> Scope:
    """``relu(Σ<r> X[c, h + r − 1]·K[c, r] + b[c])``."""
    c, h, r = Iterator("c", 3), Iterator("h", 5), Iterator("r", 3)
    image = Access(tensor("X", 3, 5), [c, Index.of(h) + r - 1], outside)
    inner = Scope([c, h], Apply("mul", image, Access(tensor(f"K{place}", 3, 3), [c, r])), [r])
    return Scope([c, h], Apply("relu", Apply("add", Access(inner, [c, h]), Access(tensor(f"b{place}", 3), [c]))))


def test_branches_become_layers_of_the_same_expression() -> None:
    merged = set()
    for place in range(3):
        root: Scope | Refusal = depthwise(place)
        kernels, biases = ([f"{letter}{other}" for other in range(3) if other != place] for letter in "Kb")
        moves = [
            ("stack", (0,), Site.of(before=place, after=2 - place, parts=((1, tuple(kernels)),), stacked=())),
            ("merge", (), Site.of(access=0)),
            ("stack", (), Site.of(before=place, after=2 - place, parts=((1, tuple(biases)),), stacked=(0,))),
        ]
        for rule, path, site in moves:
            assert isinstance(root, Scope)
            previous, root = root, apply_at(RULES_BY_NAME[rule], root, path, site)
            assert isinstance(root, Scope), root
            assert difference(previous, root, choose_domain([previous, root]), 1) is None
        assert isinstance(root, Scope)
        layers = nested_at(root, (0,))
        assert layers is not None
        merged.add(canonical_key(layers))
    assert len(merged) == 1


def test_what_is_no_layer_is_refused() -> None:
    i = Iterator("i", 3)
    scope = Scope([i], Access(tensor("A", 3), [i]), [Iterator("r", 2)], Reducer.MAX)
    assert isinstance(stacked(scope, (), ()), Refusal)
    assert isinstance(stacked(scope, ("V",), (), access=1), Refusal)
    nested = Scope([i], Access(scope, [i]))
    assert isinstance(stacked(nested, ("V",), ()), Refusal)
    few = Site.of(before=1, after=1, parts=((0, ("V",)),), stacked=())
    assert isinstance(RULES_BY_NAME["stack"].apply(scope, few), Refusal)
    other = Scope([i], Access(tensor("P", 2, 3), [0, i]))
    follows = Site.of(before=1, after=0, parts=(), stacked=(0,))
    assert "does not read this layer" in str(RULES_BY_NAME["stack"].apply(other, follows))
    longer = Scope([i], Access(tensor("P", 4, 3), [1, i]))
    assert "does not read this layer" in str(RULES_BY_NAME["stack"].apply(longer, follows))
