"""The normal form of indices keeps values and bounds, and is stable; the oracle is plain integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tensoropt.ir.index import Index, Iterator, Modulo, format_index
from tensoropt.ir.lexer import TokenStream
from tensoropt.ir.scalar_parser import parse_index
from tests.strategies.programs import CASES

Values = dict[Iterator, int]
Formula = tuple[Index, Callable[[Values], int]]
ITERATORS = [Iterator("a", 4), Iterator("b", 6), Iterator("c", 1), Iterator("d", 5)]


def _leaf() -> st.SearchStrategy[Formula]:
    iterators = st.sampled_from(ITERATORS).map(lambda it: (Index.of(it), lambda values: values[it]))
    constants = st.integers(-20, 20).map(lambda value: (Index.of(value), lambda values: value))
    return st.one_of(iterators, constants)


def _grow(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    def binary(left: Formula, right: Formula, subtract: bool) -> Formula:
        sign = -1 if subtract else 1
        index = left[0] - right[0] if subtract else left[0] + right[0]
        return index, lambda values: left[1](values) + sign * right[1](values)

    scaled = st.tuples(inner, st.integers(-6, 6)).map(lambda p: (p[0][0] * p[1], lambda v: p[0][1](v) * p[1]))
    divided = st.tuples(inner, st.integers(1, 8)).map(lambda p: (p[0][0] // p[1], lambda v: p[0][1](v) // p[1]))
    remainder = st.tuples(inner, st.integers(1, 8)).map(lambda p: (p[0][0] % p[1], lambda v: p[0][1](v) % p[1]))
    return st.one_of(st.builds(binary, inner, inner, st.booleans()), scaled, divided, remainder)


FORMULAS = st.recursive(_leaf(), _grow, max_leaves=6)


@settings(max_examples=CASES * 2)
@given(FORMULAS)
def test_values_and_bounds(formula: Formula) -> None:
    index, meaning = formula
    for point in product(*(range(iterator.extent) for iterator in ITERATORS)):
        values = dict(zip(ITERATORS, point, strict=True))
        expected = meaning(values)
        assert index.evaluate(values.__getitem__) == expected
        assert index.low <= expected <= index.high


@settings(max_examples=CASES * 2)
@given(FORMULAS)
def test_the_normal_form_is_stable_and_its_text_reads_back(formula: Formula) -> None:
    index, _ = formula
    others = {iterator: Iterator(iterator.name + "_", iterator.extent) for iterator in ITERATORS}
    there = index.substitute({old: Index.of(new) for old, new in others.items()})
    assert there.substitute({new: Index.of(old) for old, new in others.items()}) is index
    assert parse_index(TokenStream(format_index(index)), {iterator.name: iterator for iterator in ITERATORS}) is index


A, B = Iterator("a", 4), Iterator("b", 6)


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ((Index.of(A) * 6 + B) // 6, "a"),
        ((Index.of(A) * 6 + B) % 6, "b"),
        (Index.of(B) // 2 * 2 + Index.of(B) % 2, "b"),
        (Index.of(B) // 2 // 3, "0"),
        ((Index.of(A) * 6 + B) // 3, "2*a + b//3"),
        (Index.of(A) - A, "0"),
        (-(Index.of(B) // 4), "-(b//4)"),
        (3 - Index.of(A), "-a + 3"),
    ],
)
def test_simplification(index: Index, text: str) -> None:
    assert format_index(index) == text


@pytest.mark.parametrize("divisor", [0, -1])
def test_divisors_are_positive(divisor: int) -> None:
    with pytest.raises(ValueError, match="positive constants"):
        Index.of(A) // divisor
    with pytest.raises(ValueError, match="positive constants"):
        Index.of(A) % divisor


@settings(max_examples=CASES * 2)
@given(st.lists(st.integers(-7, 7), min_size=3, max_size=3), st.integers(-5, 5), st.integers(2, 6))
def test_quotient_and_remainder_of_one_number_join(coefficients: list[int], constant: int, divisor: int) -> None:
    number = Index.of(constant)
    for iterator, coefficient in zip((ITERATORS[0], ITERATORS[1], ITERATORS[3]), coefficients, strict=True):
        number = number + Index.of(iterator) * coefficient
    remainder = number % divisor
    assume([type(atom) for atom, _ in remainder.terms] == [Modulo])  # a range may have made it something simpler
    assert number // divisor * divisor + remainder is number
