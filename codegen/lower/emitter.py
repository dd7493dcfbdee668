"""Scalar bodies to TIR at a point of the loop nest, one lane or many at once.

The loops of a schedule are IR iterators too: a schedule writes a scope's own iterators as indices over its loops
(``h = p // 56``), so that the algebra of indices proves boxes and finds contiguous axes, and TIR only sees what is left.

Guards follow from bounds: an axis whose index provably stays in the box costs nothing; a condition that is the same in every
lane becomes a branch; one that differs between lanes becomes the mask of a vector load. Every load checks its own box, so
that values can be computed before it is known whether they are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx

from codegen.lower import scalar, tir
from codegen.lower.tir import Expression, Statement
from tensoropt.ir.expression import (
    Access,
    Apply,
    Cast,
    Constant,
    IndexValue,
    Scalar,
    Scope,
    Tensor,
    substitute,
)
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo
from tensoropt.ir.structure import row_major_strides
from tensoropt.ir.types import DataType

Source = Tensor | Scope


class Value:
    """An emitted value: a scalar that is the same in all lanes, or a vector."""

    __slots__ = ("expression", "uniform")

    def __init__(self, expression: Expression, uniform: bool) -> None:
        self.expression, self.uniform = expression, uniform


def flat_index(access: Access) -> Index:
    """The element that an access reads, counted through its source in row-major order."""
    total = Index.of(0)
    for index, stride in zip(access.indices, row_major_strides(access.source.shape), strict=True):
        total = total + index * stride
    return total


class Emitter:
    """Emits values at one point of a loop nest.

    ``variables`` maps loop iterators to TIR variables; ``lane`` is the iterator that runs over the lanes, its extent the
    number of lanes in use (fewer than ``lanes`` at the end of an axis). ``buffers`` holds what is materialised; a nested
    scope that is not in it is computed where it is read.

    Bodies may be written over coarser iterators (``h = p // 56, w = p % 56``), which ``where`` gives in terms of the loops:
    element indices are simplified over the coarse ones first (``56·h + w = p``), then placed in the loop nest.
    ``statements`` collects the bindings, which must precede whatever uses the values.
    """

    def __init__(
        self,
        buffers: Mapping[Source, Any],
        variables: Mapping[Iterator, Expression],
        lane: Iterator | None = None,
        lanes: int = 1,
        width: str = "int32",
        where: Mapping[Iterator, Index] | None = None,
    ) -> None:
        self.buffers, self.variables, self.width, self.where = buffers, variables, width, where or {}
        self.lane, self.lanes = (lane, lanes) if lanes > 1 else (None, 1)
        self.statements: list[Statement] = []
        partial = lane is not None and lanes > 1 and lane.extent < lanes
        self.active = tir.first_lanes(lane.extent, lanes) if partial and lane is not None else None
        self._values: dict[Scalar, Value] = {}

    def place(self, index: Index) -> Index:
        """An index in terms of the loops."""
        return index.substitute(self.where)

    def give(self, node: Scalar, value: Value) -> None:
        """Says that a node's value is already in a register."""
        self._values[node] = value

    def bind(self, expression: Expression) -> Expression:
        """Names a value so that its uses share it.

        The name is a cell on the stack, which LLVM turns into a register. TVM's own ``Bind`` would put the value back into
        every use while it analyses indices, which takes exponential time on chains such as polynomials.
        """
        if tir.is_simple(expression):
            return expression
        cell, load = tir.cell(expression)
        self.statements += cell
        return load

    def vector(self, value: Value) -> Expression:
        """The value in all lanes."""
        return tir.broadcast(value.expression, self.lanes) if value.uniform else value.expression

    def stored(self, node: Scalar) -> Expression:
        """The value of a node in all lanes, as it lies in memory."""
        return scalar.to_stored(self.vector(self.value(node)), node.dtype, self.lanes)

    def value(self, node: Scalar) -> Value:
        """The value of a node; computed once."""
        found = self._values.get(node)
        if found is None:
            found = self._emit(node)
            found = Value(self.bind(found.expression), found.uniform)
            self._values[node] = found
        return found

    def _emit(self, node: Scalar) -> Value:
        match node:
            case Constant():
                return Value(tir.number(node.value, tir.COMPUTED[node.dtype]), True)
            case IndexValue():
                return self._index_value(node)
            case Cast():
                inner = self.value(node.argument)
                count = 1 if inner.uniform else self.lanes
                return Value(
                    scalar.cast(inner.expression, node.argument.dtype, node.dtype, count, self.bind), inner.uniform
                )
            case Apply():
                return self._apply(node)
            case Access():
                return self._access(node)

    def _apply(self, node: Apply) -> Value:
        values = [self.value(argument) for argument in node.arguments]
        uniform = all(value.uniform for value in values)
        count = 1 if uniform else self.lanes
        operands = [value.expression if uniform else self.vector(value) for value in values]
        dtype = node.arguments[-1].dtype
        exponent = node.arguments[-1]
        if node.operation == "pow" and isinstance(exponent, Constant) and dtype.is_float:
            site = scalar.Site(dtype, count, self.bind)
            power = scalar.constant_power(float(exponent.value), operands[0], site)
            if power is not None:
                return Value(power, uniform)
        return Value(scalar.apply(node.operation, operands, dtype, count, self.bind), uniform)

    def _index_value(self, node: IndexValue) -> Value:
        index = self.place(node.index)
        uniform = self.lane is None or self.lane not in index.iterators()
        count = 1 if uniform else self.lanes
        position = self.index(index) if uniform else self.lane_index(index)
        dtype = DataType.INT32 if self.width == "int32" else DataType.INT64
        return Value(scalar.cast(position, dtype, node.dtype, count, self.bind), uniform)

    # -- indices ---------------------------------------------------------------------------------------------------------

    def index(self, index: Index) -> Expression:
        """An index that is the same in all lanes."""
        return self._combine(index, 1)

    def lane_index(self, index: Index) -> Expression:
        """An index for each lane."""
        return self._combine(index, self.lanes)

    def _combine(self, index: Index, lanes: int) -> Expression:
        total = None
        for atom, coefficient in index.terms:
            match atom:
                case Iterator():
                    part = self._variable(atom, lanes)
                case FloorDiv():
                    part = self._divide(atom.index, atom.divisor, lanes, quotient=True)
                case Modulo():
                    part = self._divide(atom.index, atom.divisor, lanes, quotient=False)
            if coefficient != 1:
                part = part * tir.number(coefficient, self.width, lanes)
            total = part if total is None else total + part
        if total is None:
            return tir.number(index.constant, self.width, lanes)
        return total + tir.number(index.constant, self.width, lanes) if index.constant else total

    def _variable(self, iterator: Iterator, lanes: int) -> Expression:
        if iterator is self.lane:
            assert lanes > 1, "an index that differs between lanes is not uniform"
            return tirx.Ramp(tir.integer(0, self.width), 1, lanes)
        return tir.broadcast(self.variables[iterator], lanes)

    def _divide(self, index: Index, divisor: int, lanes: int, quotient: bool) -> Expression:
        inner = self.bind(self._combine(index, lanes))
        by = tir.number(divisor, self.width, lanes)
        if index.low >= 0:
            return tirx.truncdiv(inner, by) if quotient else tirx.truncmod(inner, by)
        return tirx.floordiv(inner, by) if quotient else tirx.floormod(inner, by)

    def lane_stride(self, index: Index) -> int | None:
        """By how much an index grows from lane to lane; None where that is not the same everywhere."""
        if self.lane is None:
            return 0
        inside = any(not isinstance(atom, Iterator) and self.lane in atom.index.iterators() for atom, _ in index.terms)
        return None if inside else index.coefficient(self.lane)

    # -- accesses --------------------------------------------------------------------------------------------------------

    def conditions(self, access: Access) -> tuple[Expression | None, Expression | None]:
        """When an access is in its box: a scalar condition and a mask over the lanes, None where always."""
        uniform: Expression | None = None
        mask: Expression | None = None
        for coarse, extent in zip(access.indices, access.source.shape, strict=True):
            if coarse.low >= 0 and coarse.high < extent:
                continue
            index = self.place(coarse)
            low, high = max(coarse.low, index.low), min(coarse.high, index.high)
            if low >= 0 and high < extent:
                continue
            varies = self.lane is not None and self.lane in index.iterators()
            lanes = self.lanes if varies else 1
            position = self.bind(self._combine(index, lanes))
            for needed, operator, bound in ((low < 0, tirx.GE, 0), (high >= extent, tirx.LT, int(extent))):
                if not needed:
                    continue
                holds = operator(position, tir.number(bound, self.width, lanes))
                if varies:
                    mask = holds if mask is None else tirx.And(mask, holds)
                else:
                    uniform = holds if uniform is None else tirx.And(uniform, holds)
        return (
            None if uniform is None else self.bind(uniform),
            None if mask is None else self.bind(mask),
        )

    def _access(self, access: Access) -> Value:
        source = access.source
        if any(extent == 0 for extent in source.shape):
            return Value(tir.number(access.outside.value, tir.COMPUTED[access.dtype]), True)
        if isinstance(source, Scope) and source not in self.buffers:
            return self._inlined(access, source)
        return self._load(access)

    def _inlined(self, access: Access, source: Scope) -> Value:
        assert source.reducer is None, "a reduction is materialised before it is read"
        where = dict(zip(source.traversal, access.indices, strict=True))
        inner = self.value(substitute(source.body, where))
        uniform, mask = self.conditions(access)
        if uniform is None and mask is None:
            return inner
        outside = tir.COMPUTED[access.dtype]
        if mask is None and inner.uniform:
            fill = tir.number(access.outside.value, outside)
            return Value(tirx.Select(uniform, inner.expression, fill), True)
        fill = tir.number(access.outside.value, outside, self.lanes)
        chosen = self.vector(inner)
        if mask is not None:
            chosen = tirx.Select(mask, chosen, fill)
        if uniform is not None:
            chosen = tirx.Select(tir.broadcast(uniform, self.lanes), chosen, fill)
        return Value(chosen, False)

    def _load(self, access: Access) -> Value:
        buffer, flat = self.buffers[access.source], self.place(flat_index(access))
        uniform, mask = self.conditions(access)
        dtype, stored = access.dtype, tir.STORED[access.dtype]
        stride = self.lane_stride(flat)
        if stride == 0 and mask is None:
            loaded = tir.load(buffer, self.bind(self.index(flat)))
            return Value(self._guarded(scalar.from_stored(loaded, dtype, 1), uniform, access.outside, 1), True)
        if stride == 1:
            base = self.bind(self.index(flat - Index.of(self.lane)))  # type: ignore[arg-type]
            within = self._with_active(mask)
            if within is None:
                loaded = tir.load(buffer, base, self.lanes)
            else:
                blank = tir.number(0, stored, self.lanes)
                loaded = tir.masked_load(buffer, base, within, blank, tir.typed(stored, self.lanes))
            value = scalar.from_stored(loaded, dtype, self.lanes)
            if mask is not None and access.outside.value != 0:
                value = tirx.Select(mask, value, self._outside(access))
            return Value(self._guarded(value, uniform, access.outside, self.lanes), False)
        if stride == 2 and self._steps_together(access):
            value = self._every_second(access, buffer, flat, mask)
            return Value(self._guarded(value, uniform, access.outside, self.lanes), False)
        return Value(self._gathered(access, buffer, flat, uniform, mask), False)

    def _steps_together(self, access: Access) -> bool:
        """Whether the lanes step by two along the last axis alone, so that what lies between is of the same row."""
        return self.lane_stride(self.place(access.indices[-1])) == 2 and all(
            self.lane_stride(self.place(index)) == 0 for index in access.indices[:-1]
        )

    def _every_second(self, access: Access, buffer: Any, flat: Index, mask: Expression | None) -> Expression:
        """Two vectors of neighbours, of which every second element is kept: faster than loads lane by lane."""
        assert self.lane is not None
        step = Index.of(self.lane) * 2
        base, first = self.bind(self.index(flat - step)), self.bind(self.index(self.place(access.indices[-1]) - step))
        stored, lanes = tir.STORED[access.dtype], self.lanes
        index, extent = self.place(access.indices[-1]), int(access.source.shape[-1])
        halves = []
        for number in (0, 1):
            needed = 2 * self.lane.extent - 1 - number * lanes  # the last neighbour may lie behind the buffer's end
            if needed <= 0:
                halves.append(tir.number(0, stored, lanes))
                continue
            within = None if needed >= lanes else tir.first_lanes(needed, lanes)
            place = tirx.Ramp(first + tir.integer(number * lanes, self.width), 1, lanes)
            for test, operator, bound in ((index.low < 0, tirx.GE, 0), (index.high >= extent, tirx.LT, extent)):
                if test:
                    holds = operator(place, tir.number(bound, self.width, lanes))
                    within = holds if within is None else tirx.And(within, holds)
            start = base + tir.integer(number * lanes, self.width)
            if within is None:
                loaded = tir.load(buffer, start, lanes)
            else:
                blank = tir.number(0, stored, lanes)
                loaded = tir.masked_load(buffer, start, within, blank, tir.typed(stored, lanes))
            halves.append(self.bind(loaded))
        kept = tirx.Shuffle(halves, list(range(0, 2 * lanes, 2)))
        value = scalar.from_stored(kept, access.dtype, lanes)
        if mask is not None and access.outside.value != 0:
            value = tirx.Select(mask, value, self._outside(access))
        return value

    def _gathered(
        self, access: Access, buffer: Any, flat: Index, uniform: Expression | None, mask: Expression | None
    ) -> Expression:
        within = self._with_active(mask)
        position = self.lane_index(flat)
        if within is not None:
            within = self.bind(within)
            position = tirx.Select(within, position, tir.number(0, self.width, self.lanes))
        loaded = tir.gather(buffer, self.bind(position))
        value = scalar.from_stored(loaded, access.dtype, self.lanes)
        if mask is not None:
            value = tirx.Select(mask, value, self._outside(access))
        return self._guarded(value, uniform, access.outside, self.lanes)

    def _with_active(self, mask: Expression | None) -> Expression | None:
        if self.active is None or mask is None:
            return mask if self.active is None else self.active
        return tirx.And(mask, self.active)

    def _outside(self, access: Access) -> Expression:
        return tir.number(access.outside.value, tir.COMPUTED[access.dtype], self.lanes)

    def _guarded(self, value: Expression, uniform: Expression | None, outside: Constant, lanes: int) -> Expression:
        if uniform is None:
            return value
        return tirx.if_then_else(uniform, value, tir.number(outside.value, tir.COMPUTED[outside.dtype], lanes))

    # -- stores ----------------------------------------------------------------------------------------------------------

    def write(self, buffer: Any, flat: Index, value: Expression) -> Statement:
        """Stores a vector of stored values at an index, whole, masked or lane by lane."""
        flat = self.place(flat)
        stride = self.lane_stride(flat)
        if self.lane is None:
            return tir.store(buffer, value, self.index(flat))
        if stride == 1:
            base = self.bind(self.index(flat - Index.of(self.lane)))
            if self.active is None:
                return tir.store(buffer, value, base, self.lanes)
            return tir.masked_store(buffer, value, base, self.active)
        position, named = self.bind(self.lane_index(flat)), self.bind(value)
        if self.active is None:
            return tir.scatter(buffer, named, position)
        return tir.sequence(
            [
                tir.store(buffer, tirx.Shuffle([named], [lane]), tirx.Shuffle([position], [lane]))
                for lane in range(self.lane.extent)
            ]
        )
