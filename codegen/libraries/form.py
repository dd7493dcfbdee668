"""Which stages of a kernel are an operation of a library, by their expressions: what every tensor is read at says it.

Operands are plain reads, without arithmetic on them. What follows the sums is part of the operation where the library's own words
say exactly that (a bias, a relu), and otherwise another launch's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codegen.libraries.operations import Operation
from codegen.schedules.context import Epilogue
from codegen.schedules.reducing import product_of
from tensoropt.ir.expression import Access, Apply, Cast, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index
from tensoropt.ir.structure import linear_index
from tensoropt.ir.types import HALVES, DataType

Source = Tensor | Scope
Aligned = Callable[[Source], int]
"""Of how many bytes a source's place is known to be a multiple."""

TYPES = (DataType.FLOAT32, *HALVES)


@dataclass(frozen=True, slots=True)
class Found:
    """An operation, and what its pointers are: its operands, the bias where it has one, and the stage's result or its sums."""

    operation: Operation
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class End:
    """What a stage does after its sums in words of a library: ``bias`` is added, ``relu`` taken, a half made of f32."""

    bias: Access | None = None
    relu: bool = False
    rounded: DataType | None = None


def operands_of(scope: Scope) -> tuple[Access, Access] | None:
    """The two reads whose products a scope sums, in a type that the libraries know; None for another scope."""
    if scope.reducer is not Reducer.SUM or scope.dtype not in TYPES:
        return None
    factors = [_read(factor, scope.dtype) for factor in product_of(scope.body)]
    match factors:
        case [Access() as first, Access() as second] if first.dtype is second.dtype:
            return first, second
        case _:
            return None


def end_of(epilogue: Epilogue) -> End | None:
    """The end of a stage where a library's operation has it; None for another one."""
    body, relu = epilogue.body, False
    rounded: DataType | None = None
    if isinstance(body, Cast) and body.dtype in HALVES and body.argument.dtype is DataType.FLOAT32:
        rounded, body = body.dtype, body.argument
    if isinstance(body, Apply) and body.operation == "relu":
        relu, body = True, body.arguments[0]
    bias: Access | None = None
    if isinstance(body, Apply) and body.operation == "add":
        for sums, other in (body.arguments, body.arguments[::-1]):
            if sums is epilogue.point and isinstance(other, Access) and other.source is not epilogue.stage.scope:
                body, bias = sums, other
                break
    return End(bias, relu, rounded) if body is epilogue.point else None


def affine(access: Access) -> Index | None:
    """The position of the element that is read in its source, where it is a sum of iterators and never outside."""
    position = linear_index(access)
    return position if access.stays_inside and position.is_affine else None


def _read(factor: Scalar, dtype: DataType) -> Access | None:
    """A factor that is an element of a tensor, a half made f32 among them."""
    if isinstance(factor, Cast) and factor.dtype is DataType.FLOAT32 and factor.argument.dtype in HALVES:
        factor = factor.argument
    elif factor.dtype is not dtype:
        return None
    return factor if isinstance(factor, Access) else None
