"""Random small expressions from a plain generator of random numbers, fast enough for very many; families for kinds of rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from random import Random
from typing import TypeVar

from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType, Extent, TensorType

F32, F64, I64 = DataType.FLOAT32, DataType.FLOAT64, DataType.INT64
Item = TypeVar("Item")
_STEPS = (1, 1, 1, 1, 2, 2, 3, -1, -1, -2)
_FILLS = {
    Reducer.SUM: (0.0, 0.0, 0.0, 0.0, 1.0, -2.0),
    Reducer.MAX: (-math.inf, -math.inf, 0.0),
    Reducer.MIN: (math.inf, math.inf, 0.0),
    Reducer.PROD: (1.0, 1.0, 0.0),
}


def tensor(name: str, shape: Sequence[int], dtype: DataType = F32) -> Tensor:
    """A tensor whose name tells its shape and type, so that one name is one tensor."""
    text = f"{name}{'x'.join(map(str, shape))}{'' if dtype is F32 else dtype.value}"
    return Tensor(text, TensorType(dtype, tuple(map(Extent, shape))))


class Maker:
    """Draws expressions."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def pick(self, items: Sequence[Item]) -> Item:
        """One of several."""
        return items[self.random.randrange(len(items))]

    def chance(self, one_in: int) -> bool:
        """True once in so many times."""
        return self.random.randrange(one_in) == 0

    def iterators(self, names: str, most: int, least: int = 0) -> list[Iterator]:
        """Iterators of small extents, some of one element."""
        count = self.random.randint(least, most)
        return [Iterator(name, self.pick((1, 2, 3, 3, 4, 5))) for name in names[:count]]

    def index(self, iterators: Sequence[Iterator], divisions: bool = True) -> Index:
        """A quasi-affine index of up to three iterators."""
        found = Index.of(self.random.randint(-3, 3))
        for iterator in self.random.sample(list(iterators), self.random.randint(0, min(3, len(iterators)))):
            found = found + Index.of(iterator) * self.pick(_STEPS)
        if divisions and self.chance(6):
            divisor = self.random.randint(2, 3)
            found = found // divisor if self.chance(2) else found % divisor
        return found

    def extent_for(self, index: Index) -> int:
        """An extent that the index may leave."""
        span = max(1, index.high + 1)
        return self.pick((span, span, max(1, span - 1), 3, 5)) if span < 12 else 5

    def read(self, iterators: Sequence[Iterator], name: str, fill: float = 0.0, dtype: DataType = F32) -> Access:
        """A read of a tensor of up to three axes."""
        indices = [self.index(iterators) for _ in range(self.random.randint(1, 3))]
        return Access(tensor(name, [self.extent_for(index) for index in indices], dtype), indices, fill)

    def plain_read(self, iterators: Sequence[Iterator], name: str, dtype: DataType = F32) -> Access:
        """A read at iterators alone, of a tensor of their extents."""
        return Access(tensor(name, [iterator.extent for iterator in iterators], dtype), iterators)

    def some(self, items: Sequence[Item], least: int = 0) -> list[Item]:
        """Some of the items, in a random order."""
        return self.random.sample(list(items), self.random.randint(min(least, len(items)), len(items)))

    def product(self, factors: Sequence[Scalar]) -> Scalar:
        """Factors multiplied."""
        return reduce(lambda left, right: Apply("mul", left, right), factors)

    # Families --------------------------------------------------------------------------------------------------------

    def closed(self, depth: int = 1, reducer: Reducer | None = None) -> Scope:
        """A scope of any reducer that may read others, with casts, masks, sums and functions."""
        reducer = reducer or self.pick((*[Reducer.SUM] * 4, Reducer.MAX, Reducer.MIN, Reducer.PROD))
        traversal, reduction = self.iterators("xyz", 3), self.iterators("rst", 3)
        iterators = [*traversal, *reduction]

        def factor(name: str) -> Scalar:
            fill = self.pick(_FILLS[reducer])
            if depth and self.chance(4):
                inner = self.closed(depth - 1, reducer if self.chance(2) else None)
                return Access(inner, [self.index(iterators) for _ in inner.shape], fill)
            read = self.read(iterators, name, fill)
            match self.random.randrange(16):
                case 0:
                    return Apply("neg", read)
                case 1 if reducer is not Reducer.PROD:
                    return Apply("relu", read)
                case 2:
                    return Cast(self.read(iterators, f"{name}d", fill, F64), F32)
                case _:
                    return read

        def summand() -> Scalar:
            count = 1 if reducer is not Reducer.SUM else self.pick((1, 2, 2, 2, 3))
            return self.product([factor(name) for name in "ABC"[:count]])

        body = summand()
        match self.random.randrange(14):
            case 0:
                body = Apply("add", body, summand())
            case 1:
                body = Apply("sub", body, summand())
            case 2 if reducer is Reducer.SUM:
                body = Apply("mul", body, Constant(0.5, F32))
            case 3 if iterators:
                mask = Apply("lt", IndexValue(self.index(iterators), I64), Constant(self.random.randint(0, 3), I64))
                body = Apply("where", mask, body, Constant(0.0, F32))
        return Scope(traversal, body, reduction, reducer)

    def contraction(self, factors: int = 2) -> Scope:
        """A sum of products of tensors that read 0 outside: what the search works on."""
        traversal, reduction = self.iterators("xyz", 3, 1), self.iterators("rst", 3, 1)
        iterators = [*traversal, *reduction]

        def factor(name: str) -> Access:
            found: list[Index] = []
            for iterator in self.some(iterators, 1)[:3]:
                index = Index.of(iterator) * self.pick((1, 1, 2)) + self.random.randint(-2, 2)
                if self.chance(2):
                    index = index + Index.of(self.pick(iterators)) * self.pick(_STEPS)
                found.append(index)
            return Access(tensor(name, [self.pick((3, 4, 5, max(1, index.high + 1))) for index in found]), found)

        return Scope(traversal, self.product([factor(name) for name in "AKBC"[:factors]]), reduction)

    def matmul(self, carried: bool = True) -> Scope:
        """A sum of products at plain iterators: rows, columns, batches and sums, with further factors."""
        batch, rows, columns = self.iterators("bc", 1), self.iterators("mi", 2), self.iterators("nj", 2)
        sums = self.iterators("kl", 2, 1)
        left, right = [*batch, *rows, *sums], [*batch, *columns, *sums]
        self.random.shuffle(left)
        self.random.shuffle(right)
        factors: list[Scalar] = [self.plain_read(left, "A"), self.plain_read(right, "K")]
        if carried and self.chance(3):
            factors.append(self.plain_read(self.some([*batch, *rows, *columns, *sums]), "C"))
        if self.chance(4):
            factors[0] = Cast(self.plain_read(left, "Ad", F64), F32)
        self.random.shuffle(factors)
        traversal = [*batch, *rows, *columns]
        self.random.shuffle(traversal)
        return Scope(traversal, self.product(factors), sums)

    def windows(self) -> Scope:
        """A convolution or a band of one or two windows, with strides, dilations, groups and digits."""
        data_indices: list[Index] = []
        kernel: list[Iterator] = []
        traversal: list[Iterator] = []
        reduction: list[Iterator] = []
        band = self.chance(3)
        for place in range(1 if band else self.random.randint(1, 2)):
            row, tap = (
                Iterator(f"y{place}", self.random.randint(2, 5)),
                Iterator(f"r{place}", self.random.randint(2, 4)),
            )
            index = Index.of(row) * self.pick((1, 1, 2, 3)) + Index.of(tap) * self.pick((1, 1, 2, 3, -1, -2))
            scale = self.pick((1, 1, 1, 2, 3))
            if scale > 1:
                digit = Iterator(f"d{place}", self.random.randint(2, scale))
                index = index * scale + digit
                (traversal if self.chance(2) else reduction).append(digit)
                if digit in reduction or self.chance(2):
                    kernel.append(digit)
            data_indices.append(index + self.random.randint(-3, 2))
            traversal.append(row)
            if band:
                kernel.append(row)
                (traversal if self.chance(2) else reduction).append(tap)
                if tap in reduction:
                    kernel.append(tap)
            else:
                reduction.append(tap)
                kernel.append(tap)
        channels, filters, groups = self.iterators("c", 1), self.iterators("f", 1), self.iterators("g", 1)
        images = self.iterators("n", 1)
        reduction += channels
        traversal += [*images, *filters, *groups]
        plain = [*images, *channels, *groups]
        weights = [*kernel, *channels, *filters, *groups]
        if band:
            weights += images
        self.random.shuffle(plain)
        self.random.shuffle(weights)
        shape = [iterator.extent for iterator in plain]
        shape += [max(1, self.pick((index.high + 1, index.high, index.high - 1))) for index in data_indices]
        data = Access(tensor("A", shape), [*plain, *data_indices], self.pick((0.0, 0.0, 0.0, 1.0)))
        factors: list[Scalar] = [data, self.plain_read(weights, "K")]
        if self.chance(4):
            factors.append(self.plain_read(self.some([*traversal, *reduction])[:2], "C"))
        self.random.shuffle(factors)
        self.random.shuffle(traversal)
        return Scope(traversal, self.product(factors), reduction)

    def correlation(self) -> Scope:
        """Windows that move by single steps along one or two axes, times taps, and often what is like it and is none."""
        count = self.random.randint(1, 2)
        places = [Iterator(f"y{number}", self.random.randint(1, 7)) for number in range(count)]
        taps = [Iterator(f"r{number}", self.random.randint(2, 4)) for number in range(count)]
        channels, filters = self.iterators("cd", 1), self.iterators("f", 1)
        odd = 2 if self.chance(8) else 1
        moved = [
            Index.of(place) * odd + tap - self.random.randint(-1, 2) for place, tap in zip(places, taps, strict=True)
        ]
        shape = [axis.extent for axis in channels] + [place.extent + self.random.randint(0, 3) for place in places]
        data = Access(tensor("A", shape), [*channels, *moved], 1.0 if self.chance(10) else 0.0)
        factors: list[Scalar] = [data, self.plain_read([*filters, *channels, *taps], "K")]
        self.random.shuffle(factors)
        return Scope((*filters, *places), self.product(factors), (*channels, *taps))

    def band(self) -> Scope:
        """General by general to a band, or a band by general, dilated or not, with batches."""
        row, diagonal = Iterator("m", self.random.randint(2, 5)), Iterator("w", self.random.randint(2, 4))
        batch, free = self.iterators("bc", 2), self.iterators("k", 1)
        summed = self.chance(2)
        place = Index.of(row) * self.pick((1, 1, 1, 2)) + Index.of(diagonal) * self.pick((1, 1, 2, -1))
        scale = self.pick((1, 1, 2, 3))
        if scale > 1:
            batch.append(Iterator("d", scale))
            place = place * scale + batch[-1]
        place = place - self.random.randint(0, 3)
        left = [*batch, row, *([diagonal] if summed else free)]
        plain = [*batch, *free]
        self.random.shuffle(left)
        self.random.shuffle(plain)
        shape = [*(iterator.extent for iterator in plain), max(1, place.high + self.pick((1, 0, -1)))]
        factors: list[Scalar] = [
            self.plain_read(left, "A"),
            Access(tensor("B", shape), [*plain, place], self.pick((0.0, 0.0, 0.0, 1.0))),
        ]
        self.random.shuffle(factors)
        traversal = [*batch, row, *(free if summed else [diagonal])]
        self.random.shuffle(traversal)
        return Scope(traversal, self.product(factors), [diagonal] if summed else free)

    def polynomial(self) -> Scope:
        """Sums and differences of products of reads, of constants, of quotients and of nested scopes that are sums themselves."""
        traversal, reduction = self.iterators("xyz", 3, 1), self.iterators("rs", 2)
        iterators = [*traversal, *reduction]

        def leaf(name: str, depth: int) -> Scalar:
            match self.random.randrange(8):
                case 0 if depth:
                    return addends(depth - 1)
                case 1:
                    return Apply(
                        "div",
                        self.plain_read(self.some(iterators), name),
                        self.plain_read(self.some(iterators), f"{name}q"),
                    )
                case 2 if depth:
                    inner = self.nested(depth - 1)
                    return Access(
                        inner, [self.index(iterators, False) for _ in inner.shape], self.pick((0.0, 0.0, 1.0))
                    )
                case 3:
                    return self.read(iterators, name)
                case _:
                    return self.plain_read(self.some(iterators), name)

        def product(depth: int) -> Scalar:
            return self.product([leaf(name, depth) for name in "ABC"[: self.random.randint(1, 3)]])

        def addends(depth: int) -> Scalar:
            total = product(depth)
            for _ in range(self.random.randint(0, 2)):
                total = Apply(self.pick(("add", "sub")), total, product(depth))
            return Apply("neg", total) if self.chance(8) else total

        reducer = self.pick((*[Reducer.SUM] * 5, Reducer.MAX, Reducer.PROD))
        return Scope(traversal, addends(1), reduction, reducer)

    def nested(self, depth: int) -> Scope:
        """A scope to be read by others: sums, bare moves, folds."""
        traversal, reduction = self.iterators("uvw", 2, 1), self.iterators("pq", 1)
        iterators = [*traversal, *reduction]
        parts: list[Scalar] = [
            self.read(iterators, name) if self.chance(3) else self.plain_read(self.some(iterators), name)
            for name in "DEF"[: self.random.randint(1, 3)]
        ]
        body = parts[0]
        for part in parts[1:]:
            body = Apply(self.pick(("add", "sub", "mul")), body, part)
        return Scope(traversal, body, reduction, self.pick((*[Reducer.SUM] * 4, Reducer.MAX, Reducer.PROD)))

    def exponentials(self) -> Scope:
        """Sums of shifted exponentials, times values."""
        traversal, reduction = self.iterators("xy", 2, 1), self.iterators("qt", 2, 1 if self.chance(6) else 2)
        iterators = [*traversal, *reduction]

        def exponent() -> Scalar:
            return self.read(iterators, "A") if self.chance(6) else self.plain_read(self.some(iterators, 2), "A")

        shift = self.plain_read(self.some(traversal if not self.chance(6) else iterators), "B")
        inside: Scalar = exponent() if self.chance(8) else Apply("sub", exponent(), shift)
        factors: list[Scalar] = [Apply("exp", inside)]
        while self.chance(2):
            other = self.plain_read(self.some(iterators), f"V{len(factors)}")
            factors.append(Apply("exp", other) if self.chance(6) else other)
        self.random.shuffle(factors)
        return Scope(traversal, self.product(factors), reduction, self.pick((*[Reducer.SUM] * 6, Reducer.MAX)))

    def softmax(self) -> Scope:
        """A quotient of exponentials by a sum of some, mostly the right one."""
        rows, j = self.iterators("xy", 2, 1), Iterator("j", self.random.randint(2, 4))
        own, k = [Iterator(f"{row.name}1", row.extent) for row in rows], Iterator("k", j.extent)

        def exponential(at: list[Iterator], last: Iterator, shift: str) -> Scalar:
            source = tensor("A", [*(iterator.extent for iterator in at), last.extent])
            read = Access(source, [*at, last]) if not self.chance(8) else Access(source, [*at, Index.of(last) + 1])
            if not shift:
                return Apply("exp", read)
            seen = [*at, last] if shift == "all" else at
            return Apply("exp", Apply("sub", read, self.plain_read(seen, shift)))

        shift = self.pick(("", "B", "B", "all"))
        other = shift if not self.chance(4) else self.pick(("", "B", "C"))
        reducer = Reducer.SUM if not self.chance(6) else Reducer.MAX
        total = Scope(own, exponential(own, k, other), [k], reducer)
        read = [Index.of(row) + (1 if self.chance(10) else 0) for row in rows]
        return Scope([*rows, j], Apply("div", exponential(rows, j, shift), Access(total, read, 1.0)))

    def quotients(self) -> Scope:
        """Sums of products with a quotient among the factors, of floats or of integers."""
        traversal, reduction = self.iterators("xy", 2, 1), self.iterators("rs", 2)
        iterators = [*traversal, *reduction]
        dtype = F32 if not self.chance(4) else I64
        below = self.plain_read(self.some(traversal if not self.chance(3) else iterators), "G", dtype)
        factors: list[Scalar] = [Apply("div", self.plain_read(self.some(iterators), "F", dtype), below)]
        for name in "HK"[: self.random.randint(0, 2)]:
            factors.append(self.plain_read(self.some(iterators), name, dtype))
        self.random.shuffle(factors)
        body = self.product(factors)
        if self.chance(3):
            body = Apply(self.pick(("add", "sub")), body, self.plain_read(self.some(iterators), "Z", dtype))
        return Scope(traversal, body, reduction, self.pick((*[Reducer.SUM] * 4, Reducer.MAX, Reducer.PROD)))

    def ranges(self) -> Scope:
        """Two scopes side by side, mostly two ranges of one function."""
        x, others = Iterator("x", self.random.randint(2, 6)), self.iterators("yz", 1)
        at = self.random.randint(1, x.extent - 1)
        reduction = self.iterators("rs", 1)
        shift = 0 if not self.chance(4) else self.pick((-1, 1))

        def part(start: int, extent: int, name: str) -> Access:
            u = Iterator("u", extent)
            place = Index.of(u) + start
            factors: list[Scalar] = [Access(tensor(name, [x.extent + 2, 3]), [place, reduction[0] if reduction else 0])]
            factors.append(self.plain_read([*others, *reduction], "B"))
            own = [u, *others]
            inner = Scope(own, self.product(factors), reduction, Reducer.SUM)
            where = Index.of(x) - start if not self.chance(8) else Index.of(x) - start + self.pick((-1, 1))
            return Access(inner, [where, *others])

        second = part(at + shift, max(1, x.extent - at), "A" if not self.chance(5) else "C")
        first = part(0, at, "A")
        body = Apply("add" if not self.chance(6) else "sub", first, second)
        if self.chance(8):
            body = Apply("mul", body, Constant(2.0, F32))
        return Scope([x, *others], body)


FAMILIES: dict[str, Callable[[Maker], Scope]] = {
    "closed": Maker.closed,
    "contraction": Maker.contraction,
    "products": lambda maker: maker.contraction(maker.random.randint(3, 4)),
    "matmul": Maker.matmul,
    "windows": Maker.windows,
    "correlation": Maker.correlation,
    "band": Maker.band,
    "polynomial": Maker.polynomial,
    "exponentials": Maker.exponentials,
    "softmax": Maker.softmax,
    "quotients": Maker.quotients,
    "ranges": Maker.ranges,
}


def random_scope(random: Random, families: Sequence[str] = tuple(FAMILIES)) -> Scope:
    """An expression of one of the families."""
    return FAMILIES[families[random.randrange(len(families))]](Maker(random))
