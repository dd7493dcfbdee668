"""What sequences mean, on examples small enough to be worked out by hand."""

from dataclasses import replace

import pytest

from passes.plan.trace import trace
from tensoropt.plan_types import Problem, Step, Value

CHAIN = Problem(
    "chain",
    (Value("a", 4), Value("b", 2), Value("c", 3)),
    (Step("s0", 1, (), (0,)), Step("s1", 2, (0,), (1,)), Step("s2", 3, (0, 1), (2,), workspace=1)),
)


def test_memory_is_what_is_live_what_is_written_and_workspace() -> None:
    traced = trace(CHAIN, [0, 1, 2])
    assert traced.profile() == [4, 6, 10]
    assert (traced.peak(), traced.duration()) == (10, 6)


def test_a_recomputed_value_is_not_live_in_between() -> None:
    steps = (Step("s0", 1, (), (0,)), Step("s1", 1, (0,), (1,)), Step("s2", 1, (1,), (2,)), Step("s3", 1, (0, 2), (3,)))
    long = Problem("long", tuple(Value(name, size) for name, size in zip("abcd", (5, 1, 8, 1), strict=True)), steps)
    assert trace(long, [0, 1, 2, 3]).profile() == [5, 6, 14, 14]
    assert trace(long, [0, 1, 2, 0, 3]).profile() == [5, 6, 9, 13, 14]


def test_kept_values_live_to_the_end_and_only_their_last_occurrence_does() -> None:
    kept = Problem("kept", (Value("a", 4, True), Value("b", 2)), (Step("s0", 1, (), (0,)), Step("s1", 1, (0,), (1,))))
    assert trace(kept, [0, 1]).profile() == [4, 6]
    assert trace(kept, [0, 1, 0]).profile() == [4, 6, 4]


def test_a_fetch_reads_nothing_and_the_first_pays_for_the_copy_to_the_host() -> None:
    paging = replace(CHAIN, transfers=(10, 20, 30))
    traced = trace(paging, [0, 1, 3, 4, 2, 4])
    assert traced.profile() == [4, 6, 4, 6, 10, 2]
    assert traced.duration() == 6 + (10 + 20 + 20) + (10 + 20)
    with pytest.raises(ValueError, match="fetch s1 at position 1 reads b before it is written"):
        trace(paging, [0, 4, 1, 2])


def test_writing_in_place_takes_the_bytes_of_what_is_read_last() -> None:
    steps = (Step("s0", 1, (), (0,)), Step("s1", 1, (0,), (1,), in_place=((1, 0),)), Step("s2", 1, (1,), (2,)))
    problem = Problem("in place", (Value("a", 4), Value("b", 4), Value("c", 1)), steps)
    assert trace(problem, [0, 1, 2]).profile() == [4, 4, 5]
    later = Problem("read later", problem.values, (*steps[:2], Step("s2", 1, (0, 1), (2,))))
    assert trace(later, [0, 1, 2]).profile() == [4, 8, 9]


def test_a_read_of_what_was_not_written_is_named() -> None:
    with pytest.raises(ValueError, match="s1 at position 0 reads a before it is written"):
        trace(CHAIN, [1, 0, 2])
