"""Certificates: what was checked before a candidate exists.

1. On smaller expressions of the same form the chain is replayed and each step is compared in full, over all points, in an
   exact domain.
2. At the real sizes every expression of the chain is compared with the first at points that meet every boundary and residue
   class of every output axis.
3. The statements, substituted into one another, are the last expression of the chain (the same canonical key).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

import numpy as np

from passes.derive.rules import RULES_BY_NAME
from passes.derive.shrinking import base_name, shrunk
from tensoropt.ir.canonical import canonical_key
from tensoropt.ir.exact import Domain, DomainRefusal, Value, choose_domain, evaluate_exact, random_values
from tensoropt.ir.exact_points import evaluate_at
from tensoropt.ir.expression import Scope, Tensor, accesses, replace_sources, scopes, tensors
from tensoropt.ir.index import FloorDiv, Index, Modulo
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import Derivation, ReplayError
from tensoropt.rewrite.rule import Refusal, nested_at

_ROOMS = (3, 5, 8, 12)
_DENSE_LIMIT = 1 << 22
_SEED = 20


@dataclass(frozen=True, slots=True)
class Certificate:
    """What stands behind a candidate: the domain, the sizes that were checked in full and the points at the real sizes."""

    domain: Domain
    shrunk_shapes: tuple[tuple[str, tuple[int, ...]], ...]
    shrunk_elements: int
    steps: int
    real_points: int
    seed: int
    error_bound: float

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
        self._steps: dict[tuple[Scope, Scope], str | None] = {}
        self._points: dict[tuple[Scope, Domain], Value] = {}

    def check(self, derivation: Derivation, compute: Compute, statements: tuple[Compute, ...]) -> Certificate | Refusal:
        """The certificate of a candidate, or what was found wrong."""
        try:
            states = derivation.states(RULES_BY_NAME)
            domain = choose_domain([states[0], states[-1]])
        except (ReplayError, DomainRefusal) as error:
            return Refusal(str(error))
        if states[0] is not compute.expression or canonical_key(substituted(statements)) != canonical_key(states[-1]):
            return Refusal("the statements are not the derived expression")
        small = self._check_shrunk(derivation, domain)
        if isinstance(small, Refusal):
            return small
        points = points_of(states[0])
        for state in states[1:]:
            reason = self._compare_points(states[0], state, points, domain)
            if reason is not None:
                return Refusal(reason)
        degree = sum(isinstance(tensor, Tensor) for tensor in tensors(states[0])) * max(1, len(scopes(states[-1])))
        bound = degree / (2**31 - 1) if domain is Domain.PRIME else 0.0
        return Certificate(
            domain,
            tuple((tensor.name, tuple(map(int, tensor.shape))) for tensor in tensors(small)),
            small.type.elements,
            len(derivation.steps),
            len(points[0]) if points else 1,
            self._seed,
            bound,
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
            return start if wrong is None else Refusal(f"the whole chain: {wrong}")
        return Refusal(reason)

    def _compare_whole(self, before: Scope, after: Scope, domain: Domain) -> str | None:
        if (before, after) not in self._steps:
            self._steps[before, after] = difference(before, after, domain, self._seed)
        return self._steps[before, after]

    def _compare_points(self, first: Scope, state: Scope, points: list[Any], domain: Domain) -> str | None:
        try:
            wanted, found = (self._at(scope, points, domain) for scope in (first, state))
        except DomainRefusal as error:
            return str(error)
        return None if _same(wanted, found) else "differs from the original at the real sizes"

    def _at(self, scope: Scope, points: list[Any], domain: Domain) -> Value:
        if (scope, domain) not in self._points:
            self._points[scope, domain] = evaluate_at(scope, points, domain, self._seed)
        return self._points[scope, domain]


def _split_by(derivation: Derivation) -> dict[str, int]:
    """The product of the factors by which each iterator of the start is split, by name; digits are named after what they are of."""
    found: dict[str, int] = {}
    for step in derivation.steps:
        if step.rule.startswith("split"):
            name = base_name(step.site.text("iterator"))
            found[name] = found.get(name, 1) * step.site.integer("factor")
    return found


def difference(before: Scope, after: Scope, domain: Domain, seed: int) -> str | None:
    """Where two scopes differ in a domain, evaluated in full; None if nowhere."""
    if before.type != after.type:
        return f"the type {after.type} is not {before.type}"
    values = random_values({*tensors(before), *tensors(after)}, domain, seed)
    try:
        wanted, found = evaluate_exact(before, values, domain), evaluate_exact(after, values, domain)
    except DomainRefusal as error:
        return str(error)
    if _same(wanted, found):
        return None
    wrong = np.argwhere(np.asarray(wanted[0] != found[0]))
    return f"differs in {len(wrong)} of {before.type.elements} elements, first at {wrong[0].tolist() if len(wrong) else '?'}"


def _same(wanted: Value, found: Value) -> bool:
    return all(
        one is None or other is None or bool(np.all(one == other)) for one, other in zip(wanted, found, strict=True)
    )


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


# Points at the real sizes --------------------------------------------------------------------------------------------


def points_of(start: Scope) -> list[np.ndarray[Any, Any]]:
    """Points, one array per output axis, that meet for each axis both ends and every residue class.

    The classes of all axes are run through at the same time, in two pairings, so their number is that of the richest axis.
    """
    period = 1
    for modulus in sorted(_periods(start)):
        period = lcm(period, modulus) if lcm(period, modulus) <= 16 else period
    extents = [int(extent) for tensor in tensors(start) for extent in tensor.shape]
    window = max([extent for extent in extents if extent <= 16], default=1)
    run = max(period, min(window, 12)) + 1
    classes = [
        _classes(iterator.extent, run if _is_entangled(start, place) else 1)
        for place, iterator in enumerate(start.traversal)
    ]
    count = max((len(found) for found in classes), default=1)
    random = np.random.default_rng(_SEED)
    axes = []
    for found in classes:
        repeated = np.resize(np.asarray(found), count)
        axes.append(np.concatenate([repeated, random.permutation(repeated)]))
    return axes


def _classes(extent: int, run: int) -> list[int]:
    """Both ends and a stretch in the middle, each of this length."""
    middle = max(0, extent // 2 - run // 2)
    chosen = {*range(min(run, extent)), *range(max(0, extent - run), extent), *range(middle, min(extent, middle + run))}
    return sorted(chosen)


def _is_entangled(start: Scope, place: int) -> bool:
    iterator = start.traversal[place]
    return any(
        iterator in index.iterators() and index is not Index.of(iterator)
        for access in accesses(start.body)
        for index in access.indices
    )


def _periods(scope: Scope) -> set[int]:
    found: set[int] = set()
    for access in accesses(scope.body):
        for index in access.indices:
            for atom, coefficient in index.terms:
                found.add(abs(coefficient))
                if isinstance(atom, FloorDiv | Modulo):
                    found.add(atom.divisor)
    return {step for step in found if 1 < step <= 16}
