"""Simulated annealing over sequences: order and recomputation together, for thousands of steps.

Cost: by how many per cent the duration grows, and the bytes over the budget summed over positions in per cent of the budget.
Rounds of growing length start from the best sequence so far; workers run rounds side by side and exchange what they found.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from passes.plan.compiled import compiled
from passes.plan.solvers.incremental import (
    BUDGET,
    EXCESS,
    LENGTH,
    Ints,
    Net,
    State,
    as_arrays,
    sequence_of,
    state_of,
)
from passes.plan.solvers.list_order import listed
from passes.plan.solvers.moves import (
    Scratch,
    exchange,
    forget,
    recompute,
    reorder,
    scratch_of,
    shift,
    short_position,
    take,
    undo,
    useless,
)
from passes.plan.solving import Better, Goal, Outcome
from passes.plan.trace import trace
from tensoropt.plan_types import Order, Problem

_CHUNK = 2_000
"""Moves between two looks at the clock."""


@compiled
def _cost(state: State, once: float, weight: float) -> float:
    longer = (float(state.spent[0]) - once) / max(once, 1e-9)
    over = float(state.numbers[EXCESS]) / max(1, int(state.numbers[BUDGET]))
    return 100 * longer + weight * 100 * over


@compiled
def _seed(seed: int) -> None:
    np.random.seed(seed)


@compiled
def _anneal(
    net: Net,
    state: State,
    scratch: Scratch,
    moves: int,
    hot: float,
    cold: float,
    weight: float,
    orders: float,
    best: Ints,
    record: np.ndarray,
) -> None:
    """Some moves while the temperature falls from hot to cold. ``best`` gets the cheapest sequence within the budget.

    ``record``: the duration of that, and its length.
    """
    once = net.duration.sum()
    now = _cost(state, once, weight)
    for number in range(moves):
        temperature = hot * (cold / hot) ** (number / moves)
        scratch.used[0] = 0
        kind = np.random.random()
        if np.random.random() < orders:
            made = reorder(net, state, scratch)
        elif kind < 0.5 and (state.numbers[EXCESS] > 0 or kind < 0.2):
            made = recompute(net, state, scratch, short_position(state))
        elif kind < 0.75:
            made = forget(net, state, scratch, orders > 0)
        elif kind < 0.85 and len(net.transfer) > 0:
            made = exchange(net, state, scratch)
        else:
            made = shift(net, state, scratch)
        if not made:
            continue
        then = _cost(state, once, weight)
        if then > now and np.random.random() >= np.exp((now - then) / temperature):
            undo(net, state, scratch)
            continue
        now = then
        if state.numbers[EXCESS] == 0 and state.spent[0] < record[0] - 1e-12:
            record[0], record[1] = state.spent[0], state.numbers[LENGTH]
            best[: state.numbers[LENGTH]] = state.sequence[: state.numbers[LENGTH]]


@compiled
def _tidy(net: Net, state: State, scratch: Scratch) -> None:
    """Takes out, from the last on, recomputations that nothing reads or without which memory still suffices."""
    again = True
    while again:
        again = False
        for position in range(state.numbers[LENGTH] - 1, -1, -1):
            if position >= state.numbers[LENGTH] or state.copy[position] == 0:
                continue
            before = state.numbers[EXCESS]
            scratch.used[0] = 0
            surely = useless(net, state, position)
            take(net, state, scratch, position)
            if state.numbers[EXCESS] > before and not surely:
                undo(net, state, scratch)
            else:
                again = True


@dataclass
class _Round:
    """One annealing of one worker."""

    net: Net
    budget: int
    start: tuple[int, ...]
    seed: int
    moves: int
    hot: float
    weight: float
    orders: float

    def run(self, deadline: float) -> tuple[tuple[int, ...] | None, tuple[int, ...], float]:
        """The cheapest sequence within the budget, the one at the end, and the excess of that in budgets."""
        state, scratch = state_of(self.net, self.start, self.budget), scratch_of(self.net)
        best, record = np.zeros(len(state.sequence), np.int64), np.array([np.inf, 0.0])
        if state.numbers[EXCESS] == 0:
            record[:] = state.spent[0], state.numbers[LENGTH]
            best[: len(self.start)] = self.start
        cold = self.hot / 100
        _seed(self.seed)
        for done in range(0, self.moves, _CHUNK):
            if time.monotonic() > deadline:
                break
            here, there = (
                self.hot * (cold / self.hot) ** (min(at, self.moves) / self.moves) for at in (done, done + _CHUNK)
            )
            _anneal(
                self.net,
                state,
                scratch,
                min(_CHUNK, self.moves - done),
                here,
                there,
                self.weight,
                self.orders,
                best,
                record,
            )
        found = None if record[0] == np.inf else tuple(int(step) for step in best[: int(record[1])])
        if found is not None:
            tidied = state_of(self.net, found, self.budget)
            _tidy(self.net, tidied, scratch)
            found = sequence_of(tidied)
        return found, sequence_of(state), state.numbers[EXCESS] / max(1, self.budget)


PORTFOLIO: dict[Order, tuple[tuple[float, float, float], ...]] = {
    "free": ((1.0, 0.3, 1.0), (1.0, 0.1, 0.4), (3.0, 0.1, 0.3), (3.0, 1.0, 0.8)),
    "input": ((1.0, 0.3, 0.0), (0.3, 0.1, 0.0), (1.0, 0.1, 0.0), (3.0, 0.3, 0.0)),
}
"""Temperatures at the start in mean durations of a step, what a per cent of the budget too much weighs, the share of reordering."""

_GROWTH = 1.5
_LONGEST = 20_000_000


def solve(problem: Problem, goal: Goal, better: Better, start: Sequence[int] | None = None) -> Outcome:
    """Anneals from a sequence (that of the input where none is given). ``goal.work`` counts moves of all workers."""
    if not problem.steps:
        return Outcome(())
    deadline = time.monotonic() + goal.seconds
    net, budget = as_arrays(problem, goal.budget)
    first = _origin(problem, goal.order) if start is None else tuple(start)
    best = _within(problem, first, goal.budget)
    if best is not None:
        better(best)
    nearest = first
    average = 100 / len(problem.steps)
    moves, number, work = max(20_000, 40 * len(problem.steps)), 0, 0
    with ThreadPoolExecutor(goal.workers) as pool:
        while time.monotonic() < deadline and (goal.work is None or work < goal.work):
            rounds = []
            for worker in range(goal.workers):
                index = number * goal.workers + worker
                hot, weight, orders = PORTFOLIO[goal.order][(index + number) % 4]
                origin = first if index % 4 == 3 else nearest if best is None else best
                seed = (goal.seed * 1_000_003 + index) % (1 << 32)
                rounds.append(_Round(net, budget, origin, seed, moves, hot * average, weight, orders))
            least = np.inf
            for found, last, excess in pool.map(lambda one: one.run(deadline), rounds):
                kept = None if found is None else _within(problem, found, goal.budget)
                if kept is not None and (best is None or problem.duration_of(kept) < problem.duration_of(best)):
                    best = kept
                    better(best)
                if excess < least:
                    least, nearest = excess, last
            if best is None:
                better(nearest)
            elif problem.duration_of(best) == problem.duration:
                break  # nothing is recomputed
            number += 1
            work += moves * goal.workers
            moves = min(int(moves * _GROWTH), _LONGEST)
    return Outcome(best)


def _origin(problem: Problem, order: Order) -> tuple[int, ...]:
    """The order of the input, or one of lower memory where that may be."""
    given = tuple(range(len(problem.steps)))
    if order == "input":
        return given
    return min(given, listed(problem), key=lambda sequence: trace(problem, sequence).peak())


def _within(problem: Problem, sequence: tuple[int, ...], budget: int) -> tuple[int, ...] | None:
    """The sequence where the plain definition says that it is within the budget."""
    return sequence if trace(problem, sequence).peak() <= budget else None
