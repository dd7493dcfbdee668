"""What every planner is: it gets a problem and a goal, and looks for sequences of short duration within the budget.

All of them count live bytes; `passes.plan.auto` packs what they find and lowers their budget until the arena fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tensoropt.plan_types import Bound, Order, Problem


@dataclass(frozen=True, slots=True)
class Goal:
    """``budget`` in live bytes. ``seconds`` is a limit of wall time; ``work`` one in the solver's own deterministic unit.

    With a work limit that is reached before the time, the same seed gives the same outcome.
    """

    budget: int
    order: Order = "free"
    seconds: float = 60.0
    work: int | None = None
    seed: int = 0
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """The best sequence within the budget, or None. ``complete``: nothing better exists (none at all for None) in ``claim``.

    ``claim`` says of which plans that was shown, in words: "any plan in the input order", "plans with two computations of a node".
    Only what holds for every plan of the goal's order may appear in ``bounds``.
    """

    sequence: tuple[int, ...] | None
    complete: bool = False
    claim: str = ""
    bounds: tuple[Bound, ...] = ()


Better = Callable[[tuple[int, ...]], object]
"""Told each better sequence within the budget when it is found; while there is none, also those that come nearest."""


class Solver(Protocol):
    """One way to plan."""

    def __call__(self, problem: Problem, goal: Goal, better: Better) -> Outcome:
        """Looks until it is done or a limit is reached. Never returns a sequence that is over the budget."""
