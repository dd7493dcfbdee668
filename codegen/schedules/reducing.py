"""Reductions on any device: axes merged, the body at a point, folds, the loops over what is reduced, and the end of a point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from codegen.lower import scalar, tir
from codegen.lower.emitter import Emitter, Value
from codegen.lower.reads import Axes, Reads, contiguous_groups, merge, plain, reads
from codegen.schedules.context import Epilogue, Surroundings
from tensoropt.ir.expression import Apply, Reducer, Scalar, Scope, reducer_identity, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import HALVES, DataType

_FOLD = {Reducer.SUM: "add", Reducer.PROD: "mul", Reducer.MAX: "max", Reducer.MIN: "min"}


def merged(context: Surroundings, epilogue: Epilogue) -> tuple[Axes, Axes]:
    """The loops over a stage's outputs and over what it reduces, as few as its accesses allow."""
    scope = epilogue.stage.scope
    found = reads(scope.body, context.buffers.keys())
    outside = reads(epilogue.body, {*context.buffers, scope})
    watched = (*found.watched, *outside.watched, epilogue.output_index())
    kept = merge(contiguous_groups(scope.traversal, watched, "f") or [[]], "f")
    return kept, merge(contiguous_groups(scope.reduction, found.watched, "k") or [[]], "k")


def along_output(context: Surroundings, scope: Scope, kept: Axes, folded: Axes) -> bool:
    """Whether lanes run along the innermost output axis rather than the innermost reduced one."""
    found = reads(scope.body, context.buffers.keys())
    outer, inner = kept.loops[-1], folded.loops[-1]
    if inner.extent < 4:
        return True
    if outer.extent < 4:
        return False
    return _awkward(found, kept.mapping, outer) * min(inner.extent, 16) <= _awkward(found, folded.mapping, inner) * min(
        outer.extent, 16
    )


def _awkward(found: Reads, mapping: Mapping[Iterator, Index], loop: Iterator) -> int:
    """How many loads are neither contiguous nor the same along a loop, plus one."""
    count = 1
    for _, flat in found.loads:
        index = flat.substitute(mapping)
        if not plain(index, loop) or index.coefficient(loop) not in (0, 1):
            count += 1
    return count


Kind = TypeVar("Kind", bound=Surroundings)


class Reduction(Generic[Kind]):
    """One reduction stage: ``kept`` are the loops over its outputs, ``folded`` those over what it reduces."""

    unrolled_taps = 32
    """Inner loops of at most so many points together are written out, so that the guards of their taps are decided beforehand."""

    def __init__(self, context: Kind, epilogue: Epilogue, kept: Axes, folded: Axes) -> None:
        self.context, self.epilogue, self.kept, self.folded = context, epilogue, kept, folded
        self.scope = epilogue.stage.scope
        self.dtype: DataType = self.scope.dtype
        self.computed = tir.COMPUTED[self.dtype]
        assert self.scope.reducer is not None
        self.reducer: Reducer = self.scope.reducer
        self.width = context.width
        zero = Index.of(0)
        points = {iterator: kept.mapping.get(iterator, zero) for iterator in self.scope.traversal}
        taps = {iterator: folded.mapping.get(iterator, zero) for iterator in self.scope.reduction}
        self.body: Scalar = substitute(self.scope.body, {**points, **taps})
        self.end = epilogue.at(points)

    def start(self, lanes: int) -> Any:
        return tir.number(reducer_identity(self.reducer, self.dtype), self.computed, lanes)

    def fold(self, emitter: Emitter, left: Any, right: Any) -> Any:
        """Folds without rounding: half types are rounded when the reduction is done."""
        dtype = DataType.FLOAT32 if self.computed == "float32" else self.dtype
        return scalar.apply(_FOLD[self.reducer], [left, right], dtype, emitter.lanes, emitter.bind)

    def finish(
        self, where: Mapping[Iterator, Index], variables: Any, lane: Iterator | None, lanes: int, folded: Any
    ) -> Any:
        """The epilogue and the store at a point (the kept loops in terms of what runs), given the reduced value."""
        access, body, position = self.end
        emitter = self.context.emitter(variables, lane, lanes, where)
        self.give(emitter, access, folded)
        stored = emitter.stored(body)
        written = emitter.write(self.context.buffers[self.epilogue.stage.result], position, stored)
        return tir.sequence([*emitter.statements, written])

    def give(self, emitter: Emitter, access: Scalar, folded: Any) -> None:
        """Tells an emitter of the epilogue the reduced value that an access to the stage reads."""
        half = self.dtype in HALVES
        value = scalar.round_half(folded, self.dtype, emitter.lanes, emitter.bind) if half else folded
        emitter.give(access, Value(emitter.bind(value), emitter.lanes == 1))

    def loops(self, step: Any) -> Any:
        """Loops over the reduction; small inner ones are unrolled."""
        loops = self.folded.loops
        split, points = len(loops), 1
        while split and points * loops[split - 1].extent <= self.unrolled_taps:
            split -= 1
            points *= loops[split].extent
        rolled, unrolled = loops[:split], loops[split:]

        def taps(values: Any) -> Any:
            fixed: list[dict[Iterator, Index]] = [{}]
            for loop in unrolled:
                fixed = [{**one, loop: Index.of(position)} for one in fixed for position in range(loop.extent)]
            own = {loop: Index.of(loop) for loop in rolled}
            return tir.sequence([step({**own, **one}, values) for one in fixed])

        def nest(depth: int, values: Any) -> Any:
            if depth == len(rolled):
                return taps(values)
            loop = rolled[depth]
            return tir.serial(
                loop.extent, lambda value: nest(depth + 1, {**values, loop: value}), loop.name, self.width
            )

        return nest(0, {})


def product_of(body: Scalar) -> list[Scalar]:
    """The factors of a body, products within products written out."""
    if isinstance(body, Apply) and body.operation == "mul":
        return [factor for argument in body.arguments for factor in product_of(argument)]
    return [body]
