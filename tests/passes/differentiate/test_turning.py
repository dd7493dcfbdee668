"""Turned accesses against the plain search for the points that read an element."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from passes.differentiate.certificate import NotConverse, require_converse
from passes.differentiate.turning import Turned, turned
from tensoropt.ir.index import Index, Iterator

_NAMES = "abc"


@st.composite
def accesses(draw: st.DrawFn) -> tuple[list[Index], list[int], list[Iterator]]:
    """Quasi-affine indices over a small box, and the extents that they read, which may be left on both sides."""
    box = [Iterator(name, draw(st.integers(1, 5))) for name in _NAMES[: draw(st.integers(1, 3))]]

    def affine() -> Index:
        total = Index.of(draw(st.integers(-2, 3)))
        for iterator in box:
            total = total + Index.of(iterator) * draw(st.integers(-3, 4))
        return total

    def index() -> Index:
        match draw(st.integers(0, 4)):
            case 0:
                return affine() // draw(st.integers(2, 4))
            case 1:
                return affine() % draw(st.integers(2, 4))
            case 2:
                return affine() // draw(st.integers(2, 3)) + affine() % draw(st.integers(2, 3))
            case _:
                return affine()

    indices = [index() for _ in range(draw(st.integers(0, 3)))]
    shape = [draw(st.integers(1, 8)) for _ in indices]
    return indices, shape, box


def points(iterators: list[Iterator]) -> list[dict[Iterator, int]]:
    return [dict(zip(iterators, found, strict=True)) for found in product(*(range(one.extent) for one in iterators))]


def readers(turn: Turned, element: dict[Iterator, int], box: list[Iterator]) -> list[tuple[int, ...]]:
    """The points that the turned access finds at an element."""
    found = []
    for rest in points(list(turn.rest)):
        place = {**element, **rest}
        guards = (*turn.ranges.values(), *turn.guards)
        if all(guard.low <= guard.index.evaluate(place.__getitem__) < guard.high for guard in guards):
            found.append(tuple(turn.points[one].evaluate(place.__getitem__) for one in box))
    return found


@given(accesses())
def test_every_element_is_read_by_exactly_the_points_that_are_found(
    case: tuple[list[Index], list[int], list[Iterator]],
) -> None:
    indices, shape, box = case
    turn = turned(indices, shape, box)
    assume(prod(one.extent for one in (*turn.elements, *turn.rest)) < 20_000)
    require_converse(turn, indices, box)
    readers_of: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for place in points(box):
        read = tuple(index.evaluate(place.__getitem__) for index in indices)
        readers_of.setdefault(read, []).append(tuple(place[one] for one in box))
    for element in points(list(turn.elements)):
        expected = readers_of.get(tuple(element[one] for one in turn.elements), [])
        assert sorted(readers(turn, element, box)) == sorted(expected)


@pytest.mark.parametrize(("stride", "dilation", "terms"), [(1, 1, 3), (2, 1, 2), (3, 1, 1), (2, 2, 3), (3, 2, 1)])
def test_a_window_has_as_few_terms_as_its_stride_allows(stride: int, dilation: int, terms: int) -> None:
    place, tap = Iterator("y", 50), Iterator("r", 3)
    turn = turned([Index.of(place) * stride + Index.of(tap) * dilation - 1], [49 * stride + 1], [place, tap])
    assert prod(one.extent for one in turn.rest) == terms


def test_a_reshape_is_turned_to_a_reshape() -> None:
    row, column = Iterator("i", 6), Iterator("j", 10)
    position = Index.of(row) * 10 + column
    turn = turned([position // 15, position // 5 % 3, position % 5], [4, 3, 5], [row, column])
    assert not turn.rest
    assert not turn.guards
    assert not turn.ranges


def test_a_wrong_answer_is_not_certified() -> None:
    place, tap = Iterator("y", 9), Iterator("r", 3)
    indices = [Index.of(place) * 2 + tap]
    turn = turned(indices, [19], [place, tap])
    shifted = {**turn.points, place: turn.points[place] + 1}
    with pytest.raises(NotConverse):
        require_converse(
            Turned(turn.elements, turn.rest, shifted, turn.ranges, turn.guards, turn.converse), indices, [place, tap]
        )
    with pytest.raises(NotConverse):
        require_converse(
            Turned(turn.elements, turn.rest, turn.points, {}, turn.guards, turn.converse), indices, [place, tap]
        )
