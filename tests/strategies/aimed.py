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


@aims_at("relax_reduction", "split_reduction")
def falling(maker: Maker) -> Case:
    """One read that runs backwards, of an axis that reaches further than the range."""
    x, r = Iterator("x", 2), Iterator("r", maker.random.randint(3, 4))
    index = Index.of(r) * maker.pick((-1, -1, -2)) + maker.random.randint(1, 6)
    return Scope((x,), Access(tensor("A", [maker.random.randint(3, 9)]), [index]), (r,)), None


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
    """Tensors put beside another one, with one thing that does not fit."""
    n, k = Iterator("n", 3), Iterator("k", 2)
    odd = maker.random.randrange(6)
    weights = Access(tensor("W", [n.extent + (odd == 0), 2]), [n, k], 1.0 if odd == 1 else 0.0)
    read = Access(Scope((n, k), weights), [n, k]) if odd == 2 else weights
    body = maker.plain_read([k], "X") if odd == 3 else Apply("mul", read, maker.plain_read([k], "X"))
    before, after = (
        maker.pick(((-1, 0), (2, -1))) if odd == 3 else (maker.random.randint(1, 2), maker.random.randint(0, 2))
    )
    ahead = (("V", before + (odd == 4)),)
    behind = (("U", after),) if after else ()
    parts = () if odd == 3 else ((7 if odd == 5 else 0, ahead, behind),)
    return Scope((n,), body, (k,)), Site.of(iterator="n", before=before, after=after, parts=parts)


@aims_at("stack")
def layers(maker: Maker) -> Case:
    """Other tensors as further layers, what was stacked before among them, with one thing that does not fit."""
    n, k = Iterator("n", 3), Iterator("k", 2)
    odd = maker.random.randrange(9)
    before, after = (-1, 2) if odd == 0 else (2, -1) if odd == 1 else (maker.random.randint(0, 1), 1)
    own = Access(tensor("W", [3, 2]), [n, k])
    a, u = Iterator("a", before + 1 + after + (odd == 2)), Iterator("u", 3)
    stacked = Scope((a, u), Access(tensor("S", [a.extent, 3]), [a, u]))
    at = before if odd != 3 else before + 1
    follows = Access(stacked, [at if at >= 0 else 0, n])
    names = tuple(f"V{place}" for place in range(max(0, before + after - (odd == 4))))
    parts = ((9 if odd == 5 else 0, names),)
    following = (1,) if odd not in (6, 7) else (8,) if odd == 6 else (0, 1)
    if odd in (0, 1):
        return Scope((n,), own, (k,)), Site.of(before=before, after=after, parts=parts, stacked=())
    return Scope((n,), Apply("mul", own, follows), (k,)), Site.of(
        before=before, after=after, parts=parts, stacked=following
    )


@aims_at("scale_source")
def scaled_beyond(maker: Maker) -> Case:
    """A source that is not 0 where it is read outside, or is read at something else than whole axes."""
    x, r = Iterator("x", 3), Iterator("r", 2)
    extent = x.extent + maker.pick((0, 1))
    source = Access(tensor("A", [extent, 2]), [x, Index.of(r) + 1], maker.pick((0.0, 1.0)))
    return Scope((x,), maker.product([source, maker.plain_read([x], "B")]), (r,)), Site.of(
        term=0, source=0, factors=(1,)
    )


@aims_at("merge", "flatten_product")
def plain_nesting(maker: Maker) -> Case:
    """A nested fold read within its box, by another fold, negated, or beside another factor."""
    x, y, u, p = Iterator("x", 2), Iterator("y", 3), Iterator("u", 2), Iterator("p", 3)
    reducers = (Reducer.SUM, Reducer.SUM, Reducer.MAX, Reducer.MIN, Reducer.PROD)
    inner = Scope((u,), Access(tensor("A", [2, 3]), [u, p]), (p,), maker.pick(reducers))
    read: Scalar = Access(inner, [x])
    body = maker.pick((read, Apply("neg", read), Apply("mul", read, maker.plain_read([y], "K"))))
    return Scope((x,), body if not maker.chance(4) else Apply("neg", body), (y,), maker.pick(reducers)), Site.of(
        access=0
    )


@aims_at("match_convolution")
def odd_convolution(maker: Maker) -> Case:
    """The site of a convolution on what is nearly one: a window that runs backwards, stands twice, is divided or lies outside."""
    f, y, c, r = Iterator("f", 2), Iterator("y", 3), Iterator("c", 2), Iterator("r", 2)
    odd = maker.random.randrange(9)
    index = Index.of(y) + r - 1
    index = {0: Index.of(r) - y + 2, 1: Index.of(y), 2: Index.of(y) * 2 + Index.of(y) // 2 + r}.get(odd, index)
    index = index + 40 if odd == 3 else index
    channel: Index = Index.of(c) + (y if odd == 4 else 0)
    data = Access(tensor("A", [4, 6]), [channel, index], 1.0 if odd == 5 else 0.0)
    weights: list[Iterator] = [f, r] if odd == 6 else [f, c, r]
    factors: list[Scalar] = [data, maker.plain_read(weights, "K")]
    carried: tuple[str, ...] = ()
    if odd in (5, 7, 8):
        factors.append(maker.plain_read([c] if odd == 5 else [c, r] if odd == 7 else [y], "C"))
        carried = (maker.pick(("left", "outer")) if odd != 5 else "left",)
    site = Site.of(
        data=0,
        kernel=1,
        carried=carried,
        images=(),
        groups=(),
        filters=("f",),
        channels=("c",),
        spatial=("y",),
        taps=("r",),
    )
    unused = (Iterator("z", 2),) if maker.chance(6) else ()
    return Scope((f, y), maker.product(factors), (c, r, *unused)), site


@aims_at("winograd")
def odd_window(maker: Maker) -> Case:
    """The site of a window on what is nearly one: other steps, another axis or factor that moves too, a fill, another fold."""
    y, z, r, c = Iterator("y", maker.random.randint(1, 6)), Iterator("z", 2), Iterator("r", 3), Iterator("c", 2)
    odd = maker.random.randrange(12)
    index = Index.of(y) + r - maker.random.randint(-1, 2)
    index = {0: Index.of(y) * 2 + r, 1: Index.of(y) + Index.of(r) * 2, 2: Index.of(r) - y + 2}.get(odd, index)
    index = index + z if odd == 3 else Index.of(y) // 2 + r if odd == 4 else index
    channel = Index.of(c) + (y if odd == 5 else r if odd == 6 else 0)
    kind = I64 if odd == 11 else F32
    data = Access(tensor("A", [4, 6], kind), [channel, index], 1 if odd == 7 else 0)
    weights: list[Iterator] = [z, c, r, *([y] if odd == 8 else [])]
    kernel: Scalar = Access(tensor("K", [2, 2, 3, *([y.extent] if odd == 8 else [])], kind), weights)
    if maker.chance(4):
        kernel = Apply("mul", kernel, Access(tensor("C", [2], kind), [c]))
    body: Scalar = Apply("add" if odd == 9 else "mul", data, kernel)
    reducer = maker.pick((Reducer.MAX, Reducer.PROD)) if odd == 10 else Reducer.SUM
    return Scope((z, y), body, (c, r), reducer), Site.of(iterator="y", tap="r", factor=maker.pick((2, 3, 4)))


@aims_at("match_matmul")
def odd_matmul(maker: Maker) -> Case:
    """The site of a matmul on what is nearly one: a factor outside the sum that varies with it, a batch without axis."""
    b, m, n, k = Iterator("b", 2), Iterator("m", 3), Iterator("n", 2), Iterator("k", 3)
    odd = maker.random.randrange(7)
    left = [m, n, k] if odd == 0 else [b, m, k]
    right = [b, n, k, m] if odd == 1 else [b, n] if odd == 2 else [b, n, k]
    factors: list[Scalar] = [maker.plain_read(left, "A"), maker.plain_read(right, "K")]
    if odd in (3, 4):
        factors.append(maker.plain_read([k] if odd == 3 else [m], "C"))
    site = Site.of(
        first=0,
        second=0 if odd == 6 else 1,
        carried=("outer",) if odd in (3, 4) else ("left",) if odd == 6 else (),
        batch=("b",),
        rows=("m",),
        columns=("n",),
        sums=("k",),
        left="mk" if odd == 5 else "bmk",
        right="bkn",
    )
    return Scope((b, m, n), maker.product(factors), (k,)), site


@aims_at("match_matmul")
def one_operand_twice(maker: Maker) -> Case:
    """One factor as both operands."""
    b, k = Iterator("b", 3), Iterator("k", 4)
    body = Apply("mul", maker.plain_read([b, k], "A"), maker.plain_read([b, k], "K"))
    names: dict[str, tuple[str, ...]] = {"batch": ("b",), "rows": (), "columns": (), "sums": ("k",)}
    place = maker.pick((0, 1))
    site = Site.of(first=place, second=place, carried=("left",), **names, left="bmk", right="bkn")
    return Scope((b,), body, (k,)), site


@aims_at("match_band_matmul", "match_matmul_band")
def odd_band(maker: Maker) -> Case:
    """The site of a band on what is nearly one: rows further apart, diagonals in both operands, a sum in one operand only."""
    b, m, w, k = Iterator("b", 2), Iterator("m", 3), Iterator("w", 3), Iterator("k", 2)
    odd, summed = maker.random.randrange(6), maker.chance(2)
    place = Index.of(m) * (2 if odd == 0 else 1) + w - 1
    left = [b, m, w] if summed else [b, m, k]
    left = [b, m, w, k] if odd == 1 else [iterator for iterator in left if iterator not in (w, k)] if odd == 2 else left
    left = [iterator for iterator in left if iterator is not m] if odd == 3 else left
    right = Access(tensor("B", [2, 4, 2]), [b, place, k])
    free = ("columns", ("k",)) if summed else ("sums", ("k",))
    site = Site(
        (
            ("first", 0),
            ("second", 1),
            ("carried", ()),
            ("row", "m"),
            ("diagonal", "w"),
            ("batch", ("b",)),
            ("left", "bmw" if summed else "bmk"),
            ("right", "bmn" if summed else "bmk"),
            free,
        )
    )
    traversal, sums = ((b, m, k), (w,)) if summed else ((b, m, w), (k,))
    more = (Iterator("z", 2),) if maker.chance(6) else ()
    return Scope(traversal, Apply("mul", maker.plain_read(left, "A"), right), (*sums, *more)), site


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
