"""Greedy packing against its plain definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from passes.plan.packing.greedy import ORDERS, best_fit, first_fit, portfolio
from passes.plan.packing.instance import Instance, scaled
from passes.plan.packing.orders import blended, ordered
from tensoropt.allocation import Allocation
from tests.passes.plan.packing.instances import allocations


def gaps(instance: Instance, offsets: dict[int, int], buffer: int) -> list[tuple[int, int]]:
    """Free (start, end) between what lives together with a buffer; the last has no end, which is -1."""
    busy = sorted(
        (offset, offset + int(instance.sizes[other]))
        for other, offset in offsets.items()
        if instance.lower[other] < instance.upper[buffer] and instance.lower[buffer] < instance.upper[other]
    )
    found, top = [], 0
    for start, end in busy:
        found.append((top, start))
        top = max(top, end)
    return [*found, (top, -1)]


@given(allocations(), st.sampled_from(ORDERS))
def test_first_and_best_fit_are_what_they_say(allocation: Allocation, keys: str) -> None:
    for instance in scaled(allocation).instances:
        order = ordered(instance, keys)
        assert sorted(order.tolist()) == list(range(instance.count))
        lowest: dict[int, int] = {}
        tightest: dict[int, int] = {}
        for buffer in order.tolist():
            size = int(instance.sizes[buffer])
            wide = [gap for gap in gaps(instance, lowest, buffer) if gap[1] < 0 or gap[1] - gap[0] >= size]
            lowest[buffer] = wide[0][0]
            wide = [gap for gap in gaps(instance, tightest, buffer) if gap[1] < 0 or gap[1] - gap[0] >= size]
            tightest[buffer] = min(wide, key=lambda gap: (gap[1] < 0, gap[1] - gap[0]))[0]
        assert dict(enumerate(first_fit(instance, order).offsets.tolist())) == lowest
        assert dict(enumerate(best_fit(instance, order).offsets.tolist())) == tightest


@given(allocations())
def test_the_portfolio_is_no_worse_than_any_order(allocation: Allocation) -> None:
    for instance in scaled(allocation).instances:
        best = portfolio(instance, instance.peak())
        assert best.height == int((best.offsets + instance.sizes).max())
        for keys in ORDERS:
            assert instance.peak() <= best.height <= first_fit(instance, ordered(instance, keys)).height


@given(allocations(), st.integers(0, 9))
def test_orders_drawn_at_random_are_orders(allocation: Allocation, seed: int) -> None:
    for instance in scaled(allocation).instances:
        assert sorted(blended(instance, np.random.default_rng(seed)).tolist()) == list(range(instance.count))
