"""Derivations as data: a chain of rule applications that can be replayed, re-checked and written as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.parser import parse_scope
from tensoropt.ir.printer import format_scope
from tensoropt.rewrite.rule import Argument, Path, Refusal, Rule, Site, apply_at, nested_at

Check = Callable[[Scope, Scope], None]


class ReplayError(Exception):
    """A derivation does not replay: a rule refuses, is unknown, or gives something else than was recorded."""


@dataclass(frozen=True, slots=True)
class Step:
    """One rule application: where, and the canonical keys of the whole expression before and after."""

    rule: str
    path: Path
    site: Site
    before: str
    after: str

    def as_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` reads it."""
        arguments = {name: _plain(value) for name, value in self.site.arguments}
        return {
            "rule": self.rule,
            "path": list(self.path),
            "site": arguments,
            "before": self.before,
            "after": self.after,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Step:
        """The step that ``as_json`` wrote."""
        site = Site(tuple((name, _argument(value)) for name, value in data["site"].items()))
        return Step(data["rule"], tuple(data["path"]), site, data["before"], data["after"])

    def __str__(self) -> str:
        return f"{self.rule}({self.site})" + (f" at {'.'.join(map(str, self.path))}" if self.path else "")


def _plain(value: Argument) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _argument(value: Any) -> Argument:
    return tuple(_argument(item) for item in value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Derivation:
    """A chain of steps from one expression to another that equals it.

    The result is an expression with nested scopes. Each nested scope that becomes a statement of its own is one node
    of it, so a derivation of several statements is one derivation too.
    """

    start: Scope
    steps: tuple[Step, ...] = ()

    def states(self, rules: Mapping[str, Rule]) -> list[Scope]:
        """The expressions from the first to the last, replayed. ReplayError where a step does not give what was recorded."""
        states = [self.start]
        for number, step in enumerate(self.steps, start=1):
            if canonical_key(states[-1]) != step.before:
                raise ReplayError(f"step {number}, {step}: starts at another expression than was recorded")
            states.append(_applied(number, step, states[-1], rules))
            if canonical_key(states[-1]) != step.after:
                raise ReplayError(f"step {number}, {step}: gives another expression than was recorded")
        return states

    def result(self, rules: Mapping[str, Rule]) -> Scope:
        """The last expression, replayed."""
        return self.states(rules)[-1]

    def replayed_on(self, start: Scope, rules: Mapping[str, Rule]) -> Derivation:
        """The same rules at the same sites on another expression of the same form, say with other sizes or tensors."""
        return derive_along(start, [(step.rule, step.path, step.site) for step in self.steps], rules)

    def check_steps(self, rules: Mapping[str, Rule], check: Check) -> None:
        """Replay, and call ``check(before, after)`` for each step with the innermost scopes that it rewrites."""
        states = self.states(rules)
        for step, before, after in zip(self.steps, states, states[1:], strict=False):
            one, other = nested_at(before, step.path), nested_at(after, step.path)
            assert one is not None
            assert other is not None
            check(one, other)

    def as_json(self) -> dict[str, Any]:
        """Plain data: the text of the first expression, and the steps."""
        return {"start": format_scope(self.start), "steps": [step.as_json() for step in self.steps]}

    @staticmethod
    def from_json(data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Derivation:
        """The derivation that ``as_json`` wrote; ``tensors`` are those that the first expression reads, by name."""
        return Derivation(parse_scope(data["start"], tensors), tuple(Step.from_json(step) for step in data["steps"]))


def _applied(number: int, step: Step, scope: Scope, rules: Mapping[str, Rule]) -> Scope:
    if step.rule not in rules:
        raise ReplayError(f"step {number}: no rule {step.rule}")
    result = apply_at(rules[step.rule], scope, step.path, step.site)
    if isinstance(result, Refusal):
        raise ReplayError(f"step {number}, {step}: {result.reason}")
    return result


def derive_along(start: Scope, moves: list[tuple[str, Path, Site]], rules: Mapping[str, Rule]) -> Derivation:
    """The derivation that applies rules at sites one after the other. ReplayError where one refuses."""
    scope, steps = start, []
    for number, (rule, path, site) in enumerate(moves, start=1):
        before = canonical_key(scope)
        scope = _applied(number, Step(rule, path, site, before, ""), scope, rules)
        steps.append(Step(rule, path, site, before, canonical_key(scope)))
    return Derivation(start, tuple(steps))
