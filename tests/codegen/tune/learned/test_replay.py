"""The figures of merit, against their definitions written out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.tune.learned.replay import (
    ENOUGH,
    curve,
    default_first,
    pairwise_accuracy,
    regret,
    trials_needed,
)
from codegen.tune.learned.samples import Numbers

TIMES = st.lists(st.sampled_from([1.0, 1.01, 1.5, 2.0, 7.0]), min_size=2, max_size=9).map(np.array)


@given(seconds=TIMES, data=st.data(), apart=st.sampled_from([0.0, 0.05]))
def test_pairwise_accuracy_counts_pairs(seconds: Numbers, data: st.DataObject, apart: float) -> None:
    scores = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(seconds), max_size=len(seconds))), float)
    marks = []
    for one, other in combinations(range(len(seconds)), 2):
        fast, slow = sorted((one, other), key=lambda at: seconds[at])
        if seconds[slow] > seconds[fast] * (1 + apart):
            marks.append(0.5 if scores[fast] == scores[slow] else float(scores[fast] < scores[slow]))
    found = pairwise_accuracy(scores, seconds, apart)
    assert np.isnan(found) if not marks else found == pytest.approx(np.mean(marks))


@given(seconds=TIMES)
def test_the_times_themselves_are_the_best_scores(seconds: Numbers) -> None:
    assert pairwise_accuracy(seconds, seconds) == 1.0 or len(set(seconds.tolist())) == 1
    assert regret(seconds, seconds) == 0.0
    assert trials_needed(np.argsort(seconds, kind="stable"), seconds) == 1


@given(seconds=TIMES, seed=st.integers(0, 99))
def test_enough_is_reached_when_it_is(seconds: Numbers, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(seconds))
    needed = trials_needed(order, seconds)
    best = curve(order, seconds)
    assert best[needed - 1] <= seconds.min() / ENOUGH
    assert needed == 1 or best[needed - 2] > seconds.min() / ENOUGH


@given(scores=st.lists(st.integers(0, 5), min_size=1, max_size=9).map(lambda found: np.array(found, float)))
def test_the_default_comes_first(scores: Numbers) -> None:
    order = default_first(scores)
    assert order[0] == 0
    assert sorted(order.tolist()) == list(range(len(scores)))
    assert (np.diff(scores[order[1:]]) >= 0).all()
