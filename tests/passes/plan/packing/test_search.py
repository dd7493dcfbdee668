"""Packings are valid in the eyes of an independent judge, their bounds hold, and what is known to fit is found."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.plan.packing.search import smallest, within
from passes.plan.placed import problems
from tensoropt.allocation import Allocation, Buffer
from tests.passes.plan.packing.instances import allocations, by_permutations, flat

PUBLISHED = Path(__file__).resolve().parents[4] / "../shared/data/offsets"
"""The instances of MiniMalloc, where they are at hand."""


@given(allocations(most=6, bytes_=9))
def test_the_smallest_arena_is_that_of_all_permutations(allocation: Allocation) -> None:
    found = smallest(allocation, 10**5)
    assert found.placement is not None
    assert found.optimal
    assert problems(allocation, found.placement) == []
    assert found.placement.arena_bytes == found.bound == by_permutations(allocation)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([1, 8, 64]), st.integers(0, 4000))
def test_packings_are_valid_with_any_alignment_and_limit(seed: int, alignment: int, nodes: int) -> None:
    allocation = Allocation(flat(seed, 10, 30).buffers, alignment)
    found = smallest(allocation, nodes)
    assert found.placement is not None
    assert problems(allocation, found.placement) == []
    assert allocation.live_peak() <= found.bound <= found.placement.arena_bytes
    assert found.placement.arena_bytes % alignment == 0
    assert found.nodes <= nodes
    assert smallest(allocation, nodes) == found


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(-1, 4))
def test_within_a_capacity_or_a_proof_that_agrees_with_the_smallest(seed: int, more: int) -> None:
    allocation = flat(seed, 9, 26)
    capacity = allocation.live_peak() + more
    found = within(allocation, capacity, 3000)
    if found.placement is not None:
        assert problems(allocation, found.placement) == []
        assert found.placement.arena_bytes <= capacity
    elif found.bound > capacity:
        best = smallest(allocation, 20000).placement
        assert best is not None
        assert best.arena_bytes > capacity


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1 << 64, 1 << 70))
def test_huge_sizes_keep_sound_bounds(seed: int, factor: int) -> None:
    small = flat(seed, 9, 26)
    buffers = tuple(
        Buffer(one.name, one.bytes * factor + place, one.first, one.last) for place, one in enumerate(small.buffers)
    )
    allocation = Allocation(buffers, 1)
    found = smallest(allocation, 2000)
    assert found.placement is not None
    assert problems(allocation, found.placement) == []
    assert allocation.live_peak() <= found.bound <= found.placement.arena_bytes
    again = within(allocation, found.placement.arena_bytes, 2000)
    assert again.placement is None or problems(allocation, again.placement) == []
    assert again.bound <= found.placement.arena_bytes  # it exists, so that nothing may claim that it does not


def test_nothing_and_next_to_nothing() -> None:
    for buffers in ((), (Buffer("empty", 0, 3, 5),)):
        found = smallest(Allocation(buffers), 100)
        assert found.placement is not None
        assert found.optimal
        assert found.placement.arena_bytes == 0
        assert set(found.placement.offsets) == {buffer.name for buffer in buffers}
    assert within(Allocation((Buffer("one", 65, 0, 0),)), 127, 100).placement is None
    found = within(Allocation((Buffer("one", 65, 0, 0),)), 128, 100)
    assert found.placement is not None
    assert found.placement.arena_bytes == 128


def test_more_buffers_than_are_searched_are_packed_all_the_same() -> None:
    allocation = Allocation(
        tuple(Buffer(f"b{place}", 1 + place % 7, place % 50, 50 + place % 49) for place in range(7000)), 1
    )
    found = smallest(allocation, 10**6)
    assert found.placement is not None
    assert found.nodes == 0
    assert found.bound <= found.placement.arena_bytes < 2 * found.bound


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published instances are not here")
@pytest.mark.parametrize("name", "ABCDEF")
def test_published_instances_fit_in_their_capacity(name: str) -> None:
    with (PUBLISHED / f"{name}.1048576.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    buffers = tuple(Buffer(row["id"], int(row["size"]), int(row["lower"]), int(row["upper"]) - 1) for row in rows)
    found = within(Allocation(buffers, 1), 1048576, 3_000_000)
    assert found.placement is not None
    assert problems(Allocation(buffers, 1), found.placement) == []
    assert found.placement.arena_bytes <= 1048576
