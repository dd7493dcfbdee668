"""Random rule applications and keys, a few thousand of them; ``TENSOROPT_APPLICATIONS=100000`` for more, see ``soak``."""

from __future__ import annotations

import os

from passes.derive.rules import RULES
from tests.passes.derive.soak import Tally, run_chain

APPLICATIONS = int(os.environ.get("TENSOROPT_APPLICATIONS", "1500"))


def test_random_chains_of_rules_change_no_value_and_keys_tell_forms_apart() -> None:
    tally, number = Tally(), 0
    while sum(tally.applied.values()) < APPLICATIONS:
        run_chain(3, number, tally)
        number += 1
    assert not tally.mismatches, tally.mismatches[0]
    assert not tally.key_errors, tally.key_errors[0]
    assert {rule.name for rule in RULES} <= set(tally.applied), "a rule was never applied"
