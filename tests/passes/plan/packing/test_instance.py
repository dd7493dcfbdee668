"""Instances hold what the allocation says: who lives together, how much at once, and sizes that are never rounded down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passes.plan.packing.instance import LARGEST, scaled
from passes.plan.packing.state import pairs
from tensoropt.allocation import Allocation, Buffer
from tests.passes.plan.packing.instances import allocations


@given(allocations())
def test_buffers_share_a_section_exactly_if_they_live_together(allocation: Allocation) -> None:
    where = {}
    for part, instance in enumerate(scaled(allocation).instances):
        for place, number in enumerate(instance.numbers):
            where[number] = part, range(int(instance.lower[place]), int(instance.upper[place]))
    assert sorted(where) == [number for number, buffer in enumerate(allocation.buffers) if buffer.bytes]
    for left, (part, sections) in where.items():
        one = allocation.buffers[left]
        for right, (other_part, other_sections) in where.items():
            other = allocation.buffers[right]
            together = part == other_part and bool(set(sections) & set(other_sections))
            assert together == (one.first <= other.last and other.first <= one.last)


@given(allocations())
def test_pairs_are_those_that_live_together(allocation: Allocation) -> None:
    present = [buffer for buffer in allocation.buffers if buffer.bytes]
    together = sum(
        one.first <= other.last and other.first <= one.last
        for place, one in enumerate(present)
        for other in present[:place]
    )
    assert sum(pairs(instance) for instance in scaled(allocation).instances) == together


@given(allocations(), st.sampled_from([1, 3, 64]))
def test_the_peak_in_units_is_the_peak_of_aligned_sizes(allocation: Allocation, alignment: int) -> None:
    found = scaled(Allocation(allocation.buffers, alignment))
    assert found.exact
    assert found.unit % alignment == 0
    peak = max((instance.peak() for instance in found.instances), default=0)
    assert peak * found.unit == found.peak_bytes
    assert found.peak_bytes >= allocation.live_peak()


@given(st.lists(st.integers(0, 1 << 80), max_size=8))
def test_huge_sizes_are_rounded_up_and_fit_in_64_bits(sizes: list[int]) -> None:
    allocation = Allocation(tuple(Buffer(f"b{place}", size, 0, 0) for place, size in enumerate(sizes)), 1)
    found = scaled(allocation)
    assert sum(int(instance.sizes.sum()) for instance in found.instances) < LARGEST
    for instance in found.instances:
        for number, size in zip(instance.numbers, instance.sizes.tolist(), strict=True):
            assert 0 <= size * found.unit - sizes[number] < found.unit
            assert not found.exact or size * found.unit == sizes[number]


@pytest.mark.parametrize("buffer", [Buffer("bad", -1, 0, 0), Buffer("bad", 1, 1, 0)])
def test_what_is_no_buffer_is_named(buffer: Buffer) -> None:
    with pytest.raises(ValueError, match="bad"):
        scaled(Allocation((buffer,)))
