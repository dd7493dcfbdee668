"""Every rule is exact on random expressions, and dropping any of its side conditions is noticed.

``TENSOROPT_CASES=10000`` runs that many chains; each applies up to four rules.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from passes.derive import support
from passes.derive.certify.comparison import difference
from passes.derive.proposals import proposals
from passes.derive.rules import RULES, RULES_BY_NAME, boundary, reindexing, splitting, staging
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.exact import choose_domain
from tensoropt.ir.expression import Access, Scope, scopes
from tensoropt.ir.index import Iterator
from tensoropt.rewrite.rule import Refusal, Rule, Site, apply_at, nested_at
from tests.strategies.expressions import adjoint_windows, closed_scopes, contractions, escaping_reads

CASES = int(os.environ.get("TENSOROPT_CASES", "200"))
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_POINTS = 40_000


def sites_of(rule: Rule, scope: Scope) -> list[Site]:
    """The rule's own sites, and those that the search would propose."""
    found = dict.fromkeys(rule.sites(scope))
    for move in proposals(scope):
        found |= {site: None for name, site in move if name == rule.name}
    return list(found)


def points(scope: Scope) -> int:
    total = 1
    for iterator in (*scope.traversal, *scope.reduction):
        total *= iterator.extent
    return total


def first_mismatch(draw: Callable[[Any], Any], start: Scope, rules: tuple[Rule, ...], length: int) -> str | None:
    """Applies random rules at random sites to random scopes within the start; tells what step changed the value."""
    root = start
    for _ in range(length):
        nested = [(), *((place,) for place in range(3) if nested_at(root, (place,)) is not None)]
        path = draw(st.sampled_from(nested))
        before = nested_at(root, path)
        assert before is not None
        options = [(rule, site) for rule in rules for site in sites_of(rule, before)]
        if not options:
            return None
        rule, site = draw(st.sampled_from(options))
        after = rule.apply(before, site)
        if isinstance(after, Refusal) or any(points(scope) > _POINTS for scope in scopes(after)):
            continue
        wrong = difference(before, after, choose_domain([before, after]), 1)
        if wrong is not None and "infinity" not in wrong:
            return f"{rule.name}({site}) {wrong}\n{before!r}\n{after!r}"
        replaced = apply_at(rule, root, path, site)
        assert isinstance(replaced, Scope)
        root = replaced
    return None


@settings(max_examples=CASES, suppress_health_check=_SLOW, derandomize=CASES <= 200, print_blob=True)
@given(st.data(), st.one_of(closed_scopes(), contractions()))
def test_every_rule_is_exact_on_random_expressions(data: st.DataObject, start: Scope) -> None:
    mismatch = first_mismatch(data.draw, start, RULES, 4)
    assert mismatch is None, mismatch


@settings(max_examples=max(50, CASES // 4), suppress_health_check=_SLOW, derandomize=CASES <= 200)
@given(closed_scopes(), st.randoms(use_true_random=False))
def test_keys_survive_renaming(scope: Scope, random: Any) -> None:
    from tensoropt.ir.expression import substitute
    from tensoropt.ir.index import Index

    names = [f"q{place}" for place in range(8)]
    random.shuffle(names)
    renamed = {
        old: Iterator(names[place], old.extent) for place, old in enumerate((*scope.traversal, *scope.reduction))
    }
    reduction = [renamed[iterator] for iterator in scope.reduction]
    random.shuffle(reduction)
    body = substitute(scope.body, {old: Index.of(new) for old, new in renamed.items()})
    other = Scope([renamed[iterator] for iterator in scope.traversal], body, reduction, scope.reducer)
    assert canonical_key(other) == canonical_key(scope)


def split_and_merged(root: Scope, iterator: str, factor: int) -> str | None:
    """Whether splitting an iterator of the core and merging what arises changes the value; None too where that is refused."""
    split = apply_at(RULES_BY_NAME["split_traversal"], root, (0,), Site.of(iterator=iterator, factor=factor, offset=0))
    if isinstance(split, Refusal):
        return None
    merged = RULES_BY_NAME["merge"].apply(split, Site.of(access=0))
    if isinstance(merged, Refusal):
        return None
    return difference(split, merged, choose_domain([split, merged]), 1)


@settings(max_examples=CASES, derandomize=CASES <= 200)
@given(escaping_reads())
def test_merges_of_cores_that_are_read_beyond_their_box_stay_exact(data: tuple[Scope, int]) -> None:
    root, factor = data
    assert split_and_merged(root, "u", factor) is None


@settings(max_examples=CASES, derandomize=CASES <= 200)
@given(adjoint_windows())
def test_skew_tighten_and_split_of_an_adjoint_window_stay_exact(data: tuple[Scope, int, int]) -> None:
    start, stride, factor = data
    root = start
    chain: list[tuple[str, tuple[int, ...], Site]] = [
        ("stage", (), Site.of(iterators=("r",))),
        ("skew_traversal", (0,), Site.of(iterator="x", sign=1, terms=(("r", -stride),))),
        ("merge", (), Site.of(access=0)),
        ("tighten", (0,), Site()),
        ("merge", (), Site.of(access=0)),
    ]
    for name, path, site in chain:
        after = apply_at(RULES_BY_NAME[name], root, path, site)
        if isinstance(after, Refusal):
            assert name == "tighten" or root is not start
            return
        assert difference(root, after, choose_domain([root, after]), 1) is None
        root = after
    core = nested_at(root, (0,))
    assert core is not None
    assert split_and_merged(root, core.traversal[-1].name, factor) is None


def _always_proved(*_: object) -> None:
    return None


def _is_found(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool], cases: int) -> bool:
    options = settings(max_examples=cases, database=None, phases=[Phase.generate], suppress_health_check=_SLOW)
    try:
        find(strategy, condition, settings=options, random=__import__("random").Random(5))
    except NoSuchExample:
        return False
    return True


@pytest.mark.parametrize(
    ("module", "guard", "rule"),
    [
        (reindexing, "escaping", "skew_reduction"),
        (splitting, "escaping", "split_reduction"),
        (boundary, "escaping", "relax_reduction"),
        (boundary, "escaping", "compact_window"),
    ],
)
def test_dropping_the_natural_range_is_noticed(
    monkeypatch: pytest.MonkeyPatch, module: Any, guard: str, rule: str
) -> None:
    monkeypatch.setattr(module, guard, _always_proved)
    assert _is_found(contractions(), lambda scope: _any_wrong(scope, rule), 1000)


def test_dropping_the_condition_on_the_outside_value_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "_zero_source", lambda factor: factor if isinstance(factor, Access) else None)
    assert _is_found(closed_scopes(), lambda scope: _any_wrong(scope, "tighten"), 3000)


def test_dropping_the_guard_of_outside_reads_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "reads_other_than_outside", _always_proved)
    assert _is_found(escaping_reads(), lambda data: split_and_merged(data[0], "u", data[1]) is not None, 300)


def test_dropping_the_guard_of_outside_reads_is_noticed_on_random_expressions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "reads_other_than_outside", _always_proved)
    assert _is_found(closed_scopes(), lambda scope: _any_wrong(scope, "merge"), 1000)


def test_dropping_the_window_condition_of_compaction_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every index taken for a guarded one, a factor that reads 1 outside is compacted wrongly."""
    monkeypatch.setattr(boundary, "conditions_of", _conditions_whatever_the_fill)
    assert _is_found(closed_scopes(), lambda scope: _any_wrong(scope, "compact_window"), 5000)


def _conditions_whatever_the_fill(body: Any, value: Any) -> list[support.Condition]:
    from tensoropt.ir.expression import accesses

    return [
        support.Condition(index, 0, int(extent) - 1)
        for access in accesses(body)
        for index, extent in zip(access.indices, access.source.shape, strict=True)
        if not index.is_constant
    ]


def _any_wrong(scope: Scope, name: str) -> bool:
    rule = RULES_BY_NAME[name]
    for site in sites_of(rule, scope):
        after = rule.apply(scope, site)
        if isinstance(after, Refusal) or any(points(inner) > _POINTS for inner in scopes(after)):
            continue
        wrong = difference(scope, after, choose_domain([scope, after]), 1)
        if wrong is not None and "infinity" not in wrong:
            return True
    return False


def test_rules_have_names_and_formulas() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all("=" in (rule.__doc__ or "") for rule in RULES)
