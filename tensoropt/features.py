"""What a kernel does, counted, and what the counts cost: everything that predicts a time is a set of coefficients over them.

Passes count expressions (``of_expression``), schedules count their own loops. The ranking of schedules, the estimate that ranks
candidates, rooflines of targets that are not there and learned models differ in coefficients only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from tensoropt.ir.expression import Scope, tensors


@dataclass(frozen=True, slots=True)
class _Counts:
    """A number for each thing that is counted.

    ``multiply_adds``, ``operations`` and ``shuffles`` are instructions (of vectors or of scalars, as the coefficients say),
    ``loads`` reads from the first cache, ``near_bytes`` what comes from the second one, ``far_bytes`` from beyond, ``steps`` the
    iterations of a loop whose additions wait for one another; all these go on at the same time. ``stores``, ``gathers`` (vectors
    read or written element by element), ``overheads`` (loops and tiles set up) and ``starts`` (threads woken) are added to them.
    """

    multiply_adds: float = 0.0
    operations: float = 0.0
    shuffles: float = 0.0
    loads: float = 0.0
    near_bytes: float = 0.0
    far_bytes: float = 0.0
    steps: float = 0.0
    stores: float = 0.0
    gathers: float = 0.0
    overheads: float = 0.0
    starts: float = 0.0


NAMES = tuple(field.name for field in fields(_Counts))
"""The names of the counts, in order: the columns of whatever is learned."""


@dataclass(frozen=True, slots=True)
class Features(_Counts):
    """Counts of one piece of work, as one thread does it."""

    def __add__(self, other: Features) -> Features:
        return Features(*(getattr(self, name) + getattr(other, name) for name in NAMES))

    def __mul__(self, count: float) -> Features:
        return Features(*(getattr(self, name) * count for name in NAMES))


@dataclass(frozen=True, slots=True)
class Coefficients(_Counts):
    """The cost of each count, in cycles or in seconds. Arithmetic, loads, bytes and steps overlap: the dearest of them counts."""

    def cost(self, found: Features) -> float:
        """What one piece of work costs."""
        computed = (
            found.multiply_adds * self.multiply_adds
            + found.operations * self.operations
            + found.shuffles * self.shuffles
        )
        overlapping = max(
            computed,
            found.loads * self.loads,
            found.near_bytes * self.near_bytes,
            found.far_bytes * self.far_bytes,
            found.steps * self.steps,
        )
        return (
            overlapping
            + found.stores * self.stores
            + found.gathers * self.gathers
            + found.overheads * self.overheads
            + found.starts * self.starts
        )

    def total(self, pieces: Iterable[tuple[float, Features]]) -> float:
        """What pieces of work cost one after another, each so many times."""
        return sum(count * self.cost(found) for count, found in pieces)


def of_expression(expression: Scope, multiply_adds: float, operations: float) -> Features:
    """A statement as one kernel: its arithmetic (multiply-adds of contractions, and other operations) and its tensors once."""
    moved = expression.type.bytes + sum(tensor.type.bytes for tensor in tensors(expression))
    return Features(multiply_adds=multiply_adds, operations=operations, far_bytes=moved, starts=1.0)
