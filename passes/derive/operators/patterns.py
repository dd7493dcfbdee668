"""Library operators as rules: a core is rewritten to read the operator's result, and the operator reads relaid operands.

Each rewrite is a mixed-radix fuse of iterators to the operator's axes (``operands.position`` and ``digits``). What moves data
stands in scopes of its own, so that weights can be relaid when the model is compiled and activations that are already in place
(a reshape, a permuted read) cost nothing. Factors beyond the two operands go along with one of them or stand outside the sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from passes.derive.operators import solving
from passes.derive.operators.operands import Group, digits, fused_iterator, group_of, position, relaid, windowed
from passes.derive.operators.product import Pairing, as_type, multiplied, pairing
from passes.derive.operators.solving import parted
from tensoropt.ir.expression import Access, Apply, Reducer, Scalar, Scope, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.rewrite.rule import Refusal, Site

_ELSEWHERE = Refusal("the groups are not the iterators of the scope")
_MISSING = Refusal("an iterator of the site is missing")


def _product(left: Access, right: Access, pair: Pairing) -> Scalar:
    return Apply("mul", as_type(left, pair.dtype), as_type(right, pair.dtype))


def _read_back(scope: Scope, library: Scope, indices: Iterable[Index], pair: Pairing) -> Scope:
    return Scope(scope.traversal, multiplied(Access(library, indices), pair.outer))


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
        return solving.matmul_sites(scope)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        pair = pairing(scope, site.place("first"), site.place("second"), site.names("carried"))
        if isinstance(pair, Refusal):
            return pair
        groups = {name: group_of(scope, site.names(name)) for name in ("batch", "rows", "columns", "sums")}
        batch, rows, columns, sums = groups.values()
        if batch is None or rows is None or columns is None or sums is None:
            return _MISSING
        if not parted(sums, scope.reduction) or not parted((*batch, *rows, *columns), scope.traversal):
            return _ELSEWHERE
        in_left, in_right = pair.left.iterators, pair.right.iterators
        if not set(sums) <= in_left & in_right:
            return Refusal("a reduction is in one operand only")
        if set(rows) & in_right or set(columns) & in_left:
            return Refusal("a row is in the right operand or a column in the left one")
        axes: dict[str, Iterator] = {}
        mapping: dict[Iterator, Index] = {}
        for letter, group in zip("bmnk", (batch, rows, columns, sums), strict=True):
            axes[letter] = fused_iterator(letter, group)
            mapping |= digits(axes[letter], group)
        left_axes = tuple(axes[letter] for letter in site.text("left"))
        right_axes = tuple(axes[letter] for letter in site.text("right"))
        if ("b" not in site.text("left") and set(batch) & in_left) or (
            "b" not in site.text("right") and set(batch) & in_right
        ):
            return Refusal("an operand without batch axis varies over the batch")
        left = relaid(pair.left, left_axes, mapping, pair.dtype)
        right = relaid(pair.right, right_axes, mapping, pair.dtype)
        outer = [("b", batch)] if "b" in site.text("left") + site.text("right") else []
        outer += [("m", rows), ("n", columns)]
        library = Scope([axes[letter] for letter, _ in outer], _product(left, right, pair), (axes["k"],), Reducer.SUM)
        return _read_back(scope, library, [position(group) for _, group in outer], pair)


@dataclass(frozen=True, slots=True)
class MatchConvolution:
    """``L<z> Σ<s> f(z, s)·g(z, s)  =  L<z> { L<i, f, y…> Σ<c, r…> D[i, c, a·y + d·r − p…]·K[f, c, r…] }[fuse(i), fuse(f), y…]``.

    One index of the data for each pair (y, r): stride a > 0, dilation d (a negative one flips the kernel), padding p, all
    read off. Where the index holds finer digits too, the data is relaid by residue class (space to batch or to depth,
    ``operands.windowed``). i gathers traversals of the data only, f those of the kernel only, g (groups, an axis of both
    operands before c and f) those of both; groups without further channels and filters make a depthwise convolution.
    """

    name: str = "match_convolution"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each assignment of two accesses to data and kernel that solves."""
        return solving.convolution_sites(scope)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        pair = pairing(scope, site.place("data"), site.place("kernel"), site.names("carried"))
        if isinstance(pair, Refusal):
            return pair
        batch, groups, filters, channels, spatial, taps = (
            group_of(scope, site.names(name)) for name in ("images", "groups", "filters", "channels", "spatial", "taps")
        )
        if batch is None or groups is None or filters is None or channels is None or spatial is None or taps is None:
            return _MISSING
        if not parted((*channels, *taps), scope.reduction):
            return _ELSEWHERE
        if not parted((*batch, *groups, *filters, *spatial), scope.traversal):
            return _ELSEWHERE
        in_data, in_kernel = pair.left.iterators, pair.right.iterators
        if {*batch, *spatial} & in_kernel or set(filters) & in_data or not {*channels, *taps} <= in_kernel:
            return Refusal("an iterator is in the wrong operand")
        if not {*channels} <= in_data:
            return Refusal("a reduction is in one operand only")
        image, group, filter_, channel = (
            fused_iterator(name, found) for name, found in zip("igfc", (batch, groups, filters, channels), strict=True)
        )
        mapping = digits(image, batch) | digits(group, groups) | digits(filter_, filters) | digits(channel, channels)
        data, axes, rows = pair.left, [], []
        windows: dict[Iterator, Index] = {}
        flipped: dict[Iterator, Index] = {}
        for place, (row, tap) in enumerate(zip(spatial, taps, strict=True)):
            window = windowed(data, row, tap, f"p{place}")
            if isinstance(window, Refusal):
                return window
            data = window.operand
            axes.append(window.axis)
            rows.append(Iterator(f"y{place}", row.extent))
            flipped[tap] = _turned(Iterator(f"r{place}", tap.extent), window.seen.coefficient(tap))
            windows[window.axis] = window.seen.substitute({tap: flipped[tap], row: Index.of(rows[-1])})
        fixed = (image, group, channel) if groups else (image, channel)
        seen = substitute(relaid(data, (*fixed, *axes), mapping, pair.dtype), windows)
        assert isinstance(seen, Access)
        tap_axes = tuple(Iterator(f"r{place}", tap.extent) for place, tap in enumerate(taps))
        kernel_axes = (*((group,) if groups else ()), filter_, channel, *tap_axes)
        weights = relaid(pair.right, kernel_axes, mapping | flipped, pair.dtype)
        outer: list[tuple[Iterator, Index]] = [(image, position(batch))]
        outer += [(group, position(groups))] if groups else []
        outer += [(filter_, position(filters)), *zip(rows, map(Index.of, spatial), strict=True)]
        body = _product(seen, weights, pair)
        library = Scope([axis for axis, _ in outer], body, (channel, *tap_axes), Reducer.SUM)
        return _read_back(scope, library, [index for _, index in outer], pair)


def _turned(tap: Iterator, step: int) -> Index:
    """The tap, from its end where it runs against its row."""
    return Index.of(tap) if step > 0 else Index.of(tap) * -1 + (tap.extent - 1)


@dataclass(frozen=True, slots=True)
class MatchBandMatmul:
    """``L<z> Σ<s> f(z, s)·g(z, s)  =  L<z> { L<b, m, w> Σ<k> P[b, m, k]·Q[b, m + d·w − o, k] }[fuse(b), m, w]``.

    General by general to a band: m is a traversal of both operands, w one that stands with it in one index of g alone. b gathers
    the other traversals, all of both; k all reductions, each in both. Finer digits of that index become digits of b and k
    (``operands.windowed``): a band of dilation d is d undilated ones, one for each residue class, **folded into the batch**.
    """

    name: str = "match_band_matmul"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each pair of a row and a diagonal in one index."""
        return solving.band_sites(scope, inner=scope.traversal)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        found = _band(scope, site, "sums")
        if isinstance(found, Refusal):
            return found
        if not parted(found.free, scope.reduction):
            return _ELSEWHERE
        if not parted((*found.batch, found.row, found.tap), scope.traversal):
            return _ELSEWHERE
        if found.tap in found.pair.left.iterators or not set(found.free) <= found.pair.left.iterators:
            return Refusal("the diagonals stand in both operands, or a reduction in one only")
        k = fused_iterator("k", found.free)
        library = found.library(site, {"k": k}, digits(k, found.free), (k,))
        indices = [position(found.batch), Index.of(found.row), _turned(found.tap, found.seen.coefficient(found.tap))]
        return _read_back(scope, library, indices, found.pair)


@dataclass(frozen=True, slots=True)
class MatchMatmulBand:
    """``L<z> Σ<s> f(z, s)·g(z, s)  =  L<z> { L<b, m, n> Σ<w> P[b, m, w]·Q[b, m + d·w − o, n] }[fuse(b), m, fuse(n)]``.

    A band by general: as ``MatchBandMatmul``, with the diagonals w the one reduction, of both operands, and n the traversals of g
    alone.
    """

    name: str = "match_matmul_band"

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Each pair of a row and a diagonal in one index."""
        return solving.band_sites(scope, inner=scope.reduction)

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """See the formula."""
        found = _band(scope, site, "columns")
        if isinstance(found, Refusal):
            return found
        if not parted((found.tap,), scope.reduction):
            return _ELSEWHERE
        if not parted((*found.batch, found.row, *found.free), scope.traversal):
            return _ELSEWHERE
        if found.tap not in found.pair.left.iterators or set(found.free) & found.pair.left.iterators:
            return Refusal("the diagonals stand in one operand, or a column in both")
        n = fused_iterator("n", found.free)
        library = found.library(site, {"n": n}, digits(n, found.free), (found.w,))
        indices = [position(found.batch), Index.of(found.row), position(found.free)]
        return _read_back(scope, library, indices, found.pair)


@dataclass(frozen=True, slots=True)
class _Band:
    """What both band operators share: the operands, the groups, and how the right operand is read along the band."""

    pair: Pairing
    row: Iterator
    tap: Iterator
    batch: Group
    free: Group
    axis: Iterator
    seen: Index

    @property
    def w(self) -> Iterator:
        """The diagonals."""
        return Iterator("w", self.tap.extent)

    def library(self, site: Site, others: dict[str, Iterator], mapping: dict[Iterator, Index], sums: Group) -> Scope:
        """The operator over relaid operands, whose axes beside b, m and w are the others."""
        b, m = fused_iterator("b", self.batch), Iterator("m", self.row.extent)
        place = {self.row: Index.of(m), self.tap: _turned(self.w, self.seen.coefficient(self.tap))}
        mapping = mapping | digits(b, self.batch) | place
        axes = {"b": b, "m": m, "w": self.w, **others}
        left = relaid(self.pair.left, tuple(axes[letter] for letter in site.text("left")), mapping, self.pair.dtype)
        axes["m"] = self.axis
        right = relaid(self.pair.right, tuple(axes[letter] for letter in site.text("right")), mapping, self.pair.dtype)
        read = substitute(right, {self.axis: self.seen.substitute(place)})
        assert isinstance(read, Access)
        last = next(axis for axis in (*others.values(), self.w) if axis not in sums)
        return Scope((b, m, last), _product(left, read, self.pair), sums, Reducer.SUM)


def _band(scope: Scope, site: Site, free: str) -> _Band | Refusal:
    pair = pairing(scope, site.place("first"), site.place("second"), site.names("carried"))
    if isinstance(pair, Refusal):
        return pair
    batch, others = group_of(scope, site.names("batch")), group_of(scope, site.names(free))
    ends = group_of(scope, (site.text("row"), site.text("diagonal")))
    if batch is None or others is None or ends is None:
        return _MISSING
    row, tap = ends
    if row not in pair.left.iterators or not set(batch) <= pair.left.iterators:
        return Refusal("a row or a batch is not in both operands")
    window = windowed(pair.right, row, tap, "p")
    if isinstance(window, Refusal):
        return window
    if window.seen.coefficient(row) != 1:
        return Refusal(f"{row.name} moves the band by more than one row")
    pair = Pairing(pair.left, window.operand, pair.outer, pair.dtype)
    return _Band(pair, row, tap, batch, others, window.axis, window.seen)
