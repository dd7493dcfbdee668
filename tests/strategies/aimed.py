"""Expressions and sites aimed at side conditions that plain random ones hardly reach, by the rule whose condition it is.

A generator gives an expression, and where the site matters the site. ``aims_at`` registers it for rules by name; those of
``support`` serve every rule that asks where a body vanishes.
"""

from __future__ import annotations

from collections.abc import Callable

from tensoropt.ir.expression import Access, Apply, Cast, Constant, Reducer, Scalar, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Site
from tests.strategies.random_scopes import F32, F64, I64, Maker, tensor

Case = tuple[Scope, Site | None]
Generator = Callable[[Maker], Case]

AIMED: dict[str, list[Generator]] = {}


def aims_at(*rules: str) -> Callable[[Generator], Generator]:
    """Registers a generator for rules."""

    def register(generator: Generator) -> Generator:
        for rule in rules:
            AIMED.setdefault(rule, []).append(generator)
        return generator

    return register


VANISHING = ("tighten", "relax_reduction", "skew_reduction", "split_reduction", "compact_window")
"""Rules that ask where a body vanishes, of a scope on its own."""


def _factor(maker: Maker, iterators: list[Iterator], name: str) -> Scalar:
    """A read of a short axis that leaves it, under what keeps a 0 or does not, with fills that are 0 or not."""
    index = Index.of(maker.pick(iterators)) * maker.pick((1, 1, -1, 2)) + maker.random.randint(-3, 4)
    if maker.chance(2):
        index = index + Index.of(maker.pick(iterators)) * maker.pick((1, -1, 2, -2))
    match maker.random.randrange(4):
        case 0:
            index = index // maker.random.randint(2, 3) * maker.pick((1, 1, -1, 2)) + maker.random.randint(-3, 3)
        case 1:
            index = index % 4 + Index.of(maker.pick(iterators)) * maker.pick((1, -1)) - maker.random.randint(0, 3)
        case _:
            pass
    read: Scalar = Access(tensor(name, [maker.random.randint(1, 3)]), [index], maker.pick((0.0, 0.0, 0.0, 1.0)))
    match maker.random.randrange(10):
        case 0:
            return Apply("neg", read)
        case 1:
            return Apply("relu", read)
        case 2:
            return Apply("add", read, Constant(1.0, F32))
        case 3:
            return Apply("exp", read)
        case 4:
            return Cast(Access(tensor(name, [2], F64), [index], maker.pick((0.0, 1.0))), F32)
        case _:
            return read


@aims_at(*VANISHING)
def vanishing(maker: Maker) -> Case:
    """Products, sums and bare reads of short axes, under every reducer."""
    traversal, reduction = maker.iterators("xy", 2, 1), maker.iterators("rst", 3)
    iterators = [*traversal, *reduction]
    reducer = maker.pick((Reducer.SUM, Reducer.SUM, Reducer.SUM, Reducer.MAX, Reducer.MIN, Reducer.PROD))
    if reducer is Reducer.SUM or maker.chance(3):
        body = maker.product([_factor(maker, iterators, name) for name in "ABC"[: maker.random.randint(1, 3)]])
        if maker.chance(6):
            body = Apply("add", body, _factor(maker, iterators, "D"))
    else:
        fill = maker.pick((float("-inf"), float("inf"), 1.0, 0.0))
        index = Index.of(maker.pick(iterators)) + maker.random.randint(-2, 2)
        body = Access(tensor("A", [maker.random.randint(1, 3)]), [index], fill)
    return Scope(traversal, body, reduction, reducer), None


@aims_at("merge", "flatten_product")
def nested(maker: Maker) -> Case:
    """A nested scope read beyond its box, alone or beside others; folded alike or differently."""
    x, y = maker.iterators("xy", 2, 1), maker.iterators("rs", 1)
    z, s = maker.iterators("uv", 2, 1), maker.iterators("pq", 1)
    reducers = (*[Reducer.SUM] * 4, Reducer.MAX, Reducer.PROD)
    inner_factors = [_factor(maker, [*z, *s], name) for name in "AB"[: maker.random.randint(1, 2)]]
    inner = Scope(z, maker.product(inner_factors), s, maker.pick(reducers))
    indices = [
        Index.of(maker.pick([*x, *y])) * maker.pick((1, 1, -1, 2)) + maker.random.randint(-2, 2) for _ in inner.shape
    ]
    if maker.chance(2):
        indices = [index + maker.pick([*x, *y]) for index in indices]
    read = Access(inner, indices, maker.pick((0.0, 0.0, 0.0, 1.0)))
    body: Scalar = read
    match maker.random.randrange(5):
        case 0 | 1:
            factors: list[Scalar] = [read, maker.read([*x, *y], "K")]
            maker.random.shuffle(factors)
            body = maker.product(factors)
        case 2:
            body = Apply("add", read, maker.read([*x, *y], "K"))
        case _:
            pass
    return Scope(x, body, y, maker.pick(reducers)), None


@aims_at("tighten")
def divided(maker: Maker) -> Case:
    """One read of a short axis at ``±s·(x//k) + c``, which several x meet."""
    x = Iterator("x", maker.random.randint(4, 9))
    index = (Index.of(x) + maker.random.randint(0, 2)) // maker.pick((2, 3)) * maker.pick((-1, -1, 2, 2, 3, 1))
    read = Access(tensor("A", [maker.random.randint(1, 4)]), [index + maker.random.randint(-4, 4)])
    return Scope((x,), read), Site()


@aims_at("merge")
def folded_outside(maker: Maker) -> Case:
    """A fold of a read that gives the same number outside as the read of the fold does: folded it is another number."""
    u, p, x = Iterator("u", 3), Iterator("p", 2), Iterator("x", 6)
    fill = maker.pick((1.0, 2.0))
    inner = Scope((u,), Access(tensor("A", [3, 2]), [u, p], fill), (p,), maker.pick((Reducer.SUM, Reducer.PROD)))
    return Scope((x,), Access(inner, [Index.of(x) - 1], fill)), Site.of(access=0)


@aims_at("scale_source")
def repeated_factor(maker: Maker) -> Case:
    """A factor named twice."""
    x, r = Iterator("x", 3), Iterator("r", 4)
    factors: list[Scalar] = [maker.plain_read([x, r], "A"), maker.plain_read([r], "B"), maker.plain_read([x], "C")]
    return Scope((x,), maker.product(factors), (r,)), Site.of(
        term=0, source=0, factors=maker.pick(((1, 1), (1, 2), (2, 2)))
    )


@aims_at("divide_by_reciprocal", "divide_after")
def truncated_quotients(maker: Maker) -> Case:
    """Quotients of integers."""
    x, r = Iterator("x", 3), Iterator("r", 4)
    above, below = maker.plain_read([x, r], "F", I64), maker.plain_read([x], "G", I64)
    factors: list[Scalar] = [Apply("div", above, below), maker.plain_read([r], "H", I64)]
    return Scope((x,), maker.product(factors), (r,)), None


@aims_at("concatenate")
def beside(maker: Maker) -> Case:
    """Tensors put beside one that is longer than its iterator, beside a nested scope, with widths that do not fit."""
    n, k = Iterator("n", 3), Iterator("k", 2)
    width = n.extent + maker.pick((0, 0, 1, 2))
    weights = Access(tensor("W", [width, 2]), [n, k], maker.pick((0.0, 0.0, 1.0)))
    read = Access(Scope((n, k), weights), [n, k]) if maker.chance(6) else weights
    body = Apply("mul", read, maker.plain_read([k], "X")) if not maker.chance(4) else maker.plain_read([k], "X")
    before, after = maker.pick((0, 1, 2, -1)), maker.pick((0, 1, 2, -1))
    ahead = (("V", max(0, before + maker.pick((0, 0, 1)))),) if before > 0 else ()
    behind = (("U", max(0, after + maker.pick((0, 0, 1)))),) if after > 0 else ()
    parts = ((maker.pick((0, 0, 0, 7)), ahead, behind),) if not maker.chance(4) else ()
    return Scope((n,), body, (k,)), Site.of(iterator="n", before=before, after=after, parts=parts)


@aims_at("shift_to_maximum")
def hardly_softmax(maker: Maker) -> Case:
    """An exponential and a sum of exponentials that make no softmax: another operation, another numerator, another summand."""
    x, j, own, k, r = (Iterator(name, extent) for name, extent in (("x", 2), ("j", 3), ("x1", 2), ("k", 3), ("r", 2)))
    read, summed = maker.plain_read([x, j], "A"), maker.plain_read([own, k], "A")
    shift, summed_shift = maker.plain_read([x], "B"), maker.plain_read([own], "B")
    other = maker.random.randrange(5)
    function = "tanh" if other == 1 else "exp"
    inner = "tanh" if other in (2, 1) else "exp"
    total = Scope((own,), Apply(inner, Apply("sub", summed, summed_shift)), (k,))
    below = Access(total, [x])
    above: Scalar = Apply(function, Apply("sub", read, shift))
    body = Apply("mul" if other == 0 else "div", above, below)
    return Scope((x, j), body, (r,) if other == 3 else ()), Site()


@aims_at("compact_window")
def divided_window(maker: Maker) -> Case:
    """A window whose index holds the iterator in a division too."""
    x, h = Iterator("x", 5), Iterator("h", 6)
    index = Index.of(x) - Index.of(h) * 2 + Index.of(h) // maker.pick((2, 3)) + maker.random.randint(0, 3)
    body = Apply("mul", maker.plain_read([h], "A"), Access(tensor("K", [3]), [index]))
    return Scope((x,), body, (h,)), Site.of(iterator="h", access=1, axis=0)
