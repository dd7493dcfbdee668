"""Random schedules of a kernel's blocks: whatever TVM's steps allow."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tvm import s_tir

from codegen.lower.schedulable import Schedulable


def random_schedule(kernel: Schedulable, random: Random) -> Any:
    """Blocks inlined or moved to their readers, loops split, reordered, unrolled, vectorised and made parallel."""
    schedule = s_tir.Schedule(kernel.function)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        match random.randrange(4):
            case 0:
                attempt(schedule.compute_inline, block)
            case 1:
                readers = schedule.get_consumers(block)
                if readers:
                    loops = schedule.get_loops(readers[0])
                    attempt(schedule.compute_at, block, loops[random.randrange(len(loops))])
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        loops = list(schedule.get_loops(block))
        if not loops:
            continue
        place = random.randrange(len(loops))
        halves = attempt(schedule.split, loops[place], [None, random.choice((2, 3, 4))])
        if halves is not None:
            loops[place : place + 1] = list(halves)
        attempt(schedule.reorder, *random.sample(loops, len(loops)))
        loops = list(schedule.get_loops(block))
        for step in random.sample((schedule.parallel, schedule.vectorize, schedule.unroll), random.randrange(4)):
            at = 0 if step == schedule.parallel else -1 if step == schedule.vectorize else random.randrange(len(loops))
            attempt(step, loops[at])
    return schedule


def attempt(step: Callable[..., Any], *arguments: Any) -> Any:
    """What a step gives; None where TVM refuses it."""
    try:
        return step(*arguments)
    except (s_tir.ScheduleError, ValueError, RuntimeError):
        return None
