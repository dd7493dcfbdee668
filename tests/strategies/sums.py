"""Random sums of products, with nested sums in them: what products and distribution are about."""

from __future__ import annotations

from functools import reduce

from hypothesis import strategies as st

from tensoropt.ir.expression import Access, Apply, Constant, Scalar, Scope
from tensoropt.ir.index import Index, Iterator
from tests.strategies.expressions import F32, iterator_lists, tensor


@st.composite
def sums_of_products(draw: st.DrawFn, depth: int = 2) -> Scope:
    """A scope whose body adds, subtracts, multiplies and divides tensors, literals and nested scopes like it.

    Nested scopes are read with offsets, so inside their box and outside it.
    """
    traversal = draw(iterator_lists("xyz", 2, 1))
    reduction = draw(iterator_lists("rst", 2))
    iterators = [*traversal, *reduction]

    def index() -> Index:
        found = Index.of(draw(st.integers(-1, 1)) if draw(st.integers(0, 3)) == 0 else 0)
        for iterator in draw(st.lists(st.sampled_from(iterators), min_size=1, max_size=2, unique=True)):
            found = found + Index.of(iterator)
        return found

    def factor() -> Scalar:
        kind = draw(st.integers(0, 6))
        if kind == 0:
            return Constant(draw(st.sampled_from([0.5, 2.0, -1.0])), F32)
        if kind < 3 and depth:
            inner = draw(sums_of_products(depth - 1))
            return Access(inner, [index() for _ in inner.shape], draw(st.sampled_from([0.0, 0.0, 0.0, 1.0])))
        found = [index() for _ in range(draw(st.integers(1, 2)))]
        shape = [max(1, position.high + draw(st.integers(0, 1))) for position in found]
        name = draw(st.sampled_from("ABK")) + "x".join(map(str, shape))
        return Access(tensor(name, *shape), found)

    def product() -> Scalar:
        factors = [factor() for _ in range(draw(st.integers(1, 3)))]
        if draw(st.integers(0, 4)) == 0:
            factors[0] = Apply(draw(st.sampled_from(["add", "sub"])), factors[0], factor())
        body = reduce(lambda left, right: Apply("mul", left, right), factors)
        return Apply("div", body, Constant(2.0, F32)) if draw(st.integers(0, 5)) == 0 else body

    products = [product() for _ in range(draw(st.sampled_from([1, 1, 2, 3])))]
    body = reduce(lambda left, right: Apply(draw(st.sampled_from(["add", "sub"])), left, right), products)
    return Scope(traversal, body, reduction)


@st.composite
def branches(draw: st.DrawFn) -> list[Scope]:
    """Two or three expressions of one form over the same tensors but one each, whose width along an iterator differs."""
    rows, depth = Iterator("m", draw(st.integers(1, 3))), Iterator("k", draw(st.integers(1, 3)))
    nested = draw(st.booleans())
    found = []
    for place in range(draw(st.integers(2, 3))):
        columns = Iterator("n", draw(st.integers(2, 4)))
        weight = tensor(f"W{place}", depth.extent, columns.extent)
        product = Apply(
            "mul", Access(tensor("X", rows.extent, depth.extent), [rows, depth]), Access(weight, [depth, columns])
        )
        scope = Scope([rows, columns], product, [depth])
        if nested:
            bias = tensor(f"b{place}", columns.extent)
            scope = Scope(
                [rows, columns], Apply("relu", Apply("add", Access(scope, [rows, columns]), Access(bias, [columns])))
            )
        found.append(scope)
    return found
