"""The rules on products, sums of products and ranges are exact on random expressions, nested reads beyond the box included."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passes.derive.certify.comparison import difference
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.exact import choose_domain
from tensoropt.ir.expression import Scope
from tensoropt.rewrite.rule import Path, Refusal, Site, apply_at, nested_at
from tests.strategies.sums import sums_of_products

CASES = int(os.environ.get("TENSOROPT_CASES", "300"))
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_SUMS = (
    "divide_by_reciprocal",
    "distribute",
    "distribute_sum",
    "separate_terms",
    "group_terms",
    "cut_range",
    "join_ranges",
)
_NAMES = ("group_factors", "scale_source", "flatten_product", "merge", *_SUMS)
_LONGEST = 3000


def nested_paths(root: Scope) -> list[Path]:
    one = [(), *((place,) for place in range(4))]
    two = [(first, second) for first in range(3) for second in range(3)]
    return [path for path in [*one, *two] if nested_at(root, path) is not None]


def step(draw: Any, root: Scope, applied: Counter[str]) -> Scope | None:
    """The root after a random application somewhere in it, checked; None where nothing applies."""
    path = draw(st.sampled_from(nested_paths(root)))
    before = nested_at(root, path)
    assert before is not None
    options = [(name, site) for name in _NAMES for site in RULES_BY_NAME[name].sites(before)]
    if not options:
        return None
    name, site = draw(st.sampled_from(options))
    after = RULES_BY_NAME[name].apply(before, site)
    if isinstance(after, Refusal):
        return root
    wrong = difference(before, after, choose_domain([before, after]), 1)
    assert wrong is None, f"{name}({site}) {wrong}\n{before!r}\n{after!r}"
    result = apply_at(RULES_BY_NAME[name], root, path, site)
    assert isinstance(result, Scope)
    applied[name] += 1
    return result if len(repr(result)) < _LONGEST else None


def test_chains_of_rules_on_sums_are_exact() -> None:
    applied: Counter[str] = Counter()

    @settings(max_examples=CASES, suppress_health_check=_SLOW, derandomize=CASES <= 300, database=None)
    @given(st.data(), sums_of_products())
    def check(data: st.DataObject, start: Scope) -> None:
        root: Scope | None = start
        for _ in range(5):
            if root is not None:
                root = step(data.draw, root, applied)

    check()
    assert set(applied) >= set(_NAMES) - {"join_ranges"}, "every rule was applied"


@settings(max_examples=CASES, suppress_health_check=_SLOW, derandomize=CASES <= 300)
@given(sums_of_products(1), st.data())
def test_cut_and_join_are_inverse(start: Scope, data: st.DataObject) -> None:
    sites = list(RULES_BY_NAME["cut_range"].sites(start))
    if not sites:
        return
    site = data.draw(st.sampled_from(sites))
    cut = RULES_BY_NAME["cut_range"].apply(start, site)
    assert isinstance(cut, Scope)
    joined = RULES_BY_NAME["join_ranges"].apply(cut, Site.of(iterator=site.text("iterator")))
    if isinstance(joined, Refusal):  # an iterator of the sum has the name of one outside
        return
    assert difference(start, joined, choose_domain([start, joined]), 1) is None
