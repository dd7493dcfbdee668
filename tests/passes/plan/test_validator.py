"""The judge names every defect, and agrees with the definition of a sequence about what is none."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from passes.plan.layout import buffers_of, plan_of
from passes.plan.packer import pack
from passes.plan.trace import trace
from passes.plan.validator import problems as defects
from tensoropt.plan_types import Plan, Problem, Step, Value
from tests.passes.plan.problems import problems

CHAIN = Problem(
    "chain",
    (Value("a", 64), Value("b", 64, True), Value("c", 64)),
    (Step("s0", 1, (), (0,)), Step("s1", 2, (0,), (1,), recomputable=False), Step("s2", 3, (0, 1), (2,))),
    alignment=64,
)
VALID = Plan((0, 1, 2), ((0,), (64,), (128,)), (0, 0, 0), 192, 192, 6)


SCRATCH = Problem("scratch", (Value("a", 4),), (Step("s9", 1, (), (0,), workspace=8),))
SCRATCHED = Plan((0,), ((0,),), (4,), 12, 12, 1)


def planned(problem: Problem, sequence: tuple[int, ...]) -> Plan:
    traced = trace(problem, sequence)
    allocation, names = buffers_of(traced)
    return plan_of(traced, pack(allocation), names)


@given(problems(paging=True), st.data())
def test_packed_sequences_are_valid(problem: Problem, data: st.DataObject) -> None:
    sequence = list(range(len(problem.steps)))
    for step in data.draw(st.lists(st.sampled_from(sequence), max_size=4)):
        fetch = step + len(problem.steps)
        action = fetch if data.draw(st.booleans()) and problem.transfers else step
        if problem.steps[step].recomputable or action == fetch:
            sequence.insert(data.draw(st.integers(sequence.index(step) + 1, len(sequence))), action)
    plan = planned(problem, tuple(sequence))
    assert defects(problem, plan, plan.arena_bytes, "packed", "input") == []
    assert defects(problem, plan, plan.peak_bytes, "live", "input") == []
    if plan.arena_bytes:
        assert "more than the budget" in defects(problem, plan, plan.arena_bytes - 1)[0]


def test_every_defect_has_its_reason() -> None:
    def found(**changes: object) -> str:
        return "; ".join(defects(CHAIN, replace(VALID, **changes), order="input"))  # type: ignore[arg-type]

    assert found() == ""
    assert "s2 is never run" in found(
        sequence=(0, 1), offsets=((0,), (64,)), workspaces=(0, 0), peak_bytes=128, duration=3
    )
    assert "not in the order of the input" in found(sequence=(0, 2, 1))
    assert "b before it is written" in found(sequence=(0, 2, 1))
    assert "s1 is run again" in found(sequence=(0, 1, 1, 2), offsets=((0,), (64,), (128,), (192,)), workspaces=(0,) * 4)
    assert "a of position 0 and b of position 1 overlap" in found(offsets=((0,), (0,), (128,)))
    assert "b of position 1 and c of position 2 overlap" in found(offsets=((0,), (64,), (64,)))
    assert "c of position 2 leaves the arena" in found(offsets=((0,), (64,), (192,)))
    assert "not a multiple of 64" in found(offsets=((0,), (64,), (130,)), arena_bytes=256)
    assert "the peak is 192 bytes" in found(peak_bytes=191)
    assert "duration" in found(duration=5)
    assert "workspace of s9" in "; ".join(defects(SCRATCH, replace(SCRATCHED, workspaces=(0,))))
    assert "workspace of s9" in "; ".join(defects(SCRATCH, replace(SCRATCHED, workspaces=(8,))))
    assert defects(SCRATCH, SCRATCHED) == []
    assert "2 entries of offsets" in found(offsets=((0,), (64,)))
    assert "one of 3" in found(sequence=(0, 1, 3))


def test_fetches_are_counted_and_come_after_what_they_fetch() -> None:
    paging = replace(CHAIN, transfers=(5, 7, 9))
    fetched = Plan((0, 1, 3, 2), ((0,), (64,), (0,), (128,)), (0,) * 4, 192, 192, 6 + 2 * 5)
    assert defects(paging, fetched, order="input") == []
    assert "copies' to the host" in defects(paging, replace(fetched, duration=11))[0]
    assert "is never run" in defects(paging, replace(fetched, sequence=(0, 1, 3, 5)))[0]
    early = Plan((0, 4, 1, 2), ((0,), (64,), (64,), (128,)), (0,) * 4, 192, 192, 6 + 2 * 7)
    assert "before there is anything to fetch" in defects(paging, early)[0]
    assert "s1 is run again" in defects(paging, replace(fetched, sequence=(0, 1, 1, 2)))[0]


def test_a_buffer_that_is_taken_over_lies_where_it_lay() -> None:
    steps = (Step("s0", 1, (), (0,)), Step("s1", 1, (0,), (1,), in_place=((1, 0),)))
    problem = Problem("in place", (Value("a", 4), Value("b", 4)), steps)
    assert defects(problem, Plan((0, 1), ((0,), (0,)), (0, 0), 4, 4, 2)) == []
    assert "overlap" in defects(problem, Plan((0, 1), ((0,), (2,)), (0, 0), 4, 6, 2))[0]
