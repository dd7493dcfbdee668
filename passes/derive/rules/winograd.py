"""Correlations along an axis by products at points: Winograd's minimal filtering."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from passes.derive.interpolation import MOST_PRODUCTS, Matrix, interpolation
from passes.derive.naming import find_iterator, fresh_iterator
from passes.derive.polynomials import product_of
from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Reducer, Scalar, Scope, free_iterators
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import product_factors
from tensoropt.ir.types import DataType
from tensoropt.rewrite.rule import Refusal, Site

_TILES = (4, 2)


@dataclass(frozen=True, slots=True)
class Winograd:
    """``L<x, y> Σ<r, q> A[x + r + e, ·]·K(r, ·)  =  L<x, y> Σ<i> Aᵀ(x % m, i) · { L<i, t, y> Σ<q> U[i, ·]·V[i, ·, t] }[i, x / m]``.

    U[i] = Σ<r> G(i, r)·K(r) and V[i, ·, t] = Σ<a> Bᵀ(i, a)·A[m·t + a + e], a running to m + |r| − 1: so many products take the
    place of m·|r|. The tables are those of Toom-Cook interpolation. A is 0 outside, so the last tile may reach beyond it. Where
    the taps are d apart, A[x + d·r + e], the x of each residue p modulo d are a window of their own:
    V[i, ·, p, t] = Σ<a> Bᵀ(i, a)·A[d·(m·t + a) + p + e], read at x % d and x / (d·m), with Aᵀ((x / d) % m, i).
    """

    name: str = "winograd"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each traversal iterator with each reduction iterator that moves the same window, for tiles of 4 and 2."""
        for iterator in scope.traversal:
            for tap in scope.reduction:
                moved = any(
                    isinstance(factor, Access) and any(_apart(index, iterator, tap) for index in factor.indices)
                    for factor in product_factors(scope.body)
                )
                for tile in _TILES if moved else ():
                    if tile + tap.extent - 1 <= MOST_PRODUCTS:
                        yield Site.of(iterator=iterator.name, tap=tap.name, factor=tile)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula; the site names x, r and m (``factor``)."""
        iterator, tap = (
            find_iterator(scope.traversal, site.text("iterator")),
            find_iterator(scope.reduction, site.text("tap")),
        )
        tile = site.place("factor")
        if iterator is None or tap is None:
            return Refusal("the site does not name an axis and a summation")
        if tile < 2 or tap.extent < 2 or tile + tap.extent - 1 > MOST_PRODUCTS:
            return Refusal("no interpolation of that size")
        if scope.reducer is not Reducer.SUM:
            return Refusal("only sums are interpolated")
        if not scope.dtype.is_float:
            return Refusal("interpolation divides, and integers do not")
        factors = product_factors(scope.body)
        moving = [factor for factor in factors if iterator in free_iterators(factor)]
        if len(moving) != 1 or len(factors) == 1:
            return Refusal("not one factor of several moves along the axis")
        window, kernel = moving[0], product_of([factor for factor in factors if factor is not moving[0]])
        if not isinstance(window, Access):
            return Refusal("what moves along the axis is no access")
        if window.outside.value != 0:
            return Refusal("the input is not 0 outside")
        axes = [axis for axis, index in enumerate(window.indices) if {iterator, tap} & index.iterators()]
        if len(axes) != 1:
            return Refusal("the window moves along several axes")
        apart = _apart(window.indices[axes[0]], iterator, tap)
        if apart < 1:
            return Refusal("the window does not move by single steps of the axis and equal ones of the summation")
        return _interpolated(scope, iterator, tap, tile, apart, window, kernel, axes[0])


def _apart(index: Index, iterator: Iterator, tap: Iterator) -> int:
    """How far the taps are apart in an index that is the iterator, so many taps, and a constant; 0 for another one."""
    terms = dict(index.terms)
    return terms[tap] if set(terms) == {iterator, tap} and terms[iterator] == 1 and terms[tap] > 0 else 0


def _interpolated(
    scope: Scope, iterator: Iterator, tap: Iterator, tile: int, apart: int, window: Access, kernel: Scalar, axis: int
) -> Scope:
    tables = interpolation(tile, tap.extent)
    products = tile + tap.extent - 1
    taken = [*scope.traversal, *scope.reduction]
    point = fresh_iterator("point", products, taken)
    block = fresh_iterator("tile", -(-iterator.extent // (tile * apart)), taken)
    place = fresh_iterator("place", products, taken)
    residue = [fresh_iterator("residue", apart, taken)] if apart > 1 else []

    own = [fresh_iterator(f"a{number}_", int(extent), taken) for number, extent in enumerate(window.source.shape)]
    start = Index.of(block) * (tile * apart) + sum(map(Index.of, residue), Index.of(0))
    read_input = window.indices[axis].substitute({iterator: start, tap: Index.of(place)})
    read_at = [read_input if number == axis else Index.of(found) for number, found in enumerate(own)]
    inputs = Apply("mul", _table(tables.inputs, point, place, scope.dtype), Access(window.source, read_at))
    transformed = Scope((point, *own[:axis], *own[axis + 1 :], *residue, block), inputs, (place,))
    elsewhere = window.indices[:axis] + window.indices[axis + 1 :]

    known = [found for found in taken if found in free_iterators(kernel) and found is not tap]
    weights = Apply("mul", _table(tables.weights, point, tap, scope.dtype), kernel)
    constants = Scope((point, *known), weights, (tap,))

    moved = Access(transformed, (Index.of(point), *elsewhere, *map(Index.of, residue), Index.of(block)))
    product = Apply("mul", Access(constants, (point, *known)), moved)
    traversal = [inner for found in scope.traversal for inner in ((*residue, block) if found is iterator else (found,))]
    sums = tuple(found for found in scope.reduction if found is not tap)
    inner = Scope((point, *traversal), product, sums)
    digits = [Index.of(iterator) % apart] * len(residue) + [Index.of(iterator) // (tile * apart)]
    read = [index for found in scope.traversal for index in (digits if found is iterator else (Index.of(found),))]
    outputs = _table(tables.outputs, Index.of(iterator) // apart % tile, point, scope.dtype)
    return Scope(scope.traversal, Apply("mul", outputs, Access(inner, (Index.of(point), *read))), (point,))


def _table(entries: Matrix, row: Index | Iterator, column: Index | Iterator, dtype: DataType) -> Scalar:
    """The entry of a matrix as a scalar of its row and column."""
    return _chosen(row, [_chosen(column, [_number(entry, dtype) for entry in line]) for line in entries])


def _chosen(index: Index | Iterator, values: list[Scalar]) -> Scalar:
    result = values[-1]
    for position in range(len(values) - 2, -1, -1):
        same = Apply("eq", IndexValue(Index.of(index)), Constant(position, DataType.INT64))
        result = Apply("where", same, values[position], result)
    return result


def _number(entry: Fraction, dtype: DataType) -> Scalar:
    """A literal where the type holds the entry exactly, else a quotient of two that it holds."""
    literal = Constant(float(entry), dtype)
    if Fraction(literal.value) == entry:
        return literal
    return Apply("div", Constant(float(entry.numerator), dtype), Constant(float(entry.denominator), dtype))
