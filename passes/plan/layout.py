"""From a sequence to a plan: occurrences become buffers, and a packer places them."""

from __future__ import annotations

from passes.plan.trace import Occurrence, Trace
from tensoropt.allocation import Allocation, Buffer, Placement
from tensoropt.plan_types import Plan


def buffers_of(traced: Trace) -> tuple[Allocation, list[list[str]]]:
    """What is to be placed, and the buffer of each occurrence, by position. What took over another's bytes shares its buffer."""
    owner: dict[int, str] = {}
    spans: dict[str, list[int]] = {}
    names: list[list[str]] = []
    for position, occurrences in enumerate(traced.written):
        names.append([])
        for one in occurrences:
            name = _name(traced, one) if one.over is None else owner[id(one.over)]
            owner[id(one)] = name
            names[position].append(name)
            if one.over is None:
                spans[name] = [traced.problem.values[one.value].bytes, one.first, one.last]
            else:
                spans[name][2] = max(spans[name][2], one.last)
    for position, step in enumerate(traced.sequence):
        if traced.problem.actions[step].workspace:
            spans[_workspace(position)] = [traced.problem.actions[step].workspace, position, position]
    buffers = tuple(Buffer(name, size, first, last) for name, (size, first, last) in spans.items())
    return Allocation(buffers, traced.problem.alignment), names


def _name(traced: Trace, one: Occurrence) -> str:
    return f"{one.value}@{one.first}"


def _workspace(position: int) -> str:
    return f"workspace@{position}"


def plan_of(traced: Trace, placement: Placement, names: list[list[str]]) -> Plan:
    """The plan of a sequence whose buffers were placed."""
    offsets = tuple(tuple(placement.offsets[name] for name in written) for written in names)
    workspaces = tuple(placement.offsets.get(_workspace(position), 0) for position in range(len(traced.sequence)))
    return Plan(traced.sequence, offsets, workspaces, traced.peak(), placement.arena_bytes, traced.duration())
