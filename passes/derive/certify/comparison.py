"""Whole comparison of two expressions in an exact domain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tensoropt.ir.exact import Domain, DomainRefusal, Value, assignments, evaluate_exact
from tensoropt.ir.expression import Scope, Tensor, tensors

_LEAST = {Domain.PRIME: 2, Domain.INTEGER: 4, Domain.PAIRED: 3}
_ORDERS = 64
"""Where order counts, so many elements and assignments are compared together: an order may hide a difference in half of them."""
_MOST = 32


def seeds_for(domain: Domain, elements: int, seed: int) -> tuple[int, ...]:
    """Seeds of the assignments with which expressions of so many elements are compared."""
    count = _LEAST[domain]
    if domain is not Domain.PRIME:
        count = max(count, min(_MOST, _ORDERS // max(1, elements)))
    return tuple(range(seed, seed + count))


@dataclass(slots=True)
class Comparison:
    """Compares scopes that read the same tensors; what it evaluated once it does not evaluate again."""

    domain: Domain
    seeds: tuple[int, ...]
    _values: dict[str, Value] = field(default_factory=dict)
    _tensors: set[Tensor] = field(default_factory=set)
    _results: dict[Scope, Value] = field(default_factory=dict)

    def difference(self, before: Scope, after: Scope) -> str | None:
        """Where two scopes differ; None if nowhere."""
        if before is after:
            return None
        if before.type != after.type:
            return f"the type {after.type} is not {before.type}"
        read = [tensor for tensor in (*tensors(before), *tensors(after)) if tensor not in self._tensors]
        self._values |= assignments(read, self.domain, self.seeds)
        self._tensors.update(read)
        try:
            wanted, found = (
                evaluate_exact(scope, self._values, self.domain, self._results) for scope in (before, after)
            )
        except DomainRefusal as error:
            return str(error)
        if same(wanted, found):
            return None
        shape = (len(self.seeds), *map(int, before.shape))
        wrong = np.any(np.broadcast_to(np.asarray(wanted[0] != found[0]), shape), axis=0)
        places = np.argwhere(wrong)
        first = places[0].tolist() if len(places) else "?"
        return f"differs in {len(places)} of {before.type.elements} elements, first at {first}"


def difference(before: Scope, after: Scope, domain: Domain, seed: int) -> str | None:
    """Where two scopes differ in a domain, evaluated in full; None if nowhere."""
    return Comparison(domain, seeds_for(domain, before.type.elements, seed)).difference(before, after)


def same(wanted: Value, found: Value) -> bool:
    """Whether values agree in all parts that both have."""
    return all(
        one is None or other is None or bool(np.all(one == other)) for one, other in zip(wanted, found, strict=True)
    )
