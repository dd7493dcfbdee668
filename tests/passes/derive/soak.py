"""Random rule applications in great number: `python -m tests.passes.derive.soak [--applications N] [--seed S]`.

Each chain starts at a random expression and applies rules at random sites, within nested scopes too; every application is compared
exactly, and canonical keys are compared with equality up to renaming that is decided without them. Exit code 1 where anything
disagrees. Chain number n of seed S is the same on every run: `--chain n` runs it alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from passes.derive.certify.comparison import Comparison
from passes.derive.rules import RULES
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.exact import DomainRefusal, choose_domain
from tensoropt.ir.expression import Scope, scopes
from tensoropt.rewrite.rule import Path, Refusal, Rule, nested_at, replaced_at
from tests.strategies.forms import least_form, nearly, renamed
from tests.strategies.random_scopes import FAMILIES, random_scope
from tests.strategies.random_sites import FAMILIES_OF, random_site

LENGTH = 5
_POINTS = 20_000
_SEEDS = (1, 2)
_TRIES = 4
"""Rules that are tried for each step until one applies."""


@dataclass(slots=True)
class Tally:
    """What was done, and what went wrong."""

    applied: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    raised: Counter[str] = field(default_factory=Counter)
    beyond: Counter[str] = field(default_factory=Counter)
    keys: int = 0
    near_keys: int = 0
    mismatches: list[str] = field(default_factory=list)
    key_errors: list[str] = field(default_factory=list)


def points(scope: Scope) -> int:
    """The points of a scope's box."""
    total = 1
    for iterator in (*scope.traversal, *scope.reduction):
        total *= iterator.extent
    return total


def paths(root: Scope) -> list[Path]:
    """The root, the scopes that it reads and those that these read, as far as the first few accesses go."""
    found: list[Path] = [()]
    for first in range(4):
        inner = nested_at(root, (first,))
        if inner is not None:
            found.append((first,))
            found += [(first, second) for second in range(2) if nested_at(root, (first, second)) is not None]
    return found


def mismatch(before: Scope, after: Scope) -> str | None:
    """Where two scopes differ. Raises DomainRefusal where they have no exact meaning."""
    found = Comparison(choose_domain([before, after]), _SEEDS).difference(before, after)
    if found is not None and ("infinity" in found or "division by zero" in found or "already holds" in found):
        raise DomainRefusal(found)
    return found


def run_chain(seed: int, number: int, tally: Tally, rules: Sequence[Rule] = RULES, length: int = LENGTH) -> None:
    """One chain. It starts with each of the rules in turn, at an expression of a kind on which that one has work to do."""
    name = f"{seed}/{number}"
    random = Random(name)
    first = rules[number % len(rules)]
    root = random_scope(random, FAMILIES_OF.get(first.name, tuple(FAMILIES)))
    for step in range(length):
        path = random.choice(paths(root)) if step else ()
        before = nested_at(root, path)
        assert before is not None
        candidates = random.sample(list(rules), min(_TRIES, len(rules)))
        candidates = [first] * 3 if step == 0 else candidates
        for rule in candidates:
            after = _applied(rule, before, random, tally)
            if after is None:
                continue
            _check(name, rule, before, after, tally)
            root = replaced_at(root, path, after)
            break
    _check_keys(name, root, random, tally)


def _applied(rule: Rule, before: Scope, random: Random, tally: Tally) -> Scope | None:
    site = random_site(rule, before, random)
    if site is None:
        return None
    try:
        after = rule.apply(before, site)
    except (AssertionError, KeyError, ValueError, TypeError, StopIteration, IndexError):
        tally.raised[rule.name] += 1  # a site that no search proposes
        return None
    if isinstance(after, Refusal):
        tally.refused[rule.name] += 1
        return None
    if any(points(scope) > _POINTS for scope in scopes(after)):
        return None
    return after


def _check(seed: str, rule: Rule, before: Scope, after: Scope, tally: Tally) -> None:
    tally.applied[rule.name] += 1
    if after.type != before.type:
        tally.mismatches.append(f"chain {seed}, {rule.name}: another type\n{before!r}\n{after!r}")
        return
    try:
        wrong = mismatch(before, after)
    except DomainRefusal:
        tally.beyond[rule.name] += 1
        return
    if wrong is not None:
        tally.mismatches.append(f"chain {seed}, {rule.name}: {wrong}\n{before!r}\n{after!r}")


def _check_keys(seed: str, root: Scope, random: Random, tally: Tally) -> None:
    """Both directions: copies have the same key, near copies the same exactly if they are equal up to renaming."""
    if any(len(scope.reduction) > 4 for scope in scopes(root)):
        return
    tally.keys += 1
    copy = renamed(root, random)
    if canonical_key(copy) != canonical_key(root):
        tally.key_errors.append(f"chain {seed}: a copy has another key\n{root!r}\n{copy!r}")
    near = renamed(nearly(root, random), random)
    tally.near_keys += 1
    if (canonical_key(near) == canonical_key(root)) != (least_form(near) == least_form(root)):
        tally.key_errors.append(f"chain {seed}: keys and forms disagree\n{root!r}\n{near!r}")


def report(tally: Tally, seconds: float) -> str:
    """The counts as text."""
    lines = [f"{'rule':24} {'applied':>8} {'refused':>8} {'raised':>7} {'no domain':>9}"]
    for rule in RULES:
        counts = (found[rule.name] for found in (tally.applied, tally.refused, tally.raised, tally.beyond))
        lines.append(
            f"{rule.name:24} "
            + " ".join(f"{count:>{width}}" for count, width in zip(counts, (8, 8, 7, 9), strict=True))
        )
    lines.append(
        f"{sum(tally.applied.values())} applications, {sum(tally.refused.values())} refusals, "
        f"{len(tally.mismatches)} mismatches; {tally.keys} copies and {tally.near_keys} near copies, "
        f"{len(tally.key_errors)} key errors; {seconds:.0f} s"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.passes.derive.soak", description=__doc__)
    parser.add_argument("--applications", type=int, default=100_000, metavar="N", help="rule applications to make")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of all random numbers")
    parser.add_argument("--chain", type=int, metavar="n", help="run this chain alone")
    options = parser.parse_args(arguments)
    tally = Tally()
    started = time.monotonic()
    number = 0 if options.chain is None else options.chain
    while options.chain is None or number == options.chain:
        run_chain(options.seed, number, tally)
        number += 1
        if sum(tally.applied.values()) >= options.applications:
            break
    for problem in (*tally.mismatches[:20], *tally.key_errors[:20]):
        print(problem)
    print(report(tally, time.monotonic() - started))
    print(f"{number} chains, seed {options.seed}")
    return 1 if tally.mismatches or tally.key_errors else 0


if __name__ == "__main__":
    sys.exit(main())
