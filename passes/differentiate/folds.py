"""Seeds of folds: the derivative of the loss by a scope's body at each point of its box, given that by the scope's value.

A sum hands its derivative on. Of a product each factor gets the product of the others, which is exact where factors are zero. Of a
maximum or minimum the elements that attain it get it: the first in the order of the window for pooling, all in equal shares
otherwise, as PyTorch's ``max_pool`` and ``amax`` do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import prod

from passes.differentiate.arithmetic import div, mul, number, where
from tensoropt.ir.expression import (
    Access,
    Apply,
    Constant,
    IndexValue,
    Reducer,
    Scalar,
    Scope,
    Tensor,
    fresh_iterators,
    substitute,
)
from tensoropt.ir.index import Index
from tensoropt.ir.program import Compute
from tensoropt.ir.structure import linear_position
from tensoropt.ir.types import DataType, TensorType


class Ties(Enum):
    """Which of several elements that attain an extreme get its derivative."""

    FIRST = "first"
    SHARED = "shared"
    NONE = "none"
    """The extreme is subtracted and added again, as in a softmax: the value does not depend on it."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """The derivative by the body, over the iterators of the scope, and the statements that it reads."""

    seed: Scalar
    statements: tuple[Compute, ...] = ()


Declare = Callable[[str, TensorType], Tensor]
"""A new tensor of the program named after a wish."""


def seeded(statement: Compute, seed: Scalar, ties: Ties, declare: Declare) -> Seeded | None:
    """The seed of a statement's body, where ``seed`` is that of its value over the traversal; None where there is none."""
    match statement.expression.reducer:
        case None | Reducer.SUM:
            return Seeded(seed)
        case Reducer.PROD:
            return _product(statement, seed, declare)
        case _ if ties is Ties.FIRST:
            return _first(statement, seed, declare)
        case _ if ties is Ties.SHARED:
            return _shared(statement, seed, declare)
        case _:
            return None


def _product(statement: Compute, seed: Scalar, declare: Declare) -> Seeded:
    """``ȳ[x] · Π<r' ≠ r> f(x, r')``."""
    scope = statement.expression
    others = fresh_iterators(scope.reduction, (*scope.traversal, *scope.reduction))
    moved = substitute(scope.body, {old: Index.of(new) for old, new in others.items()})
    apart = linear_position(scope.reduction) - linear_position(tuple(others.values()))
    same = Apply("eq", IndexValue(apart), Constant(0, DataType.INT64))
    box = (*scope.traversal, *scope.reduction)
    rest = Scope(box, where(same, number(1, moved), moved), others.values(), Reducer.PROD)
    tensor = declare(f"{statement.output.name}.others", rest.type)
    return Seeded(mul(seed, Access(tensor, box)), (Compute(tensor, rest, statement.origin),))


def _first(statement: Compute, seed: Scalar, declare: Declare) -> Seeded:
    """The derivative at the first point, in row-major order of the reduction, that attains the extreme."""
    scope, position = statement.expression, linear_position(statement.expression.reduction)
    none = Constant(prod(iterator.extent for iterator in scope.reduction), DataType.INT32)
    place = IndexValue(position, DataType.INT32)
    chosen = Scope(scope.traversal, where(_attains(statement), place, none), scope.reduction, Reducer.MIN)
    tensor = declare(f"{statement.output.name}.first", chosen.type)
    hit = Apply("eq", Access(tensor, scope.traversal, -1), place)
    return Seeded(where(hit, seed, number(0, seed)), (Compute(tensor, chosen, statement.origin),))


def _shared(statement: Compute, seed: Scalar, declare: Declare) -> Seeded:
    """The derivative in equal shares at all points that attain the extreme."""
    scope, hit = statement.expression, _attains(statement)
    one, zero = number(1, scope.body), number(0, scope.body)
    count = Scope(scope.traversal, where(hit, one, zero), scope.reduction, Reducer.SUM)
    tensor = declare(f"{statement.output.name}.ties", count.type)
    share = div(seed, Access(tensor, scope.traversal))
    return Seeded(where(hit, share, number(0, seed)), (Compute(tensor, count, statement.origin),))


def _attains(statement: Compute) -> Scalar:
    return Apply("eq", statement.expression.body, Access(statement.output, statement.expression.traversal))
