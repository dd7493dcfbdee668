"""A kernel as blocks that TVM's schedules can transform: one block for each scope, loops in the order of its iterators.

This is the form that MetaSchedule searches over. Nothing is scheduled here: scopes become ``te.compute`` stages, reductions get
reduce axes, an access that may leave its box becomes ``if_then_else``. The names of blocks, loops and buffers follow from the
expression's form alone, so that a schedule found for a kernel applies to every kernel of the same form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import te, tirx
from tvm.ir import TensorLoad

from codegen.lower import dialect, scalar, tir
from codegen.lower.ordering import ORDERED, key_of, value_of
from codegen.lower.stages import split_stages
from codegen.lower.tir import Expression
from tensoropt.ir.expression import (
    Access,
    Apply,
    Cast,
    Constant,
    IndexValue,
    Reducer,
    Scalar,
    Scope,
    Tensor,
    children,
    reducer_identity,
    scopes,
    tensors,
)
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo
from tensoropt.ir.types import DataType

_FOLD = {Reducer.SUM: "add", Reducer.PROD: "mul"}
_TYPES = frozenset({DataType.FLOAT32, DataType.FLOAT64, DataType.INT32, DataType.INT64, DataType.BOOL})
"""TVM's simplifier fails on small and on unsigned integers."""
_HALF = DataType.FLOAT16
"""Folded in f32, and for devices only. Of bf16 the simplifier would change how NaN is rounded."""
_WHOLE = frozenset(
    {"add", "sub", "mul", "neg", "abs", "max", "min", "relu", "eq", "ne", "lt", "le", "gt", "ge", "where"}
)
"""Operations on integers. TVM's simplifier divides and shifts constants as C does, and a trap ends the process."""
_LARGEST = (1 << 31) - 1
_PADDED_SHARE = 4
"""How many times larger than its source a padded copy may be; beyond that every read looks at its box instead."""


class Unschedulable(Exception):
    """A kernel that has no form in blocks here; the message says why."""


@dataclass(frozen=True, slots=True)
class Schedulable:
    """``function`` takes the buffers of ``inputs`` and of the output, each in the tensor's shape (one axis for a scalar)."""

    function: Any
    inputs: tuple[Tensor, ...]

    @property
    def digest(self) -> str:
        """What a schedule of the function depends on: another digest, another function."""
        return hashlib.blake2b(self.function.script().encode(), digest_size=16).hexdigest()


def schedulable(expression: Scope) -> Schedulable:
    """The kernel in blocks. Unschedulable where it writes nothing, is too large for 32 bits, or has types that are not done."""
    root = split_stages(expression)[-1].result
    if not root.type.elements:
        raise Unschedulable("it writes nothing")
    stages = _Stages()
    for number, tensor in enumerate(tensors(root)):
        stages.tensors[tensor] = te.placeholder(_shape(tensor), tir.stored(tensor.dtype), f"in{number}")
    inputs = list(stages.tensors.values())
    for number, scope in enumerate(scopes(root)):
        stages.tensors[scope] = stages.stage(scope, f"stage{number}")
    try:
        function = te.create_prim_func([*inputs, stages.tensors[root]])
    except Exception as error:  # an internal check of TVM's simplifier
        raise Unschedulable(f"TVM fails on it: {str(error).strip().splitlines()[-1]}") from error
    return Schedulable(function.without_attr("global_symbol"), tuple(tensors(root)))


def _shape(source: Tensor | Scope) -> tuple[int, ...]:
    shape = tuple(int(extent) for extent in source.shape) or (1,)
    if prod(shape) > _LARGEST:
        raise Unschedulable("a tensor is too large for 32 bits")
    return shape


class _Stages:
    """Scopes as ``te`` tensors, each computed from the ones before."""

    def __init__(self) -> None:
        self.tensors: dict[Tensor | Scope, Any] = {}
        self._padded: dict[Any, Any] = {}

    def stage(self, scope: Scope, name: str) -> Any:
        """The tensor that a scope computes."""
        reducer = scope.reducer
        if reducer is None:
            return self._compute(
                _shape(scope), scope.traversal, name, lambda where: _Body(self, where, scope.body).stored()
            )
        if scope.dtype is DataType.BOOL:
            raise Unschedulable("it folds truth values")
        axes = [te.reduce_axis((0, iterator.extent), f"r{number}") for number, iterator in enumerate(scope.reduction)]
        extreme = scope.dtype.is_float and reducer in (Reducer.MAX, Reducer.MIN)
        half = scope.dtype is _HALF
        fold = _reducer(reducer, DataType.FLOAT32 if half else scope.dtype)

        def body(where: Mapping[Iterator, Expression]) -> Expression:
            everything = {**where, **{iterator: axis.var for iterator, axis in zip(scope.reduction, axes, strict=True)}}
            inner = _Body(self, everything, scope.body, name)
            value = inner.folded(scope.body) if half and reducer is Reducer.SUM else inner.value(scope.body)
            return fold(inner.complete(key_of(inner.bind(value), reducer) if extreme else value), axis=axes)

        folded = self._compute(_shape(scope), scope.traversal, name, body)
        if not extreme and not half:
            return folded

        def stored(*at: Any) -> Expression:
            return scalar.to_stored(value_of(folded(*at)) if extreme else folded(*at), scope.dtype, 1)

        return te.compute(_shape(scope), stored, f"{name}_value")

    def padded(self, access: Access, name: str) -> tuple[Any, list[int]]:
        """A copy of an access's source with the box that the access may read, and the first index of each axis in it.

        What lies outside the source is in the copy, so that a fold over the copy looks at no condition.
        """
        starts = [min(0, index.low) for index in access.indices]
        shape = tuple(
            max(int(extent) - 1, index.high) - start + 1
            for index, extent, start in zip(access.indices, access.source.shape, starts, strict=True)
        )
        key = access.source, access.outside, tuple(starts), shape
        if key not in self._padded:
            axes = [Iterator(f"p{number}", extent) for number, extent in enumerate(shape)]
            read = Access(
                access.source,
                [Index.of(axis) + start for axis, start in zip(axes, starts, strict=True)],
                access.outside,
            )
            self._padded[key] = self._compute(
                shape, axes, f"{name}_padded{len(self._padded)}", lambda where: _Body(self, where, read).stored()
            )
        return self._padded[key], starts

    def _compute(
        self,
        shape: Sequence[int],
        iterators: Sequence[Iterator],
        name: str,
        body: Callable[[Mapping[Iterator, Expression]], Expression],
    ) -> Any:
        def at(*variables: Any) -> Expression:
            return body(dict(zip(iterators, variables, strict=False)))  # a scalar has an axis, but no iterator

        return te.compute(tuple(shape), at, name)


class _Body:
    """A scalar body at one point. ``stage`` names the fold that it belongs to; None where nothing is folded."""

    def __init__(
        self, stages: _Stages, where: Mapping[Iterator, Expression], node: Scalar, stage: str | None = None
    ) -> None:
        self.stages, self.where, self.node, self.stage = stages, where, node, stage
        self._shared = _shared(node)
        self._values: dict[Scalar, Expression] = {}
        self._named: list[tuple[Any, Expression]] = []

    def bind(self, expression: Expression) -> Expression:
        """Names a value, so that its uses share it: TVM's passes take each use for an expression of its own.

        Integers stay as they are: TVM's analysis of a name's range fails where a name comes to stand for two of them.
        """
        if isinstance(expression, (tirx.Var, tirx.FloatImm, TensorLoad)) or "int" in str(expression.ty.dtype):
            return expression
        variable = tirx.Var(f"v{len(self._named)}", expression.ty)
        self._named.append((variable, expression))
        return variable

    def stored(self) -> Expression:
        """The value as it lies in memory."""
        return self.complete(scalar.to_stored(self.value(self.node), self.node.dtype, 1))

    def complete(self, expression: Expression) -> Expression:
        """An expression with all names that it uses defined around it."""
        for variable, value in reversed(self._named):
            expression = tirx.Let(variable, value, expression)
        return expression

    def value(self, node: Scalar) -> Expression:
        """The value of a node in the type that it is computed with."""
        if node not in self._values:
            emitted = self._emit(node)
            self._values[node] = self.bind(emitted) if node in self._shared else emitted
        return self._values[node]

    def folded(self, node: Scalar) -> Expression:
        """A value that is summed up in f32 before it is rounded to f16: a product is not rounded at all."""
        if isinstance(node, Apply) and node.operation == "mul":
            return tirx.Mul(*(self.value(argument) for argument in node.arguments))
        return self.value(node)

    def _emit(self, node: Scalar) -> Expression:
        if node.dtype not in _TYPES and not (node.dtype is _HALF and dialect.current() is not dialect.PLAIN):
            raise Unschedulable(f"it computes with values of type {node.dtype.value}")
        match node:
            case Constant():
                return tir.number(node.value, tir.COMPUTED[node.dtype])
            case IndexValue():
                return scalar.cast(self._index(node.index), DataType.INT32, node.dtype, 1, self.bind)
            case Cast():
                return self._cast(node)
            case Apply():
                return self._apply(node)
            case Access():
                return self._access(node)

    def _apply(self, node: Apply) -> Expression:
        exponent, dtype = node.arguments[-1], node.arguments[-1].dtype
        if dtype.is_integer and node.operation not in _WHOLE:
            raise Unschedulable(f"it computes {node.operation} of integers")
        operands = [self.value(argument) for argument in node.arguments]
        if node.operation == "pow" and isinstance(exponent, Constant) and dtype.is_float:
            power = scalar.constant_power(float(exponent.value), operands[0], scalar.Site(dtype, 1, self.bind))
            if power is not None:
                return power
        if dtype.is_float and node.operation in ORDERED:
            return ORDERED[node.operation](*(self.bind(operand) for operand in operands))
        return scalar.apply(node.operation, operands, dtype, 1, self.bind)

    def _cast(self, node: Cast) -> Expression:
        value, source = self.value(node.argument), node.argument.dtype
        if source is _HALF and node.dtype is DataType.FLOAT32:
            return value  # as which it is computed with
        if source.is_float and node.dtype is DataType.BOOL:
            return ORDERED["ne"](self.bind(value), tir.number(0, tir.COMPUTED[source]))
        return scalar.cast(value, source, node.dtype, 1, self.bind)

    def _index(self, index: Index) -> Expression:
        if max(-index.low, index.high) > _LARGEST:
            raise Unschedulable("an index is too large for 32 bits")
        total = tir.integer(index.constant)
        for atom, coefficient in index.terms:
            match atom:
                case Iterator():
                    part = self.where[atom]
                case FloorDiv():
                    part = tirx.floordiv(self._index(atom.index), tir.integer(atom.divisor))
                case Modulo():
                    part = tirx.floormod(self._index(atom.index), tir.integer(atom.divisor))
            total = total + part * tir.integer(coefficient)
        return total

    def _access(self, access: Access) -> Expression:
        source = self.stages.tensors[access.source]
        if not access.indices:
            return scalar.from_stored(source(0), access.dtype, 1)
        if self.stage is not None and self._padding_pays(access):
            copy, starts = self.stages.padded(access, self.stage)
            places = [self._index(index - start) for index, start in zip(access.indices, starts, strict=True)]
            return scalar.from_stored(copy(*places), access.dtype, 1)
        inside: Expression = None
        for index, extent in zip(access.indices, access.source.shape, strict=True):
            for leaves, operator, bound in ((index.low < 0, tirx.GE, 0), (index.high >= extent, tirx.LT, int(extent))):
                if leaves:
                    holds = operator(self._index(index), tir.integer(bound))
                    inside = holds if inside is None else tirx.And(inside, holds)
        loaded = scalar.from_stored(source(*(self._index(index) for index in access.indices)), access.dtype, 1)
        if inside is None:
            return loaded
        return tirx.if_then_else(inside, loaded, tir.number(access.outside.value, tir.COMPUTED[access.dtype]))

    @staticmethod
    def _padding_pays(access: Access) -> bool:
        if access.stays_inside:
            return False
        size = prod(
            max(int(extent) - 1, index.high) - min(0, index.low) + 1
            for index, extent in zip(access.indices, access.source.shape, strict=True)
        )
        return size <= min(_PADDED_SHARE * access.source.type.elements, _LARGEST)


def _shared(body: Scalar) -> set[Scalar]:
    """The nodes that a body uses more than once."""
    seen: set[Scalar] = set()
    shared: set[Scalar] = set()
    pending = [body]
    while pending:
        node = pending.pop()
        if node in seen:
            shared.add(node)
        else:
            seen.add(node)
            pending += children(node)
    return shared


def _reducer(reducer: Reducer, dtype: DataType) -> Any:
    """A fold. Extremes of floats are folded as those of their keys, which TVM knows how to split; its own lose NaN."""
    if reducer in (Reducer.MAX, Reducer.MIN):
        return te.max if reducer is Reducer.MAX else te.min

    def combine(left: Expression, right: Expression) -> Expression:
        return scalar.apply(_FOLD[reducer], [left, right], dtype, 1, lambda value: value)

    return te.comm_reducer(combine, lambda name: tirx.const(reducer_identity(reducer, dtype), name), reducer.value)
