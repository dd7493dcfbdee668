"""Certificates: what was checked before a candidate exists.

1. On smaller expressions of the same form the chain is replayed and each step is compared in full, over all points, in an
   exact domain, for several random assignments; the ends of the chain are compared once more with the interpreter, in the
   types of the program on contents that are small integers, bit for bit where no operation rounds them.
2. At the real sizes the statements, substituted into one another, are compared with the original at points that meet every
   boundary and residue class of every output axis, the expressions between them at a few points.
3. The statements, substituted into one another, are the last expression of the chain (the same canonical key).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from passes.derive.certify.comparison import Comparison, same, seeds_for
from passes.derive.certify.degree import error_bound
from passes.derive.certify.interpreted import interpreted_difference
from passes.derive.certify.probes import points_of
from passes.derive.certify.shrinking import base_name, shrunk
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.exact import Domain, DomainRefusal, Value, choose_domain
from tensoropt.ir.exact_points import evaluate_at
from tensoropt.ir.expression import Scope, Tensor, accesses, replace_sources, scopes, tensors
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import Derivation, ReplayError
from tensoropt.rewrite.rule import Refusal, nested_at

_ROOMS = (3, 5, 8, 12)
_DENSE_LIMIT = 1 << 22
_LONGER = 16
"""States in between whose sums are so many times longer than those at both ends (products flattened to one) are checked at the
smaller sizes only."""

_SEED = 20
_POINT_SEEDS = 2
_HEAVY = 1 << 22
"""Summands of all points together from which one assignment and one pairing of the axes' classes are enough at the real sizes;
the certificate says so."""
_LONGEST = 1 << 18
"""Summands of an element from which states in between are checked at the smaller sizes only."""
_BETWEEN = 4
"""Points at which states in between are compared."""
_ATTEMPTS = 4
"""Seeds that are tried where one makes an expression divide by 0, this far apart."""
_APART = 100


@dataclass(frozen=True, slots=True)
class Certificate:
    """What stands behind a candidate: the domain, the sizes that were checked in full and the points at the real sizes.

    ``error_bound``: the probability that a wrong candidate passes, see ``degree.error_bound``. ``assignments``: how many random
    contents each step was compared with.
    """

    domain: Domain
    shrunk_shapes: tuple[tuple[str, tuple[int, ...]], ...]
    shrunk_elements: int
    steps: int
    real_points: int
    seed: int
    error_bound: float | None
    assignments: int = 1

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "domain": self.domain.value,
            "shrunk": {name: list(shape) for name, shape in self.shrunk_shapes},
            "shrunk_elements": self.shrunk_elements,
            "steps": self.steps,
            "real_points": self.real_points,
            "seed": self.seed,
            "error_bound": self.error_bound,
            "assignments": self.assignments,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Certificate:
        """The certificate that ``as_json`` wrote."""
        shapes = tuple((name, tuple(shape)) for name, shape in data["shrunk"].items())
        rest = {name: value for name, value in data.items() if name not in ("domain", "shrunk")}
        return Certificate(domain=Domain(data["domain"]), shrunk_shapes=shapes, **rest)


class Checker:
    """Checks derivations; remembers what it evaluated, so that candidates with a common beginning share it."""

    def __init__(self, seed: int = _SEED) -> None:
        self._seed = seed
        self._whole: dict[tuple[Domain, tuple[int, ...], tuple[Tensor, ...]], Comparison] = {}
        self._steps: dict[tuple[Scope, Scope, Domain], str | None] = {}
        self._points: dict[Any, Value] = {}

    def check(self, derivation: Derivation, compute: Compute, statements: tuple[Compute, ...]) -> Certificate | Refusal:
        """The certificate of a candidate, or what was found wrong. Other contents are tried where some divide by 0."""
        verdict = self._checked(derivation, compute, statements)
        for attempt in range(1, _ATTEMPTS):
            if isinstance(verdict, Certificate) or "division by zero" not in verdict.reason:
                break
            verdict = Checker(self._seed + attempt * _APART)._checked(derivation, compute, statements)
        return verdict

    def _checked(
        self, derivation: Derivation, compute: Compute, statements: tuple[Compute, ...]
    ) -> Certificate | Refusal:
        try:
            states = derivation.states(RULES_BY_NAME)
            domain = choose_domain(states)
        except (ReplayError, DomainRefusal) as error:
            return Refusal(str(error))
        result = substituted(statements)
        if states[0] is not compute.expression or canonical_key(result) != canonical_key(states[-1]):
            return Refusal("the statements are not the derived expression")
        small = self._check_shrunk(derivation, domain)
        if isinstance(small, Refusal):
            return small
        points = points_of((states[0], result))
        count = len(points[0]) if points else 1
        contents = _POINT_SEEDS
        if states[0].type.elements:
            ends = _summands(states[0], result)
            if ends * count > _HEAVY:
                contents, points = 1, [axis[: count // 2] for axis in points]
            between = [state for state in states[1:-1] if _summands(state) <= min(_LONGER * ends, _LONGEST)]
            reason = self._compare_points(states[0], result, between, points, domain, contents)
            if reason is not None:
                return Refusal(reason)
        seeds = seeds_for(domain, small.type.elements, self._seed)
        return Certificate(
            domain,
            tuple((tensor.name, tuple(map(int, tensor.shape))) for tensor in tensors(small)),
            small.type.elements,
            len(derivation.steps),
            len(points[0]) if points else 1,
            self._seed,
            error_bound(states[0], result, domain, min(len(seeds), contents)),
            len(seeds),
        )

    def _check_shrunk(self, derivation: Derivation, domain: Domain) -> Scope | Refusal:
        """The smaller expression on which each step and the whole chain held in full."""
        reason = "no smaller size was tried"
        split_by = _split_by(derivation)
        for start in dict.fromkeys([*(shrunk(derivation.start, room, split_by) for room in _ROOMS), derivation.start]):
            try:
                chain = derivation.replayed_on(start, RULES_BY_NAME)
                states = chain.states(RULES_BY_NAME)
            except ReplayError as error:
                reason = f"the chain does not replay on smaller sizes: {error}"
                continue
            if any(_points_in(inner) > _DENSE_LIMIT for state in states for inner in scopes(state)):
                return Refusal("even the smaller sizes are too large to check in full")
            for step, before, after in zip(chain.steps, states, states[1:], strict=False):
                one, other = nested_at(before, step.path), nested_at(after, step.path)
                assert one is not None
                assert other is not None
                wrong = self._compare_whole(one, other, domain)
                if wrong is not None:
                    return Refusal(f"{step}: {wrong}")
            wrong = self._compare_whole(states[0], states[-1], domain)
            wrong = wrong or interpreted_difference(states[0], states[-1], self._seed)
            return start if wrong is None else Refusal(f"the whole chain: {wrong}")
        return Refusal(reason)

    def _compare_whole(self, before: Scope, after: Scope, domain: Domain) -> str | None:
        entry = before, after, domain
        if entry not in self._steps:
            seeds = seeds_for(domain, before.type.elements, self._seed)
            key = domain, seeds, tuple(tensors(before))
            if key not in self._whole:
                self._whole[key] = Comparison(domain, seeds)
            self._steps[entry] = self._whole[key].difference(before, after)
        return self._steps[entry]

    def _compare_points(
        self, first: Scope, last: Scope, between: Sequence[Scope], points: list[Any], domain: Domain, contents: int
    ) -> str | None:
        """The last state at all points, those in between at a few of them, the first ends of all axes among these."""
        count = len(points[0]) if points else 1
        few = np.unique(np.linspace(0, count - 1, _BETWEEN).astype(int))
        try:
            wanted = self._at(first, points, domain, contents)
            if not same(wanted, self._at(last, points, domain, contents)):
                return "differs from the original at the real sizes"
            some = tuple(None if part is None else part[:, few] for part in wanted)
            for state in between:
                if not same(some, self._at(state, [axis[few] for axis in points], domain, contents)):
                    return "a state in between differs from the original at the real sizes"
        except DomainRefusal as error:
            return str(error)
        return None

    def _at(self, scope: Scope, points: list[Any], domain: Domain, contents: int) -> Value:
        entry = scope, domain, contents, tuple(axis.tobytes() for axis in points)
        if entry not in self._points:
            seeds = range(self._seed, self._seed + contents)
            self._points[entry] = evaluate_at(scope, points, domain, seeds)
        return self._points[entry]


def _split_by(derivation: Derivation) -> dict[str, int]:
    """The product of the factors by which each iterator of the start is split, by name; digits are named after what they are of."""
    found: dict[str, int] = {}
    for step in derivation.steps:
        arguments = dict(step.site.arguments)
        size = arguments.get("factor", arguments.get("at"))
        name = arguments.get("iterator")
        if isinstance(name, str) and isinstance(size, int) and size > 1:
            found[base_name(name)] = found.get(base_name(name), 1) * size
    return found


def _summands(*states: Scope) -> int:
    """The most summands that an element of any of the states takes, those of what it reads counted for each that reads it."""
    most: dict[Scope, int] = {}
    for state in states:
        for scope in scopes(state):
            read = [most[access.source] for access in accesses(scope.body) if isinstance(access.source, Scope)]
            most[scope] = prod(iterator.extent for iterator in scope.reduction) * max([1, *read])
    return max(most[state] for state in states)


def substituted(statements: tuple[Compute, ...]) -> Scope:
    """The last statement with the others put in the place of the tensors that they assign."""
    mapping: dict[Tensor | Scope, Tensor | Scope] = {}
    for statement in statements:
        mapping[statement.output] = replace_sources(statement.expression, mapping)
    result = mapping[statements[-1].output]
    assert isinstance(result, Scope)
    return result


def _points_in(scope: Scope) -> int:
    points = 1
    for iterator in (*scope.traversal, *scope.reduction):
        points *= iterator.extent
    return points
