"""The independent judge of plans: no solver's and no packer's word is taken, and none of their code is used."""

from __future__ import annotations

from collections import Counter

from tensoropt.plan_types import MemoryModel, Order, Plan, Problem


def problems(
    problem: Problem, plan: Plan, budget: int | None = None, model: MemoryModel = "packed", order: Order = "free"
) -> list[str]:
    """Everything that is wrong with a plan, each with its reason; empty for a valid plan within the budget."""
    found: list[str] = []
    steps, values = problem.actions, problem.values
    if any(not 0 <= number < len(steps) for number in plan.sequence):
        return [f"the sequence names a step that is not one of {len(steps)}"]
    first = list(dict.fromkeys(number for number in plan.sequence if number < len(problem.steps)))
    found += [f"{steps[number].name} is never run" for number in sorted(set(range(len(problem.steps))) - set(first))]
    if order == "input" and first != sorted(first):
        found.append("first computations are not in the order of the input")
    for number, times in sorted(Counter(plan.sequence).items()):
        if times > 1 and not steps[number].recomputable and number < len(problem.steps):
            found.append(f"{steps[number].name} is run again, which it must not be")
    if len(plan.offsets) != len(plan.sequence) or len(plan.workspaces) != len(plan.sequence):
        return [*found, f"{len(plan.offsets)} entries of offsets for {len(plan.sequence)} positions"]
    pieces: list[tuple[int, int, int, int]] = []  # value, first position, last position, offset
    current: dict[int, int] = {}
    served: dict[tuple[int, int], int] = {}
    run: set[int] = set()
    for position, number in enumerate(plan.sequence):
        run.add(number)
        if number >= len(problem.steps) and number - len(problem.steps) not in run:
            found.append(f"{steps[number].name} at position {position} comes before there is anything to fetch")
        for value in steps[number].reads:
            if value not in current:
                found.append(
                    f"{steps[number].name} at position {position} reads {values[value].name} before it is written"
                )
            else:
                owner, start, _, offset = pieces[current[value]]
                pieces[current[value]] = owner, start, position, offset
                served[position, value] = current[value]
        if len(plan.offsets[position]) != len(steps[number].writes):
            return [*found, f"position {position} writes {len(steps[number].writes)} values and has other offsets"]
        for value, offset in zip(steps[number].writes, plan.offsets[position], strict=True):
            current[value] = len(pieces)
            pieces.append((value, position, position, offset))
    for value, piece in current.items():
        if values[value].kept:
            pieces[piece] = value, pieces[piece][1], len(plan.sequence), pieces[piece][3]
    taken = _taken_over(problem, plan, pieces, served)
    live = [steps[number].workspace for number in plan.sequence]
    for index, (value, start, end, offset) in enumerate(pieces):
        size = values[value].bytes
        where = f"{values[value].name} of position {start}"
        if offset < 0 or offset + size > plan.arena_bytes:
            found.append(f"{where} leaves the arena")
        if offset % problem.alignment:
            found.append(f"{where} lies at {offset}, which is not a multiple of {problem.alignment}")
        for position in range(start + (index in taken), min(end, len(live) - 1) + 1):
            live[position] += size
    found += _workspaces(problem, plan, pieces)
    for index, (value, start, end, offset) in enumerate(pieces):
        for other_index in range(index + 1, len(pieces)):
            other, other_start, other_end, other_offset = pieces[other_index]
            if other_start > end:
                break
            if not values[value].bytes or not values[other].bytes:
                continue
            apart = offset + values[value].bytes <= other_offset or other_offset + values[other].bytes <= offset
            same = taken.get(other_index) == index and offset == other_offset
            if not apart and start <= other_end and not same:
                found.append(
                    f"{values[value].name} of position {start} and {values[other].name} of position {other_start} overlap"
                )
    if max(live, default=0) != plan.peak_bytes:
        found.append(f"the peak is {max(live, default=0)} bytes and not {plan.peak_bytes}")
    copies = sum(problem.transfers[number - len(problem.steps)] for number in run if number >= len(problem.steps))
    if copies + sum(steps[number].duration for number in plan.sequence) != plan.duration:
        found.append("the duration is not the sum of its steps', its fetches' and the copies' to the host")
    if budget is not None and plan.used_bytes(model) > budget:
        found.append(f"{plan.used_bytes(model)} bytes are more than the budget of {budget}")
    return found


def _workspaces(problem: Problem, plan: Plan, pieces: list[tuple[int, int, int, int]]) -> list[str]:
    """What is wrong with where steps have their workspaces."""
    found: list[str] = []
    live: dict[int, list[tuple[int, int]]] = {}
    for value, start, end, offset in pieces:
        for position in range(start, min(end, len(plan.sequence) - 1) + 1):
            if problem.actions[plan.sequence[position]].workspace and problem.values[value].bytes:
                live.setdefault(position, []).append((offset, offset + problem.values[value].bytes))
    for position, (number, start) in enumerate(zip(plan.sequence, plan.workspaces, strict=True)):
        step = problem.actions[number]
        end = start + step.workspace
        if not step.workspace:
            continue
        if start < 0 or end > plan.arena_bytes or start % problem.alignment:
            found.append(f"the workspace of {step.name} at position {position} leaves the arena or is not aligned")
        if any(start < other_end and other < end for other, other_end in live.get(position, [])):
            found.append(f"the workspace of {step.name} at position {position} overlaps a live value")
    return found


def _taken_over(
    problem: Problem, plan: Plan, pieces: list[tuple[int, int, int, int]], served: dict[tuple[int, int], int]
) -> dict[int, int]:
    """The pieces that a step wrote where an input lay that nothing reads later, with that input's piece."""
    written = {(value, start): index for index, (value, start, _, _) in enumerate(pieces)}
    taken: dict[int, int] = {}
    for position, number in enumerate(plan.sequence):
        for result, source in problem.actions[number].in_place:
            read = served.get((position, source))
            if read is not None and pieces[read][2] == position:
                taken[written[result, position]] = read
                break
    return taken
