"""Which kernels are attention, by the form of their expression.

    y = epilogue(Σ<keys> softmax<keys>(f(Σ<depth> q · k)) · v)

with ``f`` any arithmetic on a score (a scale, a mask), and q, k and v any element-wise values. Softmax is known by its parts:
``exp(x - max x) / Σ exp(x - max x)``, where all three are of the same x. Keys may differ from row to row as those of a ``band`` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from codegen.lower import tir
from codegen.lower.stages import Stage, point_mapping
from codegen.schedules.gpu.attention.band import Band, banded
from codegen.schedules.reducing import product_of
from codegen.schedules.sums_of_products import Contraction, Side
from tensoropt.ir.expression import (
    Access,
    Apply,
    Cast,
    Reducer,
    Scalar,
    Scope,
    accesses,
    free_iterators,
    fresh_iterators,
    map_scalar,
    scopes,
    substitute,
)
from tensoropt.ir.index import Index, Iterator

_LEAST_KEYS = 8
"""Of fewer, the scores are small beside what is multiplied."""


@dataclass(frozen=True, slots=True)
class Attention:
    """The two contractions of attention over the same ``batch`` and ``rows``, each with its ending.

    ``scores`` are [batch, rows, keys], after their arithmetic; ``values`` reads them where the weights were. Of either contraction
    the first side has the rows. In a ``band``, a row has some of the keys, and its other scores are minus infinity.
    """

    scores: Stage
    values: Stage
    products: Contraction
    sums: Contraction
    band: Band | None = None

    @property
    def rows(self) -> int:
        """Queries of one batch."""
        return self.products.sides[0].extent

    @property
    def keys(self) -> int:
        """Scores of a row, whether they take part or not."""
        return self.products.sides[1].extent

    def passed(self, rows: int) -> int:
        """Keys that a block of so many rows goes past."""
        return self.keys if self.band is None else min(self.keys, rows + self.band.place.extent - 1)

    @property
    def columns(self) -> int:
        """Sums of a row."""
        return self.sums.sides[1].extent


def recognize(expression: Scope) -> Attention | None:
    """The parts of attention; None for anything else."""
    if not expression.type.elements or not _has_its_folds(expression):
        return None
    root = _written_out(expression)
    core = _core(root)
    if core is None or core.reducer is not Reducer.SUM:
        return None
    factors = product_of(core.body)
    weights = [factor for factor in factors if _folds_in(factor)]
    if len(weights) != 1 or len(factors) < 2:
        return None
    score = _softmax_of(weights[0], core)
    if score is None:
        return None
    folds = _folds_in(score)
    if len(folds) != 1 or tir.COMPUTED[score.dtype] != tir.COMPUTED[core.dtype]:
        return None
    others = [factor for factor in factors if factor is not weights[0]]
    return _assembled(root, core, score, folds[0], weights[0], others)


def _has_its_folds(expression: Scope) -> bool:
    """Whether a kernel folds what attention does: two contractions, the largest of a row and the sum of a row."""
    reducers = [scope.reducer for scope in scopes(expression) if scope.reducer is not None]
    return sorted(reducer.value for reducer in reducers) == ["max", "sum", "sum", "sum"]


def _written_out(root: Scope) -> Scope:
    """The kernel with every element-wise scope written out where it is read."""
    rebuilt: dict[Scope, Scope] = {}

    def leaf(node: Scalar) -> Scalar:
        if not isinstance(node, Access) or not isinstance(node.source, Scope):
            return node
        source = rebuilt[node.source]
        if source.reducer is None and node.stays_inside:
            return substitute(source.body, dict(zip(source.traversal, node.indices, strict=True)))
        return Access(source, node.indices, node.outside)

    for scope in scopes(root):
        rebuilt[scope] = Scope(scope.traversal, map_scalar(scope.body, leaf), scope.reduction, scope.reducer)
    return rebuilt[root]


def _core(root: Scope) -> Scope | None:
    """The fold that a kernel ends with, which its epilogue reads at its own point."""
    if root.reducer is not None:
        return root
    found = _folds_in(root.body)
    sources = {access.source for access in found}
    if len(sources) != 1 or any(point_mapping(root, access) is None for access in found):
        return None
    (source,) = sources
    assert isinstance(source, Scope)
    return source


def _folds_in(node: Scalar) -> list[Access]:
    """The reads of scopes, each once."""
    return [access for access in dict.fromkeys(accesses(node)) if isinstance(access.source, Scope)]


def _softmax_of(weight: Scalar, core: Scope) -> Scalar | None:
    """What a weight is the softmax of, over all that ``core`` reduces; None where it is something else."""
    if isinstance(weight, Cast) and weight.dtype.is_float and weight.argument.dtype.is_float:
        weight = weight.argument
    power, total = _arguments(weight, "div")
    (shifted,) = _arguments(power, "exp", 1)
    score, top = _arguments(shifted, "sub")
    if (
        power is None
        or score is None
        or not score.dtype.is_float
        or not _is_fold(total, Reducer.SUM, power, core)
        or not _is_fold(top, Reducer.MAX, score, core)
    ):
        return None
    return score


def _arguments(node: Scalar | None, operation: str, count: int = 2) -> Sequence[Scalar | None]:
    """The operands of an operation; None for each where the node is another thing."""
    return node.arguments if isinstance(node, Apply) and node.operation == operation else (None,) * count


def _is_fold(node: Scalar | None, reducer: Reducer, element: Scalar, core: Scope) -> bool:
    """Whether a node reads the fold of an element over all that ``core`` reduces."""
    if not isinstance(node, Access) or not isinstance(node.source, Scope) or not node.stays_inside:
        return False
    fold = node.source
    own, all_of = _real(fold.reduction), _real(core.reduction)
    if fold.reducer is not reducer or [one.extent for one in own] != [one.extent for one in all_of]:
        return False
    if any(index.iterators() & set(core.reduction) for index in node.indices):
        return False
    mapping = {
        **dict.fromkeys(fold.reduction, Index.of(0)),
        **dict(zip(fold.traversal, node.indices, strict=True)),
        **{one: Index.of(other) for one, other in zip(own, all_of, strict=True)},
    }
    return substitute(fold.body, mapping) is element


def _real(iterators: Sequence[Iterator]) -> tuple[Iterator, ...]:
    return tuple(iterator for iterator in iterators if iterator.extent != 1)


def _assembled(
    root: Scope, core: Scope, score: Scalar, point: Access, weight: Scalar, others: list[Scalar]
) -> Attention | None:
    """The parts, written over the iterators of the last fold; None where they have no rows, columns and depth of their own."""
    fold = point.source
    assert isinstance(fold, Scope)
    if fold.reducer is not Reducer.SUM or not point.stays_inside:
        return None
    fresh = fresh_iterators(fold.reduction, (*core.traversal, *core.reduction))
    placed = {iterator: Index.of(other) for iterator, other in fresh.items()}
    inner = substitute(fold.body, {**dict(zip(fold.traversal, point.indices, strict=True)), **placed})
    factors = product_of(inner)
    keys, depth = _real(core.reduction), _real(tuple(fresh.values()))
    own = [factor for factor in factors if not free_iterators(factor) & set(keys)]
    across = [factor for factor in factors if free_iterators(factor) & set(keys)]
    if not own or not across or not depth or prod(key.extent for key in keys) < _LEAST_KEYS:
        return None
    query, key, value = (_product(part) for part in (own, across, others))
    outer, summed, placed = _real(core.traversal), core.reduction, {}
    batch, rows, columns = _roles(outer, (score, inner), (key, value))
    band = None if rows else banded(batch, keys, (key, value), (*core.traversal, *core.reduction, *depth))
    if band is not None:
        query, key, value, inner, score = (substitute(one, band.mapping) for one in (query, key, value, inner, score))
        moved = substitute(point, band.mapping)
        assert isinstance(moved, Access)
        point, keys, placed = moved, (band.key,), {band.whole: band.whole_row}
        outer = tuple(new for one in outer for new in (band.parts if one is band.whole else (one,)))
        summed = tuple(band.key if one is band.place else one for one in core.reduction)
        batch, rows, columns = _roles(outer, (score, inner), (key, value))
    if (
        not rows
        or not columns
        or not free_iterators(value) & set(keys)
        or any(_folds_in(one) for one in (inner, value))
    ):
        return None
    axes = (*batch, *rows, *keys)
    products = Scope(axes, inner, depth)
    read = Access(products, axes)
    arithmetic = map_scalar(score, lambda node: read if node is point else node)
    ended = Scope(axes, arithmetic if band is None else band.masked(arithmetic))
    scores = Stage(products, products if ended.body is read else ended)
    weights: Scalar = Access(scores.result, axes)
    if weights.dtype is not weight.dtype:
        weights = Cast(weights, weight.dtype)
    product = Apply("mul", weights, value)
    sums = Scope(core.traversal, product if band is None else substitute(product, band.back), summed)
    return Attention(
        scores,
        Stage(sums, sums if root is core else _reading(root, core, sums)),
        Contraction((Side(query, rows, False), Side(key, keys, False)), batch, depth, _as_they_are(products), fold.dtype),
        Contraction(
            (Side(weights, rows, False), Side(value, columns, False)), batch, keys, _as_they_are(sums) | placed, core.dtype
        ),
        band,
    )  # fmt: skip


def _roles(
    outer: Sequence[Iterator], weighing: Sequence[Scalar], shared: Sequence[Scalar]
) -> tuple[tuple[Iterator, ...], tuple[Iterator, ...], tuple[Iterator, ...]]:
    """What counts batches, rows and columns: rows are known to scores alone, columns to values alone, batches to both."""
    scores, values = (frozenset[Iterator]().union(*map(free_iterators, one)) for one in (weighing, shared))
    return (
        tuple(iterator for iterator in outer if iterator in scores and iterator in values),
        tuple(iterator for iterator in outer if iterator in scores and iterator not in values),
        tuple(iterator for iterator in outer if iterator not in scores),
    )


def _as_they_are(scope: Scope) -> dict[Iterator, Index]:
    return {iterator: Index.of(iterator) for iterator in (*scope.traversal, *scope.reduction)}


def _reading(root: Scope, core: Scope, other: Scope) -> Scope:
    """The epilogue reading another fold."""

    def leaf(node: Scalar) -> Scalar:
        return Access(other, node.indices) if isinstance(node, Access) and node.source is core else node

    return Scope(root.traversal, map_scalar(root.body, leaf))


def _product(factors: list[Scalar]) -> Scalar:
    result = factors[0]
    for factor in factors[1:]:
        result = Apply("mul", result, factor)
    return result
