"""The packer's plans are valid in the eyes of an independent judge, and never below the lower bound."""

from hypothesis import given
from hypothesis import strategies as st

from passes.plan.packer import ORDERS, _first_fit, pack
from passes.plan.placed import problems
from tensoropt.allocation import Allocation, Buffer, Placement


@st.composite
def buffers(draw: st.DrawFn) -> Allocation:
    count = draw(st.integers(0, 20))
    made = []
    for number in range(count):
        first = draw(st.integers(0, 15))
        made.append(Buffer(f"b{number}", draw(st.integers(0, 5000)), first, first + draw(st.integers(0, 8))))
    return Allocation(tuple(made))


@given(buffers())
def test_plans_are_valid_and_hold_the_live_peak(problem: Allocation) -> None:
    plan = pack(problem, {})
    assert problems(problem, plan) == []
    assert plan.arena_bytes >= problem.live_peak()
    assert plan.peak_bytes == problem.live_peak()


def test_values_that_never_live_together_share_bytes() -> None:
    problem = Allocation((Buffer("a", 1024, 0, 1), Buffer("b", 1024, 2, 3)))
    assert pack(problem, {}).arena_bytes == 1024


def test_the_validator_names_an_overlap_a_missing_offset_and_an_escape() -> None:
    problem = Allocation((Buffer("a", 128, 0, 2), Buffer("b", 128, 1, 3), Buffer("c", 64, 0, 0)))
    found = problems(problem, Placement({"a": 0, "b": 64}, 128, 256))
    assert "c has no offset" in found
    assert "b leaves the arena" in found
    assert "a and b overlap while both are live" in found


def test_the_validator_names_a_misaligned_offset() -> None:
    assert "multiple of 64" in problems(Allocation((Buffer("a", 8, 0, 0),)), Placement({"a": 4}, 64, 8))[0]


def test_what_no_greedy_order_packs_at_the_live_peak_is_searched() -> None:
    sizes = ((3, 0, 0), (5, 0, 1), (2, 1, 1), (4, 0, 2), (6, 2, 2), (1, 1, 3))
    problem = Allocation(tuple(Buffer(f"b{place}", 64 * size, *life) for place, (size, *life) in enumerate(sizes)))
    assert all(_first_fit(problem, order)[1] > problem.live_peak() for order in ORDERS.values())
    plan = pack(problem, {"view": "b0"})
    assert problems(problem, plan) == []
    assert plan.arena_bytes == problem.live_peak()
    assert plan.aliases == {"view": "b0"}
