"""The decision procedure against independent optima, planted placements, and itself."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.plan.packing.canonical import EXHAUSTED, FOUND, RUNNING
from passes.plan.packing.fitting import PREORDERS, Limit, fit
from passes.plan.packing.instance import Instance, scaled
from passes.plan.packing.orders import ordered
from passes.plan.packing.state import Search, begin, failures
from tensoropt.allocation import Allocation
from tests.passes.plan.packing.instances import allocations, by_constraints, by_permutations, flat, tiled

GAPS = [
    (172, 12, 34, 1),
    (230, 12, 34, 1),
    (364, 8, 22, 1),
    (364, 10, 28, 1),
    (491, 8, 22, 1),
    (712, 10, 28, 1),
    (885, 12, 34, 1),
]
"""Seeds of flat allocations, with steps and buffers, and how far the optimum is above the live peak."""


def overlaps(instance: Instance, offsets: list[int]) -> bool:
    """Whether two buffers take the same unit at the same time."""
    taken = set()
    for place, offset in enumerate(offsets):
        for section in range(int(instance.lower[place]), int(instance.upper[place])):
            for unit in range(offset, offset + int(instance.sizes[place])):
                if (section, unit) in taken:
                    return True
                taken.add((section, unit))
    return False


def fits(allocation: Allocation, capacity: int) -> bool:
    """What the decision procedure says with a limit that it does not need."""
    found = scaled(allocation)
    every = True
    for instance in found.instances:
        answer = fit(instance, found.capacity(capacity), Limit(10**6))
        assert answer.proved
        if answer.offsets is None:
            every = False
        else:
            assert not overlaps(instance, answer.offsets.tolist())
            assert int((answer.offsets + instance.sizes).max()) * found.unit <= capacity
    return every


@settings(max_examples=60)
@given(allocations(most=6, bytes_=9))
def test_the_least_capacity_is_that_of_all_permutations(allocation: Allocation) -> None:
    optimum = by_permutations(allocation)
    assert fits(allocation, optimum)
    assert not fits(allocation, optimum - 1) or optimum == 0


@pytest.mark.parametrize(("seed", "steps", "most", "gap"), GAPS)
def test_the_least_capacity_is_that_of_constraint_programming(seed: int, steps: int, most: int, gap: int) -> None:
    allocation = flat(seed, steps, most)
    optimum = by_constraints(allocation)
    assert optimum == allocation.live_peak() + gap
    assert fits(allocation, optimum)
    assert not fits(allocation, optimum - 1)


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(4, 20))
def test_no_search_claims_that_a_planted_placement_is_none(seed: int, steps: int, height: int) -> None:
    found = scaled(tiled(Random(seed), steps, height))
    for instance in found.instances:
        for keys in PREORDERS:
            search = begin(instance, ordered(instance, keys), found.capacity(height), failures(), 0)
            status = search.advance(5000)
            assert status != EXHAUSTED
            if status == FOUND:
                assert not overlaps(instance, search.offsets().tolist())


@pytest.mark.parametrize("seeds", [range(200), range(200, 400)])
def test_searches_in_different_orders_do_not_contradict_each_other(seeds: range) -> None:
    for seed in seeds:
        for instance in scaled(flat(seed, 14, 45)).instances:
            for capacity in (instance.peak(), instance.peak() + 1):
                searches = [begin(instance, ordered(instance, keys), capacity, failures(), 0) for keys in PREORDERS]
                assert not {FOUND, EXHAUSTED} <= {search.advance(3000) for search in searches}


@given(st.integers(0, 10**6), st.integers(1, 7))
def test_a_search_in_chunks_is_the_search_in_one(seed: int, chunk: int) -> None:
    for instance in scaled(flat(seed, 8, 24)).instances:

        def search(instance: Instance = instance) -> Search:
            return begin(instance, ordered(instance, "WAT"), instance.peak(), failures(), 0)

        whole, chunked = search(), search()
        status = whole.advance(700)
        while chunked.nodes < 700 and chunked.advance(min(chunk, 700 - chunked.nodes)) == RUNNING:
            pass
        assert chunked.advance(0) == status
        assert chunked.nodes == whole.nodes
        assert chunked.offsets().tolist() == whole.offsets().tolist()


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 3000))
def test_the_same_limit_gives_the_same_answer_and_is_kept(seed: int, nodes: int) -> None:
    for instance in scaled(flat(seed, 14, 45)).instances:
        limit = Limit(nodes)
        answers = [fit(instance, instance.peak(), limit) for _ in range(2)]
        assert limit.nodes == nodes
        assert answers[0].nodes == answers[1].nodes <= nodes
        offsets = [None if answer.offsets is None else answer.offsets.tolist() for answer in answers]
        assert offsets[0] == offsets[1]
        assert answers[0].proved == answers[1].proved


def test_a_search_without_anything_left_proves_nothing() -> None:
    (instance,) = scaled(flat(28, 14, 45)).instances
    answer = fit(instance, instance.peak(), Limit(0))
    assert (answer.offsets, answer.proved, answer.nodes) == (None, False, 0)
    assert fit(instance, instance.peak() - 1, Limit(0)).proved


def test_time_that_is_over_ends_a_search() -> None:
    (instance,) = scaled(flat(92, 14, 45)).instances
    answer = fit(instance, instance.peak(), Limit(10**12, deadline=0.0))
    assert answer.offsets is None
    assert not answer.proved
