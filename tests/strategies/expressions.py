"""Random small expressions: strides, dilations, negative steps, divisions, outside values, nested scopes, every reducer."""

from __future__ import annotations

import math
from functools import reduce

from hypothesis import strategies as st

from tensoropt.ir.expression import Access, Apply, Constant, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType, Extent, TensorType

F32 = DataType.FLOAT32
_STEPS = st.sampled_from([1, 1, 1, 1, 2, 2, 3, -1, -1, -2])


def tensor(name: str, *shape: int) -> Tensor:
    """An f32 tensor."""
    return Tensor(name, TensorType(F32, tuple(Extent(extent) for extent in shape)))


@st.composite
def iterator_lists(draw: st.DrawFn, names: str, most: int, least: int = 0) -> list[Iterator]:
    """Iterators of small extents, some of one element."""
    count = draw(st.integers(least, most))
    return [Iterator(names[place], draw(st.sampled_from([1, 2, 3, 3, 4, 5]))) for place in range(count)]


@st.composite
def indices(draw: st.DrawFn, iterators: list[Iterator], divisions: bool = True) -> Index:
    """A quasi-affine index of up to three iterators."""
    chosen = draw(st.lists(st.sampled_from(iterators), max_size=3, unique=True)) if iterators else []
    index = Index.of(draw(st.integers(-3, 3)))
    for iterator in chosen:
        index = index + Index.of(iterator) * draw(_STEPS)
    if divisions and draw(st.integers(0, 5)) == 0:
        divisor = draw(st.integers(2, 3))
        index = index // divisor if draw(st.booleans()) else index % divisor
    return index


@st.composite
def tensor_accesses(draw: st.DrawFn, iterators: list[Iterator], name: str, fills: st.SearchStrategy[float]) -> Access:
    """A read of a tensor whose box the indices may leave."""
    found = [draw(indices(iterators)) for _ in range(draw(st.integers(1, 3)))]
    shape = []
    for index in found:
        span = max(1, index.high + 1)
        shape.append(draw(st.sampled_from([span, span, max(1, span - 1), 3, 5])) if span < 12 else 5)
    source = tensor(f"{name}{'x'.join(map(str, shape))}", *shape)
    return Access(source, found, draw(fills))


_FILLS = st.sampled_from([0.0, 0.0, 0.0, 1.0, -2.0])


@st.composite
def closed_scopes(draw: st.DrawFn, depth: int = 1, reducers: st.SearchStrategy[Reducer] | None = None) -> Scope:
    """A scope that may read another one."""
    traversal = draw(iterator_lists("xyz", 3))
    reduction = draw(iterator_lists("rst", 3))
    reducer = draw(reducers or st.sampled_from([Reducer.SUM] * 4 + [Reducer.MAX, Reducer.MIN, Reducer.PROD]))
    iterators = [*traversal, *reduction]
    fills = _FILLS
    if reducer is Reducer.MAX:
        fills = st.sampled_from([-math.inf, -math.inf, 0.0])
    elif reducer is Reducer.MIN:
        fills = st.sampled_from([math.inf, math.inf, 0.0])
    elif reducer is Reducer.PROD:
        fills = st.sampled_from([1.0, 1.0, 0.0])

    def factor(name: str) -> Access:
        if depth and draw(st.integers(0, 3)) == 0:
            inner = draw(closed_scopes(depth - 1, reducers))
            return Access(inner, [draw(indices(iterators)) for _ in inner.shape], draw(fills))
        return draw(tensor_accesses(iterators, name, fills))

    def product() -> Scalar:
        count = 1 if reducer is not Reducer.SUM else draw(st.sampled_from([1, 2, 2, 2, 3]))
        factors: list[Scalar] = [factor(name) for name in "ABC"[:count]]
        return reduce(lambda left, right: Apply("mul", left, right), factors)

    body = product()
    match draw(st.integers(0, 9)):
        case 0:
            body = Apply("add", body, product())
        case 1:
            body = Apply("neg", body)
        case 2 if reducer is Reducer.SUM:
            body = Apply("mul", body, Constant(0.5, F32))
    return Scope(traversal, body, reduction, reducer)


@st.composite
def contractions(draw: st.DrawFn) -> Scope:
    """Sums of products of two tensors that read 0 outside: what the derivation search works on."""
    traversal = draw(iterator_lists("xyz", 3, 1))
    reduction = draw(iterator_lists("rst", 3, 1))
    iterators = [*traversal, *reduction]

    def factor(name: str) -> Access:
        found: list[Index] = []
        for iterator in draw(st.lists(st.sampled_from(iterators), min_size=1, max_size=3, unique=True)):
            index = Index.of(iterator) * draw(st.sampled_from([1, 1, 2])) + draw(st.integers(-2, 2))
            if draw(st.booleans()):
                index = index + Index.of(draw(st.sampled_from(iterators))) * draw(_STEPS)
            found.append(index)
        shape = [draw(st.sampled_from([3, 4, 5, max(1, index.high + 1)])) for index in found]
        return Access(tensor(f"{name}{'x'.join(map(str, shape))}", *shape), found)

    return Scope(traversal, Apply("mul", factor("A"), factor("K")), reduction)


@st.composite
def escaping_reads(draw: st.DrawFn) -> tuple[Scope, int]:
    """``Σ<r> core[x + p − S·r]`` beyond the core's box, and a factor to split the core by.

    The core is part of a longer kernel, so beyond its box its body need not be 0 where the reads find 0. Split by a factor that
    does not divide it, it has points there. This aims at the guard of merges in the middle of a chain.
    """
    taps, stride = draw(st.integers(3, 5)), draw(st.integers(1, 3))
    images, padding, shift = draw(st.integers(2, 4)), draw(st.integers(0, 2)), draw(st.integers(0, 2))
    u, c = Iterator("u", taps), Iterator("c", 2)
    kernel = Access(tensor("K", 2, taps + draw(st.integers(0, 4))), [c, Index.of(u) + shift])
    core = Scope((u,), Apply("mul", Access(tensor("A", 2), [c]), kernel), (c,))
    x, r = Iterator("x", draw(st.integers(3, 9))), Iterator("r", images)
    root = Scope((x,), Access(core, [Index.of(x) + padding - Index.of(r) * stride]), (r,))
    return root, draw(st.integers(2, taps - 1))


@st.composite
def adjoint_windows(draw: st.DrawFn) -> tuple[Scope, int, int]:
    """``Σ<c, r> A[c, r]·K[c, x + p − S·r]``, its stride and a factor to split the window by."""
    taps, stride = draw(st.integers(3, 5)), draw(st.integers(1, 3))
    images, padding = draw(st.integers(2, 4)), draw(st.integers(0, 2))
    x, r, c = Iterator("x", draw(st.integers(3, 9))), Iterator("r", images), Iterator("c", 2)
    kernel = Access(tensor("K", 2, taps), [c, Index.of(x) + padding - Index.of(r) * stride])
    scope = Scope((x,), Apply("mul", Access(tensor("A", 2, images), [c, r]), kernel), (c, r))
    return scope, stride, draw(st.integers(2, taps - 1))
