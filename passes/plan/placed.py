"""The independent judge of plans: no packer's word is taken."""

from __future__ import annotations

from tensoropt.allocation import Allocation, Placement


def problems(problem: Allocation, plan: Placement) -> list[str]:
    """Everything that is wrong with a plan, each with its reason; empty for a valid plan."""
    found: list[str] = []
    for buffer in problem.buffers:
        offset = plan.offsets.get(buffer.name)
        if offset is None:
            found.append(f"{buffer.name} has no offset")
        elif offset % problem.alignment:
            found.append(f"{buffer.name} lies at {offset}, which is not a multiple of {problem.alignment}")
        elif offset < 0 or offset + buffer.bytes > plan.arena_bytes:
            found.append(f"{buffer.name} leaves the arena")
    placed = [buffer for buffer in problem.buffers if buffer.name in plan.offsets and buffer.bytes]
    for position, left in enumerate(placed):
        for right in placed[position + 1 :]:
            if left.meets(plan.offsets[right.name] - plan.offsets[left.name], right):
                found.append(f"{left.name} and {right.name} overlap while both are live")
    return found
