"""Looks for an expression on which a mutant of a rule computes something wrong."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from passes.derive.certify.interpreted import interpreted_difference
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.exact import DomainRefusal
from tensoropt.ir.expression import Scope, scopes
from tensoropt.rewrite.rule import Refusal, Rule, Site
from tests.passes.derive.mutants import Mutant, mutated_rules
from tests.passes.derive.soak import mismatch, points
from tests.strategies.aimed import AIMED
from tests.strategies.random_scopes import FAMILIES, Maker, random_scope
from tests.strategies.random_sites import FAMILIES_OF, random_site

WRONG, RAISES, HARMLESS = "wrong", "raises", "harmless"
_POINTS = 20_000
_SECONDS = 0.5


class Endless(Exception):
    """A mutant ran for seconds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: ``wrong`` with an example, ``raises`` (it computes nothing), or ``harmless``."""

    outcome: str
    cases: int
    example: str = ""


def hunted(mutant: Mutant, cases: int) -> Verdict:
    """Tries so many cases at most. Every case is the same on every run."""
    rules = _users(mutant, mutated_rules(mutant))
    raised = ""
    for number in range(cases):
        rule = rules[number % len(rules)]
        random = Random(f"{mutant.name}/{number}")
        scope, site = _case(rule.name, random, number // len(rules))
        if site is None:
            continue
        try:
            right = RULES_BY_NAME[rule.name].apply(scope, site)
        except (AssertionError, KeyError, ValueError, TypeError, StopIteration, IndexError):
            continue
        try:
            with _time_limit():
                found = rule.apply(scope, site)
        except Endless:
            return Verdict(RAISES, number + 1, f"{rule.name}({site}) does not end")
        except Exception as error:  # whatever a mutant runs into, it computes nothing
            raised = raised or f"{rule.name}({site}): {type(error).__name__} {error}"
            continue
        if isinstance(found, Refusal) or found is right:
            continue
        wrong = _wrong(scope, found)
        if wrong is not None:
            return Verdict(WRONG, number + 1, f"{rule.name}({site}) {wrong}\n{scope!r}\n{found!r}")
    return Verdict(RAISES, cases, raised) if raised else Verdict(HARMLESS, cases)


def _users(mutant: Mutant, rules: list[Rule]) -> list[Rule]:
    """The rules to try: those that have generators of their own first, where a helper serves many."""
    if mutant.module.endswith("support"):
        return [rule for rule in rules if rule.name in AIMED]
    return rules


def _case(rule: str, random: Random, number: int) -> tuple[Scope, Site | None]:
    """Aimed expressions and those of the rule's families in turn."""
    generators = AIMED.get(rule, [])
    if generators and number % 2 == 0:
        scope, site = generators[number // 2 % len(generators)](Maker(random))
        if site is not None:
            return scope, site
    else:
        scope = random_scope(random, FAMILIES_OF.get(rule, tuple(FAMILIES)))
    return scope, random_site(RULES_BY_NAME[rule], scope, random)


def _wrong(scope: Scope, found: Scope) -> str | None:
    if found.type != scope.type:
        return f"the type {found.type} is not {scope.type}"
    if any(points(inner) > _POINTS for inner in scopes(found)):
        return None
    try:
        return mismatch(scope, found)
    except DomainRefusal as refusal:  # integer divisions have no exact domain, but the interpreter
        return interpreted_difference(scope, found, 1) if "integer division" in str(refusal) else None


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raises Endless in a mutant that does not end."""

    def stop(*_: Any) -> None:
        raise Endless

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
