"""What one access contributes to the derivative by the tensor that it reads: the access turned around.

``T̄[u] = Σ<w> D(M(u, w))``, where D is the derivative by what the access reads at a point of the scope and M are the points that
read u. Guards that D does not imply become conditions; those that it does, because it reads its seed or another factor out of
their box where they fail, are left out, so that a convolution's derivative is a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from passes.differentiate.arithmetic import both, decided, is_number, number, where
from passes.differentiate.certificate import require_converse
from passes.differentiate.turning import Guard, turned
from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Reducer, Scalar, Scope, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType

_TAME = frozenset({"add", "sub", "mul", "neg", "max", "min", "relu", "abs", "sign", "tanh", "sigmoid", "erf", "where"})
"""Operations that give a number for every number."""


def contribution(access: Access, derivative: Scalar, box: Sequence[Iterator]) -> Scope:
    """The part of the derivative by the access's tensor that comes through the access, with the tensor's shape.

    ``derivative`` is that of the loss by what the access reads at a point of the box.
    """
    shape = [int(extent) for extent in access.source.shape]
    turn = turned(access.indices, shape, box)
    require_converse(turn, access.indices, box)
    condition: Scalar = Constant(True, DataType.BOOL)
    open_ranges = [guard for iterator, guard in turn.ranges.items() if not _vanishes(derivative, iterator)]
    for guard in (*open_ranges, *turn.guards):
        condition = both(condition, _holds(guard))
    body = decided(substitute(derivative, turn.points))
    return Scope(turn.elements, where(condition, body, number(0, body)), turn.rest, Reducer.SUM)


def _holds(guard: Guard) -> Scalar:
    value = IndexValue(guard.index)
    if guard.high == guard.low + 1:
        return Apply("eq", value, Constant(guard.low, DataType.INT64))
    condition: Scalar = Constant(True, DataType.BOOL)
    if guard.index.low < guard.low:
        condition = both(condition, Apply("ge", value, Constant(guard.low, DataType.INT64)))
    if guard.index.high >= guard.high:
        condition = both(condition, Apply("lt", value, Constant(guard.high, DataType.INT64)))
    return condition


def _vanishes(node: Scalar, iterator: Iterator) -> bool:
    """Whether the scalar is zero for values of the iterator beyond its range."""
    match node:
        case Constant():
            return is_number(node, 0)
        case Access():
            return is_number(node.outside, 0) and any(
                index is Index.of(iterator) and extent <= iterator.extent
                for index, extent in zip(node.indices, node.source.shape, strict=True)
            )
        case Apply(operation="mul", arguments=(left, right)):
            return (_vanishes(left, iterator) and _is_tame(right)) or (_vanishes(right, iterator) and _is_tame(left))
        case Apply(operation="div", arguments=(left, Constant() as right)):
            return not is_number(right, 0) and _vanishes(left, iterator)
        case Apply(operation="add" | "sub" | "neg"):
            return all(_vanishes(argument, iterator) for argument in node.arguments)
        case Apply(operation="where"):
            return all(_vanishes(argument, iterator) for argument in node.arguments[1:])
        case _:
            return False


def _is_tame(node: Scalar) -> bool:
    """Whether the scalar is a finite number wherever it is evaluated, given finite tensors."""
    match node:
        case Constant():
            return math.isfinite(node.value)
        case Access():
            return math.isfinite(node.outside.value)
        case Apply(operation="where"):
            return all(_is_tame(argument) for argument in node.arguments[1:])
        case Apply():
            return node.operation in _TAME and all(_is_tame(argument) for argument in node.arguments)
        case _:
            return isinstance(node, IndexValue)
