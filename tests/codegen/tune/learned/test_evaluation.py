"""Judging: kernels are judged by models that have not seen them, chance is what permutations give, and what can be learned is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.tune.learned import evaluation
from codegen.tune.learned.evaluation import by_kernel, by_origin, compared, figures, figures_of_chance, judged, table
from codegen.tune.learned.replay import trials_needed
from codegen.tune.learned.samples import Numbers, Sample
from tests.codegen.tune.learned.test_ordering import samples

TIMES = st.lists(st.sampled_from([1.0, 1.02, 1.5, 3.0]), min_size=2, max_size=6).map(np.array)


@given(seconds=TIMES)
def test_chance_is_the_mean_of_all_orders(seconds: Numbers) -> None:
    orders = [(0, *rest) for rest in permutations(range(1, len(seconds)))]
    assert figures_of_chance(seconds).trials == pytest.approx(
        np.mean([trials_needed(order, seconds) for order in orders])
    )
    assert figures_of_chance(seconds).regret == pytest.approx(np.mean(seconds / seconds.min()) - 1)


@pytest.mark.parametrize("group", [by_kernel, by_origin])
def test_no_kernel_is_judged_by_a_model_of_its_group(
    group: Callable[[Sample], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [replace(sample, origin=f"model {number % 6}") for number, sample in enumerate(samples(18))]
    monkeypatch.setattr(evaluation, "learned", lambda rest, seed: rest)
    seen: list[tuple[Sample, Any]] = list(judged(made, 0, group))
    assert sorted(sample.kernel for sample, _ in seen) == sorted(sample.kernel for sample in made)
    for sample, rest in seen:
        assert group(sample) not in {group(other) for other in rest}


def test_what_can_be_learned_is() -> None:
    made = [replace(sample, again=sample.seconds * 1.001) for sample in samples(10)]
    found = compared(made, [0], by_kernel)
    assert all(len(ones) == len(made) for ones in found.values())
    mean = {name: np.mean([one.accuracy for _, one in ones]) for name, ones in found.items()}
    assert mean["learned"] > 0.9
    assert mean["measured again"] == 1.0
    assert "| learned |" in table(found)


def test_a_scored_sample() -> None:
    sample = Sample("one", np.zeros((3, 1), np.float32), np.array([4.0, 2.0, 1.0]))
    found = figures(np.array([0.0, 2.0, 1.0]), sample.seconds)
    assert (found.accuracy, found.regret, found.trials) == pytest.approx((1 / 3, 3.0, 2.0))
