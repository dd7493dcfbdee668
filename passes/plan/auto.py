"""The planner: a plan near the bound, annealing from there, and packing until the arena fits.

Solvers count live bytes. Under the packed memory model what they find is packed; where the arena is over the budget, they get a
lower one, by bisection between what packs and what does not. Every plan that leaves here was judged by `passes.plan.validator`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from passes.plan.bounds.lower import HOLDS, lower_bounds
from passes.plan.bounds.near_bound import near_bound
from passes.plan.bounds.working_sets import Infeasible, working_sets
from passes.plan.layout import buffers_of, plan_of
from passes.plan.solving import Goal
from passes.plan.trace import Trace, trace
from passes.plan.validator import problems
from tensoropt.plan_types import Bound, MemoryModel, Order, Plan, Problem, Status, Step, Value

Progress = Callable[[str, float, str], None]

FEW = 9
"""Steps up to which all sequences can be gone through."""

_EXHAUSTIVE_SHARE = 0.3
"""Of the time, for that."""

_STATES = 60_000
_NODES = 200_000
"""Of the packer, for each sequence that is tried."""

_BOUND_SHARE = 0.15
"""Of the time, for bounds after a plan was found that is not known to be optimal."""

_ATTEMPTS = 5
"""Turns of the search under the packed model; the margin of each follows from whether the one before packed."""

_PACKING_SHARE = 0.04
"""Of the time, for one sequence at most."""

_LARGE = 400
"""Steps from which the program near the bound is seldom solved in its share of the time, and flat profiles pack badly."""

_MARGINS = (0.0, 0.02, 0.05, 0.1, 0.2)
"""By how much less than the budget the solvers are given, one after the other, until what they find packs."""


_SMALLEST = Problem("smallest", (Value("a", 1),), (Step("s", 0, (), (0,)),))
"""What compiled loops are run on before the clock starts."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked. ``work`` limits the moves of the search in place of the time: the same seed then gives the same plan."""

    budget: int
    model: MemoryModel = "packed"
    order: Order = "free"
    seconds: float = 60.0
    work: int | None = None
    seed: int = 0
    workers: int = 2


@dataclass(frozen=True)
class Planned:
    """``plan`` is within the budget, or None; ``smallest`` is the plan of the fewest bytes that was met, as the model counts them.

    ``history`` holds for each better plan the seconds after the start and its duration.
    """

    plan: Plan | None
    smallest: Plan
    status: Status
    reason: str
    bounds: tuple[Bound, ...]
    baseline: Plan
    history: tuple[tuple[float, int], ...]
    seconds: float


@dataclass
class _Search:
    """What has been found so far."""

    problem: Problem
    settings: Settings
    progress: Progress
    started: float = field(default_factory=time.monotonic)
    best: Plan | None = None
    smallest: Plan | None = None
    shortest: tuple[int, ...] | None = None
    """The shortest sequence that fits the budget in live bytes, packed or not."""
    plans: dict[tuple[int, ...], Plan] = field(default_factory=dict)
    """What was packed; each sequence is once."""
    bounds: list[Bound] = field(default_factory=list)
    history: list[tuple[float, int]] = field(default_factory=list)

    def left(self) -> float:
        return self.settings.seconds - (time.monotonic() - self.started)

    def offer(self, sequence: tuple[int, ...]) -> None:
        """Takes a sequence in: as the best plan, as the smallest, or as neither."""
        traced = trace(self.problem, sequence)
        peak, duration = traced.peak(), traced.duration()
        model, budget = self.settings.model, self.settings.budget
        if peak <= budget and (self.shortest is None or duration < self.problem.duration_of(self.shortest)):
            self.shortest = sequence
        better = peak <= budget and (self.best is None or duration < self.best.duration)
        if not better and self.smallest is not None and peak >= self.smallest.used_bytes(model):
            return
        plan = unpacked(traced) if model == "live" else self.packed(sequence)
        if self.smallest is None or plan.used_bytes(model) < self.smallest.used_bytes(model):
            self.smallest = plan
        if better and plan.used_bytes(model) <= budget:
            self.history.append((time.monotonic() - self.started, duration))
            self.best = plan
            self._tell()

    def packed(self, sequence: tuple[int, ...]) -> Plan:
        """The plan of a sequence: within the budget where the packer manages that, else in the smallest arena it met."""
        if sequence not in self.plans:
            self.plans[sequence] = packed(self.problem, sequence, self.settings)
        return self.plans[sequence]

    def nearest(self) -> tuple[int, ...] | None:
        """The sequence of the fewest bytes that was met, unless that is the input's."""
        met = None if self.smallest is None else self.smallest.sequence
        return None if met == tuple(range(len(self.problem.steps))) else met

    def least(self) -> int:
        """No plan of the order asked for is shorter."""
        valid = ("any order", HOLDS[self.settings.order])
        return max([self.problem.duration, *(bound.duration for bound in self.bounds if bound.holds_for in valid)])

    def done(self) -> bool:
        """Whether the best plan is optimal."""
        return self.best is not None and self.best.duration <= self.least()

    def _tell(self) -> None:
        assert self.best is not None
        once = max(1, self.problem.duration)
        longer, bound = (100 * (at - self.problem.duration) / once for at in (self.best.duration, self.least()))
        share = 1 - max(0.0, self.left()) / max(1e-9, self.settings.seconds)
        self.progress("plan", share, f"+{longer:.3f} %, bound +{bound:.3f} %")


def unpacked(traced: Trace) -> Plan:
    """A plan without offsets, while live bytes are what counts."""
    return Plan(traced.sequence, (), (), traced.peak(), 0, traced.duration())


def packed(problem: Problem, sequence: tuple[int, ...], settings: Settings) -> Plan:
    """See ``_Search.packed``."""
    from passes.plan.packing.search import within

    traced = trace(problem, sequence)
    allocation, names = buffers_of(traced)
    seconds = _PACKING_SHARE * settings.seconds if settings.work is None else None
    return plan_of(traced, within(allocation, settings.budget, _NODES, seconds).lowest, names)


def tightened(problem: Problem, plan: Plan, settings: Settings) -> Plan:
    """The plan in the smallest arena that the packer finds in half that time."""
    from passes.plan.packing.search import smallest

    traced = trace(problem, plan.sequence)
    allocation, names = buffers_of(traced)
    seconds = _PACKING_SHARE / 2 * settings.seconds if settings.work is None else None
    found = plan_of(traced, smallest(allocation, _NODES // 10, seconds).lowest, names)
    return min(plan, found, key=lambda one: one.arena_bytes)


def plan(problem: Problem, settings: Settings, progress: Progress = lambda stage, share, detail: None) -> Planned:
    """The shortest plan found within the budget. RuntimeError if the validator refuses it, which is a defect of this program.

    Loops that are compiled the first time, for some ten seconds, take nothing of the time that the search has.
    """
    from passes.plan.packing.search import prepare

    prepare()
    search = _Search(problem, settings, progress)
    as_it_is = tuple(range(len(problem.steps)))
    baseline = tightened(problem, search.packed(as_it_is), settings)
    search.plans[as_it_is] = baseline
    search.offer(as_it_is)
    proof = working_sets(problem, settings.budget)
    if proof is None and not search.done():
        proof = _look(search)
    if proof is None:
        found = _bounds(search)
        if isinstance(found, Infeasible):
            proof = found
        else:
            search.bounds += found
    if search.best is not None:
        if settings.model == "live":
            search.best = tightened(problem, search.packed(search.best.sequence), settings)
        wrong = problems(problem, search.best, settings.budget, settings.model, settings.order)
        if wrong:
            raise RuntimeError(f"the planner made an invalid plan: {wrong[0]}")
        status: Status = "optimal" if search.done() else "feasible"
        reason = ""
    else:
        status = "infeasible" if proof is not None else "unknown"
        reason = (
            proof.reason if proof is not None else "no plan was found in the time, and none was shown to be impossible"
        )
    assert search.smallest is not None  # the order of the input, at the worst
    least = search.smallest
    if search.best is None and settings.model == "packed":
        least = tightened(problem, least, settings)
    elapsed = time.monotonic() - search.started
    return Planned(search.best, least, status, reason, tuple(search.bounds), baseline, tuple(search.history), elapsed)


def _look(search: _Search) -> Infeasible | None:
    """Everything that may find a plan, the quickest first; or a proof that there is none."""
    problem, settings = search.problem, search.settings
    if len(problem.steps) <= FEW:
        from passes.plan.solvers import exhaustive

        seconds = 60.0 if settings.work is not None else _EXHAUSTIVE_SHARE * search.left()
        outcome = exhaustive.solve(problem, Goal(settings.budget, settings.order, seconds, _STATES), search.offer)
        search.bounds += outcome.bounds
        if outcome.complete and outcome.sequence is None:
            return Infeasible("all sequences were gone through", HOLDS[settings.order])
        if search.done():
            return None
    if settings.order == "free":
        _anneal(search, 1, 0.25)
        if search.done():
            return None
    large = len(problem.steps) > _LARGE
    if settings.order == "input" or not large:
        proof = _near_bound(search, 0.12 if large else 0.25)
        if proof is not None:
            return proof
    if not search.done():
        _anneal(search, 1 if settings.model == "live" else _ATTEMPTS, 1.0)
    return None


def _near_bound(search: _Search, share_of_time: float) -> Infeasible | None:
    """The plan in the input order that is near the bound, and that bound; or a proof that the order asked for has no plan."""
    settings = search.settings
    workers = settings.workers if settings.work is None else 1  # more than one are not deterministic
    near = near_bound(search.problem, settings.budget, share_of_time * search.left(), workers)
    if isinstance(near, Infeasible):
        return near if settings.order == "input" else None
    search.bounds.append(near.bound)
    if near.plan is not None:
        search.offer(near.plan.sequence)
    return None


def _anneal(search: _Search, attempts: int, share_of_time: float) -> None:
    """Annealing for the budget; and, while what is found does not pack, for less. For a share of the time that is left.

    It starts from the shortest sequence that fits the budget, or the one that comes nearest to it: from one that fits the lower
    budget of a turn it finds less, for that is a local optimum already.
    """
    from passes.plan.solvers import annealing

    settings = search.settings
    compiling = time.monotonic()
    annealing.solve(_SMALLEST, Goal(1, work=1, workers=1), lambda _: None)
    search.started += time.monotonic() - compiling
    reserve = max(_BOUND_SHARE * settings.seconds, (1 - share_of_time) * search.left())
    low, high = 0.0, 1.0  # margins that do not pack, and that do
    skipped = 0 if len(search.problem.steps) <= _LARGE else 2  # much smaller margins do not pack there
    packs = False
    for tried in range(attempts):
        if search.left() <= reserve or search.done():
            return
        margin = 0.0 if settings.model == "live" or high == 0.0 else _margin(tried + skipped, low, high, packs)
        part = 1 / (attempts - tried)
        goal = Goal(
            settings.budget - int(margin * settings.budget),
            settings.order,
            max(0.5, (search.left() - reserve) * part),
            None if settings.work is None else max(1, int(settings.work * part)),
            settings.seed + 7919 * tried,
            settings.workers,
        )
        found = annealing.solve(search.problem, goal, search.offer, search.shortest or search.nearest()).sequence
        packs = found is None or search.packed(found).used_bytes(settings.model) <= settings.budget
        if packs:
            high = min(high, margin)
        elif margin < high:
            low = max(low, margin)


def _margin(tried: int, low: float, high: float, packs: bool) -> float:
    """The next share of the budget to leave free. After one that did not pack, more time goes to the least that did."""
    if high == 1.0:
        return _MARGINS[min(tried, len(_MARGINS) - 1)]
    return (low + high) / 2 if packs else high


def _bounds(search: _Search) -> list[Bound] | Infeasible:
    """Bounds that were not yet had, in the time that is left; or a proof that there is no plan."""
    settings = search.settings
    if search.done():
        return [Bound(search.problem.duration, "every step once", "any order")]
    known = None if search.best is None else search.best.duration
    workers = settings.workers if settings.work is None else 1
    seconds = max(1.0, 0.7 * search.left())  # stating the last program comes on top
    found = lower_bounds(search.problem, settings.budget, settings.order, seconds, workers, known)
    return found if isinstance(found, Infeasible) else list(found)
