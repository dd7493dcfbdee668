"""Short sums along windows, term by term: each term is Slices of the operands, where the sum at once would gather them."""

from __future__ import annotations

from itertools import product
from math import prod

from tensoropt.export.graph import Value
from tensoropt.export.lowering import Lowering
from tensoropt.export.scalars import emit_operation
from tensoropt.ir.expression import Reducer, Scope, accesses, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import is_contraction

_TERMS = 36
_PRODUCT_TERMS = 9
"""The most terms that are written one by one; fewer where matrix products are the other way."""

_OPERATIONS = {Reducer.SUM: "add", Reducer.MAX: "max", Reducer.MIN: "min", Reducer.PROD: "mul"}


def unrolled(lowering: Lowering, scope: Scope) -> Value | None:
    """The fold of the body's values at each point of the reduction; None where they are many or no window is read."""
    if scope.reducer is None or not _reads_window(scope):
        return None
    limit = _PRODUCT_TERMS if is_contraction(scope) else _TERMS
    if prod(iterator.extent for iterator in scope.reduction) > limit:
        return None
    total: Value | None = None
    for point in product(*(range(iterator.extent) for iterator in scope.reduction)):
        here = {iterator: Index.of(at) for iterator, at in zip(scope.reduction, point, strict=True)}
        term = lowering.scalar(substitute(scope.body, here), scope.traversal)
        total = term if total is None else emit_operation(lowering.graph, _OPERATIONS[scope.reducer], [total, term])
    assert total is not None
    return lowering.full(total, scope)


def _reads_window(scope: Scope) -> bool:
    """Whether a reduction iterator stands in an index with other iterators, or in several indices of an access."""
    moving: set[Iterator] = {iterator for iterator in scope.reduction if iterator.extent > 1}
    for access in accesses(scope.body):
        used = [index.iterators() for index in access.indices]
        for iterator in moving:
            places = [found for found in used if iterator in found]
            if len(places) > 1 or any(len(found) > 1 for found in places):
                return True
    return False
