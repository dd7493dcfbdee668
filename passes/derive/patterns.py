"""Library operators as rules: a core is rewritten to read the operator's result, and the operator reads relaid operands.

Each rewrite is a mixed-radix fuse of iterators to the operator's axes. What moves data stands in scopes of its own, so that
weights can be relaid when the model is compiled and activations that are already in place (a reshape, a permuted read) cost
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd, prod

from passes.derive.naming import find_iterator
from tensoropt.ir.expression import Access, Apply, Reducer, Scope, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import product_factors
from tensoropt.rewrite.rule import Refusal, Site

Group = tuple[Iterator, ...]


def factor_accesses(scope: Scope) -> tuple[Access, Access] | None:
    """The two accesses that a sum of products multiplies; None for any other body."""
    factors = product_factors(scope.body)
    if scope.reducer is not Reducer.SUM or len(factors) != 2:
        return None
    left, right = factors
    return (left, right) if isinstance(left, Access) and isinstance(right, Access) else None


def used(access: Access) -> frozenset[Iterator]:
    """The iterators in the indices of an access."""
    return frozenset().union(*(index.iterators() for index in access.indices))


def fused_iterator(name: str, group: Group) -> Iterator:
    """One iterator over the mixed-radix product of a group, the last one fastest."""
    return Iterator(name, prod(iterator.extent for iterator in group))


def digits(fused: Iterator, group: Group) -> dict[Iterator, Index]:
    """The iterators of a group as digits of the fused one."""
    found: dict[Iterator, Index] = {}
    rest = Index.of(fused)
    for place, iterator in enumerate(reversed(group)):
        last = place == len(group) - 1
        found[iterator] = rest if last else rest % iterator.extent
        rest = rest // iterator.extent
    return found


def position(group: Group) -> Index:
    """The value of the fused iterator."""
    result = Index.of(0)
    for iterator in group:
        result = result * iterator.extent + iterator
    return result


def group_of(scope: Scope, names: tuple[str, ...]) -> Group | None:
    """The iterators of these names; None where one is missing."""
    found = tuple(find_iterator((*scope.traversal, *scope.reduction), name) for name in names)
    return None if None in found else tuple(iterator for iterator in found if iterator is not None)


def relaid(access: Access, axes: Group, mapping: dict[Iterator, Index]) -> Access:
    """A read of the operand at its axes: of the tensor itself where that permutes whole axes, else of a scope that moves it."""
    moved = substitute(access, mapping)
    assert isinstance(moved, Access)
    plain = [Index.of(axis) for axis in axes if axis.extent != 1]
    read = [index for index, extent in zip(moved.indices, access.source.shape, strict=True) if extent != 1]
    whole = all(
        extent == 1 or any(index is Index.of(axis) and axis.extent == extent for axis in axes)
        for index, extent in zip(moved.indices, access.source.shape, strict=True)
    )
    if whole and len(access.source.shape) == len(axes) and sorted(map(repr, plain)) == sorted(map(repr, read)):
        return moved
    return Access(Scope(axes, moved), axes, access.outside)


@dataclass(frozen=True, slots=True)
class MatchMatmul:
    """``L<z> Σ<s> f(z, s)·g(z, s)  =  L<z> { L<b, m, n> Σ<k> P[b, m, k]·Q[b, k, n] }[fuse(b), fuse(m), fuse(n)]``.

    m gathers traversals of f only, n those of g only, b those of both (or those of one that serve as a batch; the other
    operand then has no b), k all reductions, each of which is in both. ``left`` and ``right`` give the order of the operands'
    axes.
    """

    name: str = "match_matmul"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Both orientations, with and without a batch of what only one operand has."""
        from passes.derive.matching import matmul_sites

        return matmul_sites(scope)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        factors = factor_accesses(scope)
        if factors is None:
            return Refusal("not a sum of products of two accesses")
        first = site.integer("first")
        left, right = factors[first], factors[1 - first]
        groups = {name: group_of(scope, site.names(name)) for name in ("batch", "rows", "columns", "sums")}
        batch, rows, columns, sums = groups.values()
        if batch is None or rows is None or columns is None or sums is None:
            return Refusal("an iterator of the site is missing")
        if set(sums) != set(scope.reduction) or {*batch, *rows, *columns} != set(scope.traversal):
            return Refusal("the groups are not the iterators of the scope")
        in_left, in_right = used(left), used(right)
        if not set(sums) <= in_left & in_right:
            return Refusal("a reduction is in one operand only")
        if set(rows) & in_right or set(columns) & in_left:
            return Refusal("a row is in the right operand or a column in the left one")
        axes = {
            letter: fused_iterator(letter, group)
            for letter, group in zip("bmnk", (batch, rows, columns, sums), strict=True)
        }
        mapping: dict[Iterator, Index] = {}
        for letter, group in zip("bmnk", (batch, rows, columns, sums), strict=True):
            mapping |= digits(axes[letter], group)
        left_axes = tuple(axes[letter] for letter in site.text("left"))
        right_axes = tuple(axes[letter] for letter in site.text("right"))
        if ("b" not in site.text("left") and set(batch) & in_left) or (
            "b" not in site.text("right") and set(batch) & in_right
        ):
            return Refusal("an operand without batch axis varies over the batch")
        body = Apply("mul", relaid(left, left_axes, mapping), relaid(right, right_axes, mapping))
        outer = [("b", batch)] if "b" in site.text("left") + site.text("right") else []
        outer += [("m", rows), ("n", columns)]
        library = Scope([axes[letter] for letter, _ in outer], body, (axes["k"],), Reducer.SUM)
        return Scope(scope.traversal, Access(library, [position(group) for _, group in outer]))


@dataclass(frozen=True, slots=True)
class MatchConvolution:
    """``L<z> Σ<s> f(z, s)·g(z, s)  =  L<z> { L<i, f, y…> Σ<c, r…> D[i, c, a·y + d·r − p…]·K[f, c, r…] }[fuse(i), fuse(f), y…]``.

    One index of the data for each pair (y, r): stride a > 0, dilation d (a negative one flips the kernel), padding p, all
    read off. Where the index holds finer digits too, the data is relaid by residue class (space to batch or to depth). i
    gathers traversals of the data only, f those of the kernel only, g (groups, an axis of both operands before c and f) those
    of both.
    """

    name: str = "match_convolution"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each assignment of the two accesses to data and kernel that solves."""
        from passes.derive.matching import convolution_sites

        return convolution_sites(scope)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        factors = factor_accesses(scope)
        if factors is None:
            return Refusal("not a sum of products of two accesses")
        first = site.integer("data")
        data, kernel = factors[first], factors[1 - first]
        batch, groups, filters, channels, spatial, taps = (
            group_of(scope, site.names(name)) for name in ("images", "groups", "filters", "channels", "spatial", "taps")
        )
        if batch is None or groups is None or filters is None or channels is None or spatial is None or taps is None:
            return Refusal("an iterator of the site is missing")
        if {*channels, *taps} != set(scope.reduction) or {*batch, *groups, *filters, *spatial} != set(scope.traversal):
            return Refusal("the groups are not the iterators of the scope")
        in_data, in_kernel = used(data), used(kernel)
        if {*batch, *spatial} & in_kernel or set(filters) & in_data or not {*channels, *taps} <= in_kernel:
            return Refusal("an iterator is in the wrong operand")
        image, group, filter_, channel = (
            fused_iterator(name, found) for name, found in zip("igfc", (batch, groups, filters, channels), strict=True)
        )
        mapping = digits(image, batch) | digits(group, groups) | digits(filter_, filters) | digits(channel, channels)
        windows: list[Index] = []
        flipped: dict[Iterator, Index] = {}
        axes: list[Iterator] = []
        rows: list[Iterator] = []
        replaced = list(data.indices)
        for place, (row, tap) in enumerate(zip(spatial, taps, strict=True)):
            found = [axis for axis, index in enumerate(data.indices) if index.iterators() & {row, tap}]
            index = data.indices[found[0]]
            stride, dilation = index.coefficient(row), index.coefficient(tap)
            if len(found) != 1 or stride < 1 or dilation == 0:
                return Refusal(f"{row.name} and {tap.name} do not stand in one index of the data as a window")
            if len(index.terms) == 2:
                window, low = index, 0
                axis = Iterator(f"p{place}", int(data.source.shape[found[0]]))
                replaced[found[0]] = Index.of(axis)
            else:
                scale = gcd(stride, dilation)
                window = Index.of(row) * (stride // scale) + Index.of(tap) * (dilation // scale)
                low = window.low
                axis = Iterator(f"p{place}", window.high - low + 1)
                replaced[found[0]] = index - window * scale + (Index.of(axis) + low) * scale
            if axis.extent == 1:
                return Refusal("the data has a single row")
            axes.append(axis)
            rows.append(Iterator(f"y{place}", row.extent))
            renamed = Iterator(f"r{place}", tap.extent)
            flipped[tap] = Index.of(renamed) if dilation > 0 else Index.of(renamed) * -1 + (tap.extent - 1)
            windows.append(window.substitute({tap: flipped[tap], row: Index.of(rows[-1])}) - low)
        fixed = (image, group, channel) if groups else (image, channel)
        plane = relaid(Access(data.source, replaced, data.outside), (*fixed, *axes), mapping)
        seen = substitute(plane, dict(zip(axes, windows, strict=True)))
        tap_axes = tuple(Iterator(f"r{place}", tap.extent) for place, tap in enumerate(taps))
        kernel_axes = (*((group,) if groups else ()), filter_, channel, *tap_axes)
        weights = relaid(kernel, kernel_axes, mapping | flipped)
        outer: list[tuple[Iterator, Index]] = [(image, position(batch))]
        outer += [(group, position(groups))] if groups else []
        outer += [(filter_, position(filters)), *zip(rows, map(Index.of, spatial), strict=True)]
        library = Scope([axis for axis, _ in outer], Apply("mul", seen, weights), (channel, *tap_axes), Reducer.SUM)
        return Scope(scope.traversal, Access(library, [index for _, index in outer]))
