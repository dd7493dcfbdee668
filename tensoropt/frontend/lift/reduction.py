"""All Reduce* operators, ArgMax and ArgMin."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tensoropt.frontend.lift.axes import normal_axis, output_iterators
from tensoropt.frontend.lift.node import Node, NotExpressed
from tensoropt.frontend.lift.scalars import apply, where
from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Reducer, Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Statement
from tensoropt.ir.types import DataType


@dataclass(frozen=True, slots=True)
class _Fold:
    """A reducer with what is done to each element before and to the result after; the result's function gets the count too."""

    reducer: Reducer
    before: Callable[[Scalar], Scalar] = lambda value: value
    after: Callable[[Scalar, int], Scalar] | None = None


def _square(value: Scalar) -> Scalar:
    return apply("mul", value, value)


_FOLDS: dict[str, _Fold] = {
    "ReduceSum": _Fold(Reducer.SUM),
    "ReduceMax": _Fold(Reducer.MAX),
    "ReduceMin": _Fold(Reducer.MIN),
    "ReduceProd": _Fold(Reducer.PROD),
    "ReduceMean": _Fold(Reducer.SUM, after=lambda total, count: apply("div", total, count)),
    "ReduceL1": _Fold(Reducer.SUM, lambda value: apply("abs", value)),
    "ReduceL2": _Fold(Reducer.SUM, _square, lambda total, _: apply("sqrt", total)),
    "ReduceSumSquare": _Fold(Reducer.SUM, _square),
    "ReduceLogSum": _Fold(Reducer.SUM, after=lambda total, _: apply("log", total)),
}


def _axes(node: Node) -> list[int]:
    """The folded axes in ascending order."""
    rank = node.operand(0).rank
    axes = node.optional_integers(1) if node.optional(1) is not None else node.attribute("axes")
    if not axes:
        if node.attribute("noop_with_empty_axes", 0):
            if node.operator not in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean"):
                raise NotExpressed("a reduction over no axes that still changes elements")
            return []
        return list(range(rank))
    return sorted({normal_axis(int(axis), rank) for axis in axes})


def _iterators(node: Node, axes: list[int]) -> tuple[list[Iterator], list[Index], list[Iterator]]:
    """The traversal, the index of each input axis, and the reduction iterators."""
    shape = node.operand(0).shape
    keep = bool(node.attribute("keepdims", 1)) or not axes
    traversal = list(output_iterators(node.shape))
    stay = iter([found for axis, found in enumerate(traversal) if axis not in axes] if keep else traversal)
    folded = {axis: Iterator(f"r{axis}", shape[axis]) for axis in axes}
    indices = [Index.of(folded[axis] if axis in folded else next(stay)) for axis in range(len(shape))]
    return traversal, indices, list(folded.values())


def lift_reduction(node: Node) -> list[Statement]:
    """The fold, and a second statement where the result is divided, rooted or logged."""
    fold = _FOLDS[node.operator]
    if node.operator in ("ReduceL2", "ReduceLogSum") and not node.output.dtype.is_float:
        raise NotExpressed("a root or logarithm of integers")
    traversal, indices, folded = _iterators(node, _axes(node))
    body = fold.before(node.operand(0).at(indices))
    if fold.after is None:
        return [node.compute(node.output, traversal, body, folded, fold.reducer)]
    total = node.intermediate("sum", node.output.dtype, node.shape)
    count = math.prod(iterator.extent for iterator in folded)
    return [
        node.compute(total, traversal, body, folded, fold.reducer),
        node.compute(node.output, traversal, fold.after(Access(total, traversal), count)),
    ]


def lift_log_sum_exp(node: Node) -> list[Statement]:
    """The maximum, the sum of exponentials of differences, and ``max + log sum``; an infinite maximum is not subtracted."""
    if not node.output.dtype.is_float:
        raise NotExpressed("exponentials of integers")
    traversal, indices, folded = _iterators(node, _axes(node))
    value = node.operand(0).at(indices)
    top = node.intermediate("max", node.output.dtype, node.shape)
    total = node.intermediate("sum", node.output.dtype, node.shape)
    kept = list(traversal)
    finite = where(apply("isinf", Access(top, kept)), 0, Access(top, kept))
    return [
        node.compute(top, traversal, value, folded, Reducer.MAX),
        node.compute(total, traversal, apply("exp", apply("sub", value, finite)), folded),
        node.compute(node.output, traversal, apply("add", apply("log", Access(total, kept)), finite)),
    ]


def lift_arg_extreme(node: Node) -> list[Statement]:
    """The extreme value, then the first (or last) position that holds it."""
    value_operand = node.operand(0)
    axis = normal_axis(int(node.attribute("axis", 0)), value_operand.rank)
    traversal, indices, folded = _iterators(node, [axis])
    value = value_operand.at(indices)
    reducer = Reducer.MAX if node.operator == "ArgMax" else Reducer.MIN
    extreme = node.intermediate("extreme", value_operand.dtype, node.shape)
    last = bool(node.attribute("select_last_index", 0))
    position = IndexValue(Index.of(folded[0]))
    beyond = Constant(-1 if last else (1 << 62), DataType.INT64)
    candidate = where(Apply("eq", value, Access(extreme, traversal)), position, beyond)
    return [
        node.compute(extreme, traversal, value, folded, reducer),
        node.compute(node.output, traversal, candidate, folded, Reducer.MAX if last else Reducer.MIN),
    ]


REDUCTIONS = tuple(_FOLDS)
