"""A sum of products whose depth is cut in parts, so that a GPU is filled: two stages in the place of one.

The parts are one more axis of the first stage's result, which lies in scratch memory; the second adds them up and has the epilogue.
Half types stay f32 between the two, so that they are rounded once.
"""

from __future__ import annotations

from codegen.lower.stages import Stage
from codegen.schedules.gpu.contraction.geometry import cut_iterator
from codegen.schedules.reducing import product_of
from tensoropt.ir.expression import Access, Apply, Cast, Scalar, Scope, fresh_iterators, map_scalar, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import HALVES, DataType


def in_parts(stage: Stage, parts: int) -> list[Stage]:
    """The stage in so many parts of equal depth, which one of its reduced iterators must allow."""
    scope = stage.scope
    whole = cut_iterator(scope.reduction, parts)
    assert whole is not None
    wanted = (Iterator("part", parts), Iterator(whole.name, whole.extent // parts))
    fresh = fresh_iterators(wanted, (*scope.traversal, *scope.reduction))
    part, inner = (fresh.get(iterator, iterator) for iterator in wanted)
    body = substitute(scope.body, {whole: Index.of(part) * inner.extent + inner})
    half = scope.dtype in HALVES
    if half:
        body = _product_in_f32(body)
    reduction = [inner if iterator is whole else iterator for iterator in scope.reduction]
    sums = Scope([part, *scope.traversal], body, reduction)
    total = Scope(scope.traversal, Access(sums, [part, *scope.traversal]), [part])
    if not half and stage.result is scope:
        return [Stage(sums, sums), Stage(total, total)]

    def of_total(node: Scalar) -> Scalar:
        if not (isinstance(node, Access) and node.source is scope):
            return node
        read = Access(total, node.indices)
        return Cast(read, scope.dtype) if half else read

    if stage.result is scope:
        result = Scope(scope.traversal, of_total(Access(scope, list(scope.traversal))))
    else:
        result = Scope(stage.result.traversal, map_scalar(stage.result.body, of_total))
    return [Stage(sums, sums), Stage(total, result)]


def _product_in_f32(body: Scalar) -> Scalar:
    first, *rest = (Cast(factor, DataType.FLOAT32) for factor in product_of(body))
    product: Scalar = first
    for factor in rest:
        product = Apply("mul", product, factor)
    return product
