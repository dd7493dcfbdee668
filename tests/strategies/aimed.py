"""Expressions and sites aimed at side conditions that plain random ones hardly reach, by the rule whose condition it is.

A generator gives an expression, and where the site matters the site. ``aims_at`` registers it for rules by name; those of
``support`` serve every rule that asks where a body vanishes.
"""

from __future__ import annotations

from collections.abc import Callable

from tensoropt.ir.expression import Access, Apply, Cast, Constant, Reducer, Scalar, Scope
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Site
from tests.strategies.random_scopes import F32, F64, Maker, tensor

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
            index = index // maker.random.randint(2, 3) * maker.pick((1, 1, -1, 2)) + maker.random.randint(-1, 3)
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
