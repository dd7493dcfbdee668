"""Allocations to pack in tests, and their optima by other means."""

from itertools import permutations
from random import Random

from hypothesis import strategies as st
from ortools.sat.python import cp_model

from tensoropt.allocation import Allocation, Buffer


@st.composite
def allocations(draw: st.DrawFn, most: int = 20, bytes_: int = 40, alignment: int = 1) -> Allocation:
    """Buffers with sizes from 0 and short and long lifetimes."""
    made = []
    for number in range(draw(st.integers(0, most))):
        first = draw(st.integers(0, 12))
        made.append(Buffer(f"b{number}", draw(st.integers(0, bytes_)), first, first + draw(st.integers(0, 7))))
    return Allocation(tuple(made), alignment)


def flat(seed: int, steps: int, most: int) -> Allocation:
    """As many live bytes at each step as at any other, as far as ``most`` buffers go: hard to pack at the live peak."""
    random = Random(seed)
    free = peak = random.choice([8, 12, 20, 40])
    made: list[Buffer] = []
    live: list[tuple[int, int]] = []
    for step in range(steps):
        ends = [random.random() < 0.4 for _ in live]
        for size, first in (one for one, end in zip(live, ends, strict=True) if end):
            made.append(Buffer(f"b{len(made)}", size, first, step - 1))
            free += size
        live = [one for one, end in zip(live, ends, strict=True) if not end]
        while free and len(made) + len(live) < most:
            size = random.randint(1, max(1, min(free, peak // 2)))
            free -= size
            live.append((size, step))
    made += [Buffer(f"b{len(made) + place}", size, first, steps - 1) for place, (size, first) in enumerate(live)]
    return Allocation(tuple(made), 1)


def by_permutations(allocation: Allocation) -> int:
    """The smallest arena in bytes, alignment 1: in some order, each buffer lies on those before it that live with it."""
    best = sum(buffer.bytes for buffer in allocation.buffers)
    for order in permutations(allocation.buffers):
        ends: list[tuple[Buffer, int]] = []
        for buffer in order:
            below = [end for other, end in ends if other.first <= buffer.last and buffer.first <= other.last]
            ends.append((buffer, max(below, default=0) + buffer.bytes))
        best = min(best, max((end for _, end in ends), default=0))
    return best


def by_constraints(allocation: Allocation) -> int:
    """The smallest arena in bytes, alignment 1, by CP-SAT: rectangles that do not overlap."""
    model = cp_model.CpModel()
    largest = sum(buffer.bytes for buffer in allocation.buffers)
    arena = model.new_int_var(0, largest, "arena")
    times, places = [], []
    for buffer in allocation.buffers:
        offset = model.new_int_var(0, largest, buffer.name)
        times.append(model.new_fixed_size_interval_var(buffer.first, buffer.last + 1 - buffer.first, buffer.name))
        places.append(model.new_fixed_size_interval_var(offset, buffer.bytes, buffer.name))
        model.add(offset + buffer.bytes <= arena)
    model.add_no_overlap_2d(times, places)
    model.minimize(arena)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    assert solver.solve(model) == cp_model.OPTIMAL
    return int(solver.objective_value)


def tiled(random: Random, steps: int, height: int) -> Allocation:
    """Buffers that fit in ``height`` bytes by construction, alignment 1: a tiling of which some tiles shrank or are missing."""
    free = {(step, byte) for step in range(steps) for byte in range(height)}
    widest, tallest = random.randint(1, steps), random.randint(1, height)
    missing = random.choice([0.0, 0.02, 0.1])
    made: list[Buffer] = []
    for byte in range(height):
        for step in range(steps):
            if (step, byte) not in free:
                continue
            width, size = random.randint(1, widest), random.randint(1, tallest)
            width = next(w for w in range(1, width + 1) if w == width or (step + w, byte) not in free)
            size = min(size, height - byte)
            free -= {(step + w, byte + b) for w in range(width) for b in range(size)}
            if random.random() >= missing:
                shrunk = size - (size > 1 and random.random() < missing)
                made.append(Buffer(f"b{len(made)}", shrunk, step, step + width - 1))
    random.shuffle(made)
    return Allocation(tuple(made), 1)
