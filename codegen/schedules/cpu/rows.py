"""Kernels that work row by row (softmax, layer normalisation): reductions of a row, then an element-wise end on the same row.

All stages of a row run before the next row's, so that a row is read from memory once and threads start once.
"""

from __future__ import annotations

from math import prod
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import contiguous_groups, merge, operations, reads
from codegen.schedules.cpu import injective
from codegen.schedules.cpu.context import Context, Epilogue, thread_range
from codegen.schedules.cpu.reduction import Nest
from tensoropt.ir.expression import Scope, accesses, scopes
from tensoropt.ir.index import Index, Iterator


def schedule(context: Context, stages: list[Epilogue]) -> Any | None:
    """The statement that computes all stages row by row; None for stages that have no rows in common."""
    *reductions, last = stages
    end = last.stage.result
    if not reductions or end.reducer is not None or any(one.stage.scope.reducer is None for one in reductions):
        return None
    rows = _real(reductions[0].stage.scope)
    columns = _real(end)[len(rows) :]
    if not rows or not columns or not all(_aligned(one.stage.result, len(rows), stages) for one in stages):
        return None
    if any(prod(iterator.extent for iterator in one.stage.scope.reduction) < 8 for one in reductions):
        return None
    found = reads(end.body, context.buffers.keys())
    groups = contiguous_groups(columns, found.watched)
    count = prod(iterator.extent for iterator in rows)
    work = end.type.elements * sum(max(1, operations(one.stage.scope.body)) for one in stages)
    if len(groups) != 1 or (work >= injective.PARALLEL_WORK and count < context.target.threads):
        return None
    threads = context.target.threads if work >= injective.PARALLEL_WORK else 1
    axes = merge([_real(end)[: len(rows)], columns], "f")
    nests = [_nest(context, one) for one in reductions]
    lanes = context.target.lanes if axes.loops[-1].extent >= 4 else 1
    row = Iterator("row", count)

    def one_row(value: Any) -> Any:
        cell, here = tir.cell(value)
        parts = [nest.one(row, here) for nest in nests]
        zero = tir.integer(0, context.width)
        return tir.sequence([*cell, *parts, injective.row(context, last, axes, lanes, here, zero, None)])

    def some(task: Any) -> Any:
        first, number = thread_range(count, threads, task, context.width)
        return tir.serial(number, lambda value: one_row(first + value), "row", context.width)

    return tir.parallel(threads, some, context.width)


def _real(scope: Scope) -> list[Iterator]:
    return [iterator for iterator in scope.traversal if iterator.extent != 1]


def _nest(context: Context, reduction: Epilogue) -> Nest:
    scope = reduction.stage.scope
    found = reads(scope.body, context.buffers.keys())
    folded = merge(contiguous_groups(scope.reduction, found.watched, "k") or [[]], "k")
    return Nest(context, reduction, merge([_real(scope)], "f"), folded)


def _aligned(result: Scope, depth: int, stages: list[Epilogue]) -> bool:
    """Whether a stage reads the others at its own row only, its first ``depth`` iterators being the row."""
    own = {stage.stage.result for stage in stages} | {stage.stage.scope for stage in stages}
    inside = [scope for scope in scopes(result) if scope is result or scope not in own]
    if len(inside) > 1 and any(access.source in own for scope in inside[:-1] for access in accesses(scope.body)):
        return False  # a written-out scope in between reads a stage: not followed
    outer = _real(result)[:depth]
    if len(outer) < depth:
        return False
    for scope in {result, *(stage.stage.scope for stage in stages if stage.stage.result is result)}:
        iterators = _real(scope)[:depth]
        for access in accesses(scope.body):
            if not isinstance(access.source, Scope) or access.source not in own or access.source is scope:
                continue
            if any(stage.stage.scope is access.source and stage.stage.result is result for stage in stages):
                continue  # the epilogue's own reduction
            wanted = [index for index, extent in zip(access.indices, access.source.shape, strict=True) if extent != 1]
            if wanted != [Index.of(iterator) for iterator in iterators]:
                return False
    return True
