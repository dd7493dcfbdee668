"""The packer's plans are valid in the eyes of an independent judge, and never below the lower bound."""

from hypothesis import given
from hypothesis import strategies as st

from passes.plan.packer import ORDERS, _first_fit, pack
from passes.plan.placed import problems
from tensoropt.allocation import Allocation, Buffer, Placement, Span


@st.composite
def buffers(draw: st.DrawFn) -> Allocation:
    count = draw(st.integers(0, 20))
    made = []
    for number in range(count):
        first = draw(st.integers(0, 15))
        last = first + draw(st.integers(0, 8))
        sizes = draw(st.lists(st.integers(0, 5000), min_size=1, max_size=3))
        spans = [
            Span(sum(sizes[:place]), size, first if not place else draw(st.integers(first, last)), last)
            for place, size in enumerate(sizes)
        ]
        made.append(Buffer(f"b{number}", sum(sizes), first, last, tuple(spans) if len(spans) > 1 else ()))
    return Allocation(tuple(made))


@given(buffers())
def test_plans_are_valid_and_hold_the_live_peak(problem: Allocation) -> None:
    plan = pack(problem)
    assert problems(problem, plan) == []
    assert plan.arena_bytes >= problem.live_peak()
    assert plan.peak_bytes == problem.live_peak()


def test_values_that_never_live_together_share_bytes() -> None:
    problem = Allocation((Buffer("a", 1024, 0, 1), Buffer("b", 1024, 2, 3)))
    assert pack(problem).arena_bytes == 1024


def test_what_of_a_whole_is_not_yet_written_holds_others() -> None:
    whole = Buffer("whole", 2048, 0, 4, (Span(0, 1024, 0, 4), Span(1024, 1024, 3, 4)))
    problem = Allocation((whole, Buffer("early", 1024, 0, 2)))
    plan = pack(problem)
    assert plan.arena_bytes == plan.peak_bytes == 2048
    assert plan.offsets == {"whole": 0, "early": 1024}
    late = Allocation((whole, Buffer("late", 1024, 0, 3)))
    assert pack(late).arena_bytes == 3072
    assert problems(late, Placement({"whole": 0, "late": 1024}, 3072, 3072))


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
    problem = Allocation(
        tuple(Buffer(f"b{place}", 64 * size, first, last) for place, (size, first, last) in enumerate(sizes))
    )
    assert all(_first_fit(problem, order)[1] > problem.live_peak() for order in ORDERS.values())
    plan = pack(problem)
    assert problems(problem, plan) == []
    assert plan.arena_bytes == problem.live_peak()
