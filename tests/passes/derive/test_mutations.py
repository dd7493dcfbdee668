"""With any one side condition of a rule removed, an expression is found on which the rule computes something wrong.

Conditions without which nothing wrong can happen stand in ``harmless`` with the reason; every other one must be aimed at: new rules
bring generators (``tests/strategies/aimed.py``) for its conditions. ``TENSOROPT_CASES`` raises the number of cases.
"""

from __future__ import annotations

import os

import pytest

from passes.derive.rules import RULES
from tests.passes.derive.harmless import HARMLESS
from tests.passes.derive.hunting import WRONG, hunted
from tests.passes.derive.mutants import Mutant, all_mutants

CASES = int(os.environ.get("TENSOROPT_CASES", "2500"))
_CASES_WITHOUT_HOPE = max(30, CASES // 80)

MUTANTS = all_mutants()
WHY = {name: why for why, names in HARMLESS.items() for name in names}


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.name not in WHY], ids=lambda mutant: mutant.name)
def test_dropping_the_condition_is_noticed(mutant: Mutant) -> None:
    verdict = hunted(mutant, CASES)
    assert verdict.outcome == WRONG, f"{verdict.outcome} in {verdict.cases} cases {verdict.example}"


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.name in WHY], ids=lambda mutant: mutant.name)
def test_other_conditions_guard_nothing_that_is_computed(mutant: Mutant) -> None:
    verdict = hunted(mutant, _CASES_WITHOUT_HOPE)
    assert verdict.outcome != WRONG, f"not harmless: {verdict.example}"


def test_the_list_of_harmless_conditions_has_none_that_is_gone() -> None:
    assert set(WHY) <= {mutant.name for mutant in MUTANTS}


def test_rules_without_mutants_are_known() -> None:
    owners = {mutant.function.partition(".")[0] for mutant in MUTANTS}
    without = {rule.name for rule in RULES if type(rule).__name__ not in owners}
    assert without == {"skew_traversal", "split_traversal"}, (
        "their conditions stand in functions that they share with others"
    )
