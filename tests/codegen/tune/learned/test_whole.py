"""Trials of whole models: against a search by hand, and that a better order never needs more than all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codegen.tune.learned.features import NAMES
from codegen.tune.learned.samples import Sample
from codegen.tune.learned.whole import trials_at_random, trials_by_gains

TIMES = st.lists(st.sampled_from([0.5, 1.0, 1.5, 3.0]), min_size=2, max_size=20)


def model(times: list[list[float]], shares: list[float]) -> list[Sample]:
    """Kernels with the times of their variants as shares of the first one's, and what part of the run they are."""
    return [
        Sample(str(number), np.zeros((len(one), len(NAMES)), np.float32), np.array([1.0, *one[1:]]), share=share)
        for number, (one, share) in enumerate(zip(times, shares, strict=True))
    ]


def test_the_kernel_that_matters_comes_first() -> None:
    """Eight times as long as the other, and twice as fast by the variant that the scores put first."""
    samples = model([[1.0, 2.0, 0.5], [1.0, 2.0, 0.5]], [1.0, 8.0])
    right, wrong = np.array([0.0, 2.0, 1.0]), np.array([0.0, 1.0, 2.0])
    assert trials_by_gains(samples, [right, right]) == 3, (
        "the heavy one's two, since they are one part, and the best of the other"
    )
    assert trials_by_gains(samples, [wrong, wrong]) == 4
    assert trials_by_gains(samples[:1], [right]) == 1
    assert 1 < trials_at_random(samples[:1], 0) < 2


@given(times=st.lists(TIMES, min_size=1, max_size=4), data=st.data(), seed=st.integers(0, 9))
def test_the_goal_is_reached_and_nothing_is_needed_where_the_defaults_are_the_best(
    times: list[list[float]], data: st.DataObject, seed: int
) -> None:
    shares = data.draw(st.lists(st.floats(0.01, 10.0), min_size=len(times), max_size=len(times)))
    samples = model(times, shares)
    scores = [np.array(data.draw(st.permutations(range(len(one)))), float) for one in times]
    every = sum(len(one) - 1 for one in times)
    needed, by_chance = trials_by_gains(samples, scores), trials_at_random(samples, seed)
    assert 0 <= needed <= every
    assert 0 <= by_chance <= every
    if all(min(one.seconds) == 1.0 for one in samples):
        assert needed == by_chance == 0
    else:
        total = sum(shares)
        best = sum(share * one.seconds.min() for share, one in zip(shares, samples, strict=True))
        assert (needed > 0) == (by_chance > 0) == (total > best / 0.95)
