"""Random schedules of a kernel's blocks for a device: of MetaSchedule's rules for GPUs, and others that TVM can bind."""

from __future__ import annotations

from random import Random
from typing import Any

from tvm import s_tir

from codegen.lower.schedulable import Schedulable
from codegen.lower.tensor_instructions import skip_all
from codegen.targets.gpu import GpuTarget
from codegen.tune.search_space import search_space
from tests.strategies.schedules import attempt


def searched_schedules(kernel: Schedulable, target: GpuTarget, random: Random, count: int) -> list[Any]:
    """Up to so many points of MetaSchedule's space, as its evolutionary search would begin with."""
    skip_all()
    from tvm.s_tir import meta_schedule

    seed = random.randrange(1, 1 << 30)
    context = meta_schedule.TuneContext(
        kernel.function,
        target=target.tvm(),
        space_generator=search_space(kernel, target),
        num_threads=1,
        rand_state=seed,
    )
    designs = list(context.generate_design_space())
    found = []
    for number in range(64 * count):
        trace = random.choice(designs).trace
        schedule = s_tir.Schedule(kernel.function, seed=seed + number)
        s_tir.schedule.Trace(trace.insts, {}).apply_to_schedule(schedule, remove_postproc=True)
        schedule.enter_postproc()
        if all(step.apply(schedule) for step in context.space_generator.postprocs):
            found.append(schedule)
        if len(found) == count:
            break
    return found


def bound_schedule(kernel: Schedulable, random: Random) -> Any:
    """Blocks inlined, or bound to threads in numbers that need not divide anything, those of a fold too; some loops as vectors."""
    schedule = s_tir.Schedule(kernel.function)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        if random.randrange(2):
            attempt(schedule.compute_inline, block)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        spatial = [
            loop
            for loop, kind in zip(schedule.get_loops(block), schedule.get(block).iter_vars, strict=True)
            if kind.iter_type == kind.DataPar
        ]
        folded = schedule.get_loops(block)[len(spatial) :]
        lanes = random.choice((1, 1, 2, 3))
        outer, threads, inner = schedule.split(schedule.fuse(*spatial), [None, random.choice((1, 2, 5, 8)), lanes])
        schedule.bind(outer, "blockIdx.x")
        schedule.bind(threads, "threadIdx.x")
        if lanes > 1:
            schedule.reorder(*folded, inner)
            attempt(random.choice((schedule.vectorize, schedule.unroll)), inner)
        elif folded and random.randrange(2):
            _, together = schedule.split(random.choice(folded), [None, random.choice((2, 4))])
            attempt(schedule.bind, together, "threadIdx.y")
    return schedule
