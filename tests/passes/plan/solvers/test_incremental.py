"""The profile that is kept up to date is that of the plain definition, after any insertions, removals and taken-back moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.plan.solvers import moves
from passes.plan.solvers.incremental import (
    COPIES,
    EXCESS,
    EXTRAS,
    State,
    as_arrays,
    insert,
    profile_of,
    remove,
    scaled,
    sequence_of,
    state_of,
)
from passes.plan.trace import trace
from tensoropt.plan_types import Problem
from tests.passes.plan.problems import HUGE, keeps_input_order, magnified, may_be_run, problems


def agrees(problem: Problem, state: State, budget: int) -> None:
    """Everything that a state says of its sequence."""
    sequence = sequence_of(state)
    _, _, limit, unit = scaled(problem, budget)
    profile = [size // unit for size in trace(problem, sequence).profile()]
    assert profile_of(state) == profile
    assert state.numbers[EXCESS] == sum(max(0, size - limit) for size in profile)
    assert state.numbers[EXTRAS] == len(sequence) - len(problem.steps)
    assert sorted(state.extras[: state.numbers[EXTRAS]]) == sorted(
        problem.step_of(sequence[i]) for i in range(len(sequence)) if state.copy[i]
    )
    most = max([1, *(step.duration for step in problem.steps), *problem.transfers])
    assert state.spent[0] == pytest.approx(problem.duration_of(sequence) / most, abs=1e-9)


@given(problems(paging=True), st.integers(0, 30), st.data())
@settings(max_examples=60)
def test_insertions_and_removals(problem: Problem, budget: int, data: st.DataObject) -> None:
    net, limit = as_arrays(problem, budget)
    state = state_of(net, range(len(problem.steps)), limit)
    touched = np.zeros(len(problem.steps), np.int64)
    agrees(problem, state, budget)
    for _ in range(data.draw(st.integers(1, 8))):
        sequence = sequence_of(state)
        position = data.draw(st.integers(0, len(sequence) - 1))
        earlier = [
            step for step in range(len(problem.steps)) if step in sequence[:position] and state.times[step] < COPIES
        ]
        earlier += [action for action in map(len(problem.steps).__add__, earlier) if action < len(problem.actions)]
        if data.draw(st.booleans()) and earlier:
            insert(net, state, data.draw(st.sampled_from(earlier)), position, touched)
        elif state.copy[position]:
            remove(net, state, position, touched)
        agrees(problem, state, budget)


@given(problems(paging=True), st.integers(0, 30), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=60)
def test_moves_keep_sequences_valid_and_can_be_taken_back(problem: Problem, budget: int, free: bool, seed: int) -> None:
    net, limit = as_arrays(problem, budget)
    state, scratch = state_of(net, range(len(problem.steps)), limit), moves.scratch_of(net)
    random = np.random.default_rng(seed)
    for _ in range(20):
        before, memory = sequence_of(state), profile_of(state)
        scratch.used[0] = 0
        kind = random.integers(5 if problem.transfers else 4)
        if kind == 0:
            moves.recompute(net, state, scratch, moves.short_position(state))
        elif kind == 1:
            moves.forget(net, state, scratch, free)
        elif kind == 2:
            moves.shift(net, state, scratch)
        elif kind == 4:
            moves.exchange(net, state, scratch)
        elif free:
            moves.reorder(net, state, scratch)
        agrees(problem, state, budget)
        after = sequence_of(state)
        assert may_be_run(problem, after)
        again = {step for step in after if after.count(step) > 1 and step < len(problem.steps)}
        assert all(problem.steps[step].recomputable for step in again)
        if not free:
            assert keeps_input_order(problem, after)
        if random.integers(2):
            moves.undo(net, state, scratch)
            assert sequence_of(state) == before
            assert profile_of(state) == memory
            agrees(problem, state, budget)


@given(problems(paging=True), st.integers(0, 30))
@settings(max_examples=30)
def test_huge_sizes_are_rounded_so_that_what_fits_in_units_fits(problem: Problem, budget: int) -> None:
    large = magnified(problem, HUGE + 1)
    net, limit = as_arrays(large, budget * HUGE)
    state = state_of(net, range(len(problem.steps)), limit)
    if state.numbers[EXCESS] == 0:
        assert trace(large, range(len(problem.steps))).peak() <= budget * HUGE
