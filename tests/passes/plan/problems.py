"""Random problems of planning, small enough to search exhaustively, and what a test needs to know of all their sequences."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

from hypothesis import strategies as st

from passes.plan.trace import trace
from tensoropt.plan_types import Problem, Step, Value

HUGE = 2**80
"""No signed 64-bit integer holds a multiple of it."""

SIZES = st.integers(0, 9)


@st.composite
def problems(
    draw: st.DrawFn, most: int = 7, sizes: st.SearchStrategy[int] = SIZES, fewest: int = 1, paging: bool = False
) -> Problem:
    """Up to ``most`` steps: several values of a step or none, kept values, workspace, in-place pairs, steps to run once only.

    With ``paging`` most of them have transfer times.

    Sizes and durations may be zero. Reads are drawn among all earlier values, so that graphs may fall into parts.
    """
    values: list[Value] = []
    steps: list[Step] = []
    mirrored = draw(st.booleans())
    count_of_steps = draw(st.one_of(st.just(most), st.integers(fewest, most)))
    for number in range(count_of_steps):
        reads: tuple[int, ...] = ()
        if values:
            # The nearest values come first, since long chains are what recomputation is about.
            back = draw(
                st.lists(st.integers(1, len(values)), min_size=draw(st.integers(0, 1)), max_size=3, unique=True)
            )
            reads = tuple(len(values) - distance for distance in back)
            if mirrored:
                # Forwards and backwards, as in training: the step before, and the one that is mirrored.
                reads = tuple(dict.fromkeys([len(values) - 1, max(0, min(count_of_steps - number, len(values) - 1))]))
        count = draw(st.sampled_from([1, 1, 1, 1, 2, 3, 0]))
        writes = tuple(range(len(values), len(values) + count))
        in_place: list[tuple[int, int]] = []
        for value in writes:
            size = draw(sizes)
            if reads and draw(st.integers(0, 3)) < count - (count < 3):
                source = draw(st.sampled_from(reads))
                size = values[source].bytes
                in_place.append((value, source))
            values.append(Value(f"v{value}", size, draw(st.integers(0, 7)) == 0))
        workspace = draw(st.sampled_from([0, 0, 0, 1, 3]))
        recomputable = draw(st.integers(0, 6)) != 0
        steps.append(Step(f"s{number}", draw(SIZES), reads, writes, workspace, recomputable, tuple(in_place)))
    transfers: tuple[int, ...] = ()
    if paging and draw(st.integers(0, 4)):
        transfers = tuple(draw(SIZES) for _ in steps)
    return Problem("random", tuple(values), tuple(steps), transfers=transfers).check()


@st.composite
def budgeted(draw: st.DrawFn, most: int = 7, fewest: int = 1, paging: bool = False) -> tuple[Problem, int]:
    """A problem with a budget about what some plan needs, often one that recomputes; sometimes less than what any needs."""
    problem = draw(problems(most, fewest=fewest, paging=paging))
    plain = trace(problem, range(len(problem.steps))).peak()
    dropped = [
        frozenset(draw(st.sets(st.sampled_from(range(len(problem.values)))))) for _ in range(4 * bool(problem.values))
    ]
    peaks = [trace(problem, recomputing(problem, values)).peak() for values in dropped]
    lowest = min([plain, *peaks])
    return problem, draw(st.one_of(st.just(lowest), st.integers(lowest, plain), st.integers(lowest // 2, lowest)))


def recomputing(problem: Problem, dropped: Collection[int]) -> list[int]:
    """The input order, in which these values are recomputed before each read, and what they are made of before that."""
    found: list[int] = []

    def make(value: int) -> None:
        number = problem.writer[value]
        if value in dropped and problem.transfers and value % 2:
            found.append(len(problem.steps) + number)
        elif value in dropped and problem.steps[number].recomputable:
            for source in problem.steps[number].reads:
                make(source)
            found.append(number)

    for number, step in enumerate(problem.steps):
        for value in step.reads:
            make(value)
        found.append(number)
    for value, one in enumerate(problem.values):
        if one.kept:
            make(value)
    return found


def magnified(problem: Problem, factor: int) -> Problem:
    """Every size and every duration times ``factor``, and a little more for each other one, so that no divisor is common."""
    return Problem(
        problem.name,
        tuple(Value(value.name, value.bytes * factor, value.kept) for value in problem.values),
        tuple(
            Step(
                step.name,
                step.duration * factor + number % 2,
                step.reads,
                step.writes,
                step.workspace * factor + number % 2,
                step.recomputable,
                step.in_place,
            )
            for number, step in enumerate(problem.steps)
        ),
        transfers=tuple(transfer * factor + number % 2 for number, transfer in enumerate(problem.transfers)),
    ).check()


def sequences(problem: Problem, length: int) -> Iterator[tuple[int, ...]]:
    """Every sequence of at most ``length`` positions that a plan may have, whatever its memory."""
    numbers = set(range(len(problem.steps)))
    for extra in range(length - len(problem.steps) + 1):
        for sequence in itertools.product(range(len(problem.actions)), repeat=len(problem.steps) + extra):
            if numbers <= set(sequence) and may_be_run(problem, sequence):
                yield sequence


def may_be_run(problem: Problem, sequence: Sequence[int]) -> bool:
    """Whether every value is written before it is read, and no step again that must not be."""
    there: set[int] = set()
    seen: set[int] = set()
    for number in sequence:
        step = problem.actions[number]
        if not there.issuperset(step.reads) or (number in seen and not step.recomputable):
            return False
        if number >= len(problem.steps) and number - len(problem.steps) not in seen:
            return False
        there.update(step.writes)
        seen.add(number)
    return True


def keeps_input_order(problem: Problem, sequence: Sequence[int]) -> bool:
    """Whether the steps' first occurrences ascend."""
    first = list(dict.fromkeys(action for action in sequence if action < len(problem.steps)))
    return first == sorted(first)


def there_and_back(length: int) -> Problem:
    """A chain and its way back, each step of which reads the step that it mirrors."""
    values = tuple(Value(f"v{number}", 1) for number in range(2 * length))
    forward = [Step(f"f{number}", 1, (number - 1,) if number else (), (number,)) for number in range(length)]
    back = [
        Step(f"b{number}", 1, (number - 1, 2 * length - 1 - number), (number,)) for number in range(length, 2 * length)
    ]
    return Problem("there and back", values, (*forward, *back)).check()


def mirrored(layers: int) -> Problem:
    """A training step in the small: forwards, and backwards with what was written forwards."""
    steps = [Step(f"f{layer}", 2 + layer % 3, (layer - 1,) if layer else (), (layer,)) for layer in range(layers)]
    for layer in range(layers, 2 * layers):
        steps.append(Step(f"b{layer}", 4, (layer - 1, 2 * layers - layer - 1), (layer,)))
    return Problem("mirrored", tuple(Value(f"v{value}", 8) for value in range(2 * layers)), tuple(steps)).check()
