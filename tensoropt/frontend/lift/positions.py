"""Operators whose elements depend on their position: Trilu, EyeLike, OneHot, Range, CumSum and CumProd."""

from __future__ import annotations

from tensoropt.frontend.lift.axes import normal_axis, output_iterators
from tensoropt.frontend.lift.node import Node, NotExpressed
from tensoropt.frontend.lift.scalars import apply, cast, index_compare, literal, where
from tensoropt.ir.expression import Apply, Constant, IndexValue, Reducer
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Statement
from tensoropt.ir.types import DataType

_LONGEST_SCAN = 4096
"""Running sums cost the square of their length as expressions."""


def lift_trilu(node: Node) -> list[Statement]:
    """Zero on one side of a diagonal."""
    iterators = output_iterators(node.shape)
    shift = 0 if node.optional(1) is None else int(node.constant(1).reshape(()))
    offset = Index.of(iterators[-1]) - iterators[-2]
    kept = index_compare("ge" if node.attribute("upper", 1) else "le", offset, shift)
    value = node.operand(0).at(iterators)
    return [node.compute(node.output, iterators, where(kept, value, literal(0, value)))]


def lift_eye_like(node: Node) -> list[Statement]:
    """One on a diagonal, zero elsewhere."""
    iterators = output_iterators(node.shape)
    offset = Index.of(iterators[1]) - iterators[0]
    on_diagonal = index_compare("eq", offset, int(node.attribute("k", 0)))
    dtype = node.output.dtype
    return [node.compute(node.output, iterators, where(on_diagonal, literal(1, dtype), literal(0, dtype)))]


def lift_one_hot(node: Node) -> list[Statement]:
    """``on`` where the position along the new axis is the index, counted from the end where it is negative."""
    indices, depth, values = node.operand(0), int(node.constant(1).reshape(-1)[0]), node.operand(2)
    axis = normal_axis(int(node.attribute("axis", -1)), len(node.shape))
    iterators = list(output_iterators(node.shape))
    wanted = cast(indices.at(iterators[:axis] + iterators[axis + 1 :]), DataType.INT64)
    position = IndexValue(Index.of(iterators[axis]))
    from_end = apply("add", wanted, depth)
    hit = Apply("eq", where(apply("lt", wanted, 0), from_end, wanted), position)
    return [node.compute(node.output, iterators, where(hit, values.at([1]), values.at([0])))]


def lift_range(node: Node) -> list[Statement]:
    """``start + i · delta`` with constant ends."""
    (iterator,) = output_iterators(node.shape)
    start, delta = (literal(node.constant(position).reshape(()).item(), node.output.dtype) for position in (0, 2))
    steps = cast(IndexValue(Index.of(iterator)), node.output.dtype)
    return [node.compute(node.output, [iterator], apply("add", start, apply("mul", steps, delta)))]


def lift_running(node: Node) -> list[Statement]:
    """CumSum and CumProd: ``fold<t> x[i − t]``, positions before the start giving the neutral element."""
    operand = node.operand(0)
    axis = normal_axis(int(node.constant(1).reshape(-1)[0]), operand.rank)
    extent = operand.shape[axis]
    if extent > _LONGEST_SCAN:
        raise NotExpressed("a long running sum")
    reducer = Reducer.SUM if node.operator == "CumSum" else Reducer.PROD
    iterators = output_iterators(node.shape)
    back = Iterator("t", extent)
    exclusive = 1 if node.attribute("exclusive", 0) else 0
    indices = [Index.of(found) for found in iterators]
    if node.attribute("reverse", 0):
        indices[axis] = indices[axis] + back + exclusive
    else:
        indices[axis] = indices[axis] - back - exclusive
    neutral = 0 if reducer is Reducer.SUM else 1
    return [node.compute(node.output, iterators, operand.at(indices, neutral), [back], reducer)]


def lift_constant_fill(node: Node) -> list[Statement]:
    """ConstantOfShape that was not folded because it is huge."""
    value = node.attribute("value")
    number = 0.0 if value is None else value.reshape(-1)[0].item()
    return [node.compute(node.output, output_iterators(node.shape), Constant(number, node.output.dtype))]
