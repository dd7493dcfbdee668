"""Binary programs of exact integers: what the bounds are stated in, whatever solves them.

A literal is an integer as SAT encoders have it: ``n`` is variable n and ``~n`` its negation. Variable 0 is constant, so that
``TRUE`` and ``FALSE`` are literals too and models need no special cases; rows and clauses are simplified as they are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

Literal = int

TRUE: Literal = 0
FALSE: Literal = ~0

LARGEST_SUM = 1 << 45
"""Of the absolute coefficients of a row or the costs after scaling: in double precision the error is far below one."""


@dataclass(frozen=True, slots=True)
class Row:
    """The sum of coefficient times variable is at most ``limit``."""

    coefficients: tuple[int, ...]
    variables: tuple[int, ...]
    limit: int

    @property
    def exact(self) -> bool:
        """Whether ``scaled`` allows no point that this one does not."""
        return sum(map(abs, self.coefficients)) // (math.gcd(*self.coefficients) or 1) <= LARGEST_SUM

    def scaled(self) -> Row:
        """A row of small numbers that every binary point of this one satisfies: the same where the common divisor is enough.

        Rounding every coefficient down, and then the limit, weakens a row, since the variables are not negative.
        """
        divisor = math.gcd(*self.coefficients) or 1
        total = sum(map(abs, self.coefficients)) // divisor
        if total > LARGEST_SUM:
            divisor *= -(-total // LARGEST_SUM)
        if divisor == 1:
            return self
        return Row(tuple(one // divisor for one in self.coefficients), self.variables, self.limit // divisor)


@dataclass(slots=True)
class BinaryProgram:
    """Minimise the sum of ``costs`` (not negative) over binary variables subject to clauses and rows."""

    costs: list[int] = field(default_factory=lambda: [0])
    clauses: list[tuple[Literal, ...]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)
    """Variables of which a point of least cost had best have few, which no bound depends on."""
    contradiction: bool = False
    """A row or clause without variables is violated: the program is infeasible as stated."""

    def boolean(self, cost: int = 0) -> Literal:
        """A new variable, which costs ``cost`` where it is true."""
        self.costs.append(cost)
        return len(self.costs) - 1

    def clause(self, *literals: Literal) -> None:
        """At least one of the literals is true."""
        distinct = {literal for literal in literals if literal != FALSE}
        if TRUE in distinct or any(~literal in distinct for literal in distinct):
            return
        if distinct:
            self.clauses.append(tuple(sorted(distinct)))
        else:
            self.contradiction = True

    def at_most(self, terms: Iterable[tuple[int, Literal]], limit: int) -> None:
        """The coefficients of the true literals sum to no more than ``limit``."""
        merged: dict[int, int] = {}
        for coefficient, literal in terms:
            if literal < 0:
                limit -= coefficient
                literal, coefficient = ~literal, -coefficient
            if literal == TRUE:
                limit -= coefficient
            else:
                merged[literal] = merged.get(literal, 0) + coefficient
        merged = {variable: coefficient for variable, coefficient in merged.items() if coefficient}
        if sum(one for one in merged.values() if one > 0) <= limit:
            return
        if sum(one for one in merged.values() if one < 0) > limit:
            self.contradiction = True
            return
        self.rows.append(Row(tuple(merged.values()), tuple(merged), limit))

    def holds(self, literal: Literal, values: tuple[bool, ...]) -> bool:
        """Whether a literal is true at a point."""
        return values[literal] if literal >= 0 else not values[~literal]

    def cost_unit(self) -> int:
        """What costs are divided by (rounded down) before a solver sees them; a bound is multiplied by it afterwards."""
        divisor = math.gcd(*self.costs) or 1
        total = sum(self.costs) // divisor
        return divisor * max(1, -(-total // LARGEST_SUM))
