"""Kernels that work row by row (softmax, layer normalisation): reductions of a row, then an element-wise end on the same row.

All stages of a row run before the next row's, so that a row is read from memory once and threads start once. A value that
several of them want (the exponential of a softmax) lies where the end will overwrite it, point by point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import contiguous_groups, merge, operations, reads
from codegen.schedules.cpu import injective
from codegen.schedules.cpu.context import Context, Epilogue, thread_range
from codegen.schedules.cpu.reduction import Nest
from tensoropt.ir.expression import Scope, accesses, scopes
from tensoropt.ir.index import Index, Iterator


@dataclass(frozen=True, slots=True)
class Rows:
    """Stages that have their rows in common: their iterators, those of a row of the result, and the work for one point.

    ``in_place`` is the result of an element-wise stage that can lie where the kernel's result will.
    """

    stages: tuple[Epilogue, ...]
    rows: tuple[Iterator, ...]
    columns: tuple[Iterator, ...]
    in_place: Scope | None


def recognize(context: Context, stages: list[Epilogue]) -> Rows | None:
    """The rows that all stages have in common; None where they have none, or where too few would keep threads idle."""
    end = stages[-1].stage.result
    reductions = [one.stage.scope for one in stages if one.stage.scope.reducer is not None]
    stored = [one.stage.result for one in stages[:-1] if one.stage.scope.reducer is None]
    if not reductions or not end.type.elements or stages[-1].stage.scope.reducer is not None:
        return None
    depth = len(_real(reductions[0]))
    rows, columns = _real(end)[:depth], _real(end)[depth:]
    if not rows or not columns or not all(_aligned(one.stage.result, rows, stages) for one in stages):
        return None
    if any(prod(iterator.extent for iterator in scope.reduction) < 8 for scope in reductions):
        return None
    if len(stored) > 1 or any(not _replaceable(one, end) for one in stored):
        return None
    if _work(stages) >= injective.PARALLEL_WORK and prod(row.extent for row in rows) < context.target.threads:
        return None
    found = reads(end.body, {*context.buffers, *(one.stage.result for one in stages)})
    if len(contiguous_groups(columns, (*found.watched, stages[-1].output_index()))) != 1:
        return None
    return Rows(tuple(stages), tuple(rows), tuple(columns), stored[0] if stored else None)


def schedule(context: Context, found: Rows) -> Any:
    """The statement that computes all stages row by row. ``context.buffers`` holds the results of all."""
    count = prod(iterator.extent for iterator in found.rows)
    threads = context.target.threads if _work(found.stages) >= injective.PARALLEL_WORK else 1
    steps = [_step(context, found, one) for one in found.stages]
    row = Iterator("row", count)

    def one_row(value: Any) -> Any:
        cell, here = tir.cell(value)
        return tir.sequence([*cell, *(step(row, here) for step in steps)])

    def some(task: Any) -> Any:
        first, number = thread_range(count, threads, task, context.width)
        return tir.serial(number, lambda value: one_row(first + value), "row", context.width)

    return tir.parallel(threads, some, context.width)


def _step(context: Context, found: Rows, epilogue: Epilogue) -> Callable[[Iterator, Any], Any]:
    """One row of one stage: a row is counted by an iterator, whose value is given."""
    if epilogue.stage.scope.reducer is not None:
        return _nest(context, epilogue).one
    depth = len(found.rows)
    own = _real(epilogue.stage.result)
    axes = merge([own[:depth], own[depth:]], "f")
    lanes = context.target.lanes if axes.loops[-1].extent >= 4 else 1
    zero = tir.integer(0, context.width)
    return lambda _, here: injective.row(context, epilogue, axes, lanes, here, zero, None)


def _work(stages: Sequence[Epilogue]) -> int:
    each = sum(max(1, operations(one.stage.scope.body)) for one in stages[:-1])
    return stages[-1].stage.result.type.elements * each


def _replaceable(stored: Scope, end: Scope) -> bool:
    """Whether the end, which alone overwrites a stored value, reads it at its own point only."""
    own = tuple(Index.of(iterator) for iterator in end.traversal)
    inside = [access for access in accesses(end.body) if access.source is stored]
    return stored.type == end.type and all(tuple(access.indices) == own for access in inside)


def _real(scope: Scope) -> list[Iterator]:
    return [iterator for iterator in scope.traversal if iterator.extent != 1]


def _nest(context: Context, reduction: Epilogue) -> Nest:
    scope = reduction.stage.scope
    found = reads(scope.body, context.buffers.keys())
    folded = merge(contiguous_groups(scope.reduction, found.watched, "k") or [[]], "k")
    return Nest(context, reduction, merge([_real(scope)], "f"), folded)


def _aligned(result: Scope, rows: list[Iterator], stages: list[Epilogue]) -> bool:
    """Whether a stage has these rows (iterators of other names, the same extents) and reads the others at its own row only."""
    own = {stage.stage.result for stage in stages} | {stage.stage.scope for stage in stages}
    inside = [scope for scope in scopes(result) if scope is result or scope not in own]
    if len(inside) > 1 and any(access.source in own for scope in inside[:-1] for access in accesses(scope.body)):
        return False  # a written-out scope in between reads a stage: not followed
    extents = [iterator.extent for iterator in rows]
    for scope in {result, *(stage.stage.scope for stage in stages if stage.stage.result is result)}:
        here = _real(scope)[: len(rows)]
        if [iterator.extent for iterator in here] != extents:
            return False
        for access in accesses(scope.body):
            if not isinstance(access.source, Scope) or access.source not in own or access.source is scope:
                continue
            if any(stage.stage.scope is access.source and stage.stage.result is result for stage in stages):
                continue  # the epilogue's own reduction
            read = [index for index, extent in zip(access.indices, access.source.shape, strict=True) if extent != 1]
            if read[: len(rows)] != [Index.of(iterator) for iterator in here]:
                return False
            if access.source.reducer is not None and len(read) > len(rows):
                return False
    return True
