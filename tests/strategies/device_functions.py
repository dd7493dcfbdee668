"""Device functions written by hand, as schedules make them: threads bound to the grid, pointers as parameters."""

from __future__ import annotations

from typing import Any

from codegen.lower import tir
from codegen.schedules.gpu.context import Threads, allocate, barrier, shared
from codegen.targets.gpu import GpuTarget


def reversed_blocks(target: GpuTarget, blocks: int = 8, threads: int = 128, shared_elements: int | None = None) -> Any:
    """``y = 2 x + 1`` with each block's elements in reverse, through shared memory."""
    size = Threads((blocks,), (threads,))
    pointers = [tir.global_pointer("float32", name) for name in ("x", "y")]
    x, y = (tir.view(pointer, "float32", blocks * threads, name) for pointer, name in zip(pointers, "xy", strict=True))
    kept = shared("float32", shared_elements or threads, "kept")
    position = size.block[0] * threads + size.thread[0]
    body = tir.sequence(
        [
            *(tir.declare(buffer, pointer) for buffer, pointer in zip((x, y), pointers, strict=True)),
            allocate(kept),
            tir.store(kept, tir.load(x, position), size.thread[0]),
            barrier(),
            tir.store(y, tir.load(kept, threads - 1 - size.thread[0]) * 2.0 + 1.0, position),
        ]
    )
    return tir.device_function(pointers, size.around(body), target.tvm(), aliased=False)


def shares_of_many(target: GpuTarget, live: int) -> Any:
    """Each of 1024 threads multiplies ``live`` values by their sum, for which it needs about as many registers."""
    size = Threads((1,), (1024,))
    pointers = [tir.global_pointer("float32", name) for name in ("x", "y")]
    x, y = (tir.view(pointer, "float32", live * 1024, name) for pointer, name in zip(pointers, "xy", strict=True))
    kept, total = tir.local("float32", live, "kept"), tir.local("float32", 1, "total")
    thread, first = size.thread[0], tir.integer(0)
    values = [tir.load(kept, tir.integer(number)) for number in range(live)]
    steps = [tir.store(kept, tir.load(x, thread + 1024 * number), tir.integer(number)) for number in range(live)]
    steps += [tir.store(total, tir.number(0.0, "float32"), first)]
    steps += [tir.store(total, tir.load(total, first) + value, first) for value in values]
    steps += [
        tir.store(y, value * tir.load(total, first), thread + 1024 * number) for number, value in enumerate(values)
    ]
    declared = [tir.declare(buffer, pointer) for buffer, pointer in zip((x, y), pointers, strict=True)]
    body = tir.sequence([*declared, tir.allocate(kept), tir.allocate(total), *steps])
    return tir.device_function(pointers, size.around(body), target.tvm(), aliased=False)
