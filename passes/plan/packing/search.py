"""Packing: the smallest arena that can be found, or any within a capacity. Greedy orders first, then the canonical search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from passes.plan.packing.fitting import Limit, fit
from passes.plan.packing.greedy import Stack, portfolio
from passes.plan.packing.instance import Scaled, scaled
from tensoropt.allocation import Allocation, Buffer, Placement

FIRST_PROBE = 2000
"""Nodes for a capacity in the first pass of `smallest`, besides 20 for each buffer; doubled after every pass.

At most an eighth of all nodes, but enough to place every buffer."""

RESOLUTION = 2000
"""A pass of `smallest` ends when the capacities in question differ by less than this part of them."""


@dataclass(frozen=True)
class Packing:
    """``placement`` is None where nothing was found. No arena of the alignment has fewer than ``bound`` bytes. After ``nodes``.

    ``lowest`` is the smallest arena that was met, whether it is small enough or not. The size of an arena is a multiple of the
    alignment, and so is the size that a buffer takes in it.
    """

    placement: Placement | None
    bound: int
    nodes: int
    lowest: Placement

    @property
    def optimal(self) -> bool:
        """Whether no arena is smaller."""
        return self.placement is not None and self.placement.arena_bytes <= self.bound


def prepare() -> None:
    """Compiles what is compiled, where it was not yet: some ten seconds that would count as those of a search."""
    instance = scaled(Allocation((Buffer("a", 2, 0, 1), Buffer("b", 1, 1, 2)), 1)).instances[0]
    portfolio(instance, 0)
    fit(instance, 3, Limit(1000))


def smallest(allocation: Allocation, nodes: int, seconds: float | None = None) -> Packing:
    """The smallest arena found: by greedy orders, then by search at the live peak and by bisection of what lies between.

    Searches are limited by ``nodes``, which gives the same result everywhere, and by wall time, which does not. ValueError as
    `instance.scaled`.
    """
    problem = scaled(allocation)
    limit = Limit(nodes, None if seconds is None else monotonic() + seconds)
    bound = max((instance.peak() for instance in problem.instances), default=0)
    stacks = [portfolio(instance, bound) for instance in problem.instances]
    largest = max((instance.count for instance in problem.instances), default=0)
    probe = max(1, 2 * largest, min(FIRST_PROBE + 20 * largest, nodes // 8))
    while not limit.reached and bound < _height(stacks):
        low = capacity = bound
        before = limit.nodes
        while low < _height(stacks) and not limit.reached:
            found, proved = _lower(problem, stacks, capacity, probe, limit)
            if proved:
                bound = capacity + 1
            if not found:
                low = capacity + 1
            if (_height(stacks) - low) * RESOLUTION < low:
                break
            capacity = (low + _height(stacks) - 1) // 2
        if limit.nodes == before:
            break  # nothing above the bound can be searched
        probe *= 2
    bytes_ = bound * problem.unit if problem.exact else problem.peak_bytes
    placement = _placement(problem, stacks)
    return Packing(placement, bytes_, nodes - limit.nodes, placement)


def within(allocation: Allocation, capacity: int, nodes: int, seconds: float | None = None) -> Packing:
    """Any arena of at most a capacity in bytes. A bound above the capacity proves that there is none. Limits as in `smallest`."""
    problem = scaled(allocation)
    limit = Limit(nodes, None if seconds is None else monotonic() + seconds)
    bound = max((instance.peak() for instance in problem.instances), default=0)
    units = problem.capacity(capacity)
    stacks = [portfolio(instance, units) for instance in problem.instances]
    if problem.peak_bytes > capacity:
        return Packing(None, problem.peak_bytes, 0, _placement(problem, stacks))
    found, proved = _lower(problem, stacks, units, nodes, limit)
    if proved:
        bound = units + 1
    bytes_ = bound * problem.unit if problem.exact else problem.peak_bytes
    placement = _placement(problem, stacks)
    return Packing(placement if found else None, bytes_, nodes - limit.nodes, placement)


def _lower(problem: Scaled, stacks: list[Stack], capacity: int, nodes: int, limit: Limit) -> tuple[bool, bool]:
    """Replaces the stacks that are above a capacity. Whether all could be, and if not, whether it is proved that they cannot.

    Each instance gets up to ``nodes``. Takes what was used off the limit.
    """
    found = True
    for place, instance in enumerate(problem.instances):
        if stacks[place].height <= capacity:
            continue
        answer = fit(instance, capacity, limit.part(nodes))
        limit.nodes -= answer.nodes
        if answer.offsets is not None:
            stacks[place] = Stack.of(instance, answer.offsets)
            continue
        if answer.proved:
            return False, True
        found = False
    return found, False


def _height(stacks: Sequence[Stack]) -> int:
    return max((stack.height for stack in stacks), default=0)


def _placement(problem: Scaled, stacks: Sequence[Stack]) -> Placement:
    """In bytes; buffers of size 0 lie at 0."""
    allocation = problem.allocation
    offsets = {buffer.name: 0 for buffer in allocation.buffers}
    end = 0
    for instance, stack in zip(problem.instances, stacks, strict=True):
        for number, offset in zip(instance.numbers, stack.offsets.tolist(), strict=True):
            buffer = allocation.buffers[number]
            offsets[buffer.name] = offset * problem.unit
            end = max(end, offset * problem.unit + buffer.bytes)
    arena = -(-end // allocation.alignment) * allocation.alignment
    return Placement(offsets, arena, allocation.live_peak())
