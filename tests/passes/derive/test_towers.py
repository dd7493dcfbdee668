"""Windows are recognised by their indices, and each move keeps the value of a tower."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.derive.candidate import SearchReport
from passes.derive.certify.comparison import difference
from passes.derive.towers import Tower, after, moves, stride_of, windows
from tensoropt.ir.exact import choose_domain
from tensoropt.ir.expression import Access, Reducer, Scope, Tensor, reducer_identity, tensors
from tensoropt.ir.index import Index, Iterator
from tests.strategies.expressions import F32, tensor

X, Y, R, S = Iterator("x", 6), Iterator("y", 5), Iterator("r", 3), Iterator("s", 2)


def fold(*indices: Index, reducer: Reducer = Reducer.MAX, reduction: tuple[Iterator, ...] = (R, S)) -> Scope:
    shape = [index.high + 1 for index in indices]
    read = Access(tensor("A", *shape), indices, reducer_identity(reducer, F32))
    return Scope((Y, X), read, reduction, reducer)


def test_taps_beside_a_traversal_are_windows() -> None:
    row, column = Index.of(Y) * 2 + R, Index.of(X) + Index.of(S) * 2
    assert windows(fold(row, column)) == [(R, 1, ((Y, 2),)), (S, 2, ((X, 1),))]


@pytest.mark.parametrize(
    "index",
    [Index.of(Y) * 3 + R, Index.of(R), Index.of(Y) + R + S, (Index.of(Y) + R) // 2],
    ids=["patches", "a plane", "two taps", "a quotient"],
)
def test_other_indices_are_no_windows(index: Index) -> None:
    assert windows(fold(index, Index.of(X) * 2 + S)) == []


def test_small_strides_are_read_through_views() -> None:
    scope = fold(Index.of(Y) * 2 + R, Index.of(X) + S)
    assert stride_of(scope, Index.of(Y) * 2 + R) == 2
    assert stride_of(scope, Index.of(Y) * 64 + R) is None
    assert stride_of(scope, Index.of(X) + S) is None
    assert stride_of(scope, Index.of(R) * 2) is None


def test_levels_become_statements_from_the_inside() -> None:
    start = Tower(fold(Index.of(Y) + R, Index.of(X) + S, reducer=Reducer.SUM))
    (nested, *_) = [found for move in moves(start) if (found := after(start, move, (), SearchReport())) is not None]
    output = Tensor("O", nested.root.type)
    inner, outer = nested.statements(output)
    assert [path for path, _ in nested.levels()] == [(), (0,)]
    assert outer.output is output
    assert tensors(outer.expression) == (inner.output,)


def test_an_excluded_rule_ends_a_move() -> None:
    start = Tower(fold(Index.of(Y) + R, Index.of(X) + S))
    assert all(after(start, move, {"stage", "tighten"}, SearchReport()) is None for move in moves(start))


@settings(max_examples=25)
@given(
    st.data(),
    st.sampled_from(list(Reducer)),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(2, 7),
    st.integers(0, 2),
)
def test_every_move_keeps_the_value(
    data: st.DataObject, reducer: Reducer, stride: int, dilation: int, taps: int, padding: int
) -> None:
    r = Iterator("r", taps)
    index = Index.of(X) * stride + Index.of(r) * dilation - padding
    identity = reducer_identity(reducer, F32)
    size = max(1, index.high + 1 - padding)
    read = Access(tensor("A", size, 4), [index, Index.of(Y) + S - 1], identity)
    tower = Tower(Scope((Y, X), read, (r, S), reducer))
    for _ in range(3):
        options = list(moves(tower))
        if not options:
            return
        following = after(tower, data.draw(st.sampled_from(options)), (), SearchReport())
        if following is not None:
            domain = choose_domain([tower.root, following.root])
            assert difference(tower.root, following.root, domain, 3) is None
            tower = following
