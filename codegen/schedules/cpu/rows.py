"""Kernels that work row by row (softmax, layer normalisation): reductions of a row, then an element-wise end on the same row.

All stages of a row run before the next row's, so that a row is read from memory once and threads start once. A value that
several of them want (the exponential of a softmax) lies where the end will overwrite it, point by point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import merge, operations
from codegen.schedules import common_rows
from codegen.schedules.common_rows import Rows, folded_axes, real
from codegen.schedules.context import Epilogue
from codegen.schedules.cpu import injective
from codegen.schedules.cpu.context import Context, thread_range
from codegen.schedules.cpu.reduction import Nest
from tensoropt.ir.index import Iterator


def recognize(context: Context, stages: list[Epilogue]) -> Rows | None:
    """The rows that all stages have in common; None where they have none, or where too few would keep threads idle."""
    found = common_rows.recognize(context, stages)
    if found is None:
        return None
    few = prod(row.extent for row in found.rows) < context.target.threads
    return None if few and _work(stages) >= injective.PARALLEL_WORK else found


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
        return Nest(context, epilogue, *folded_axes(context, epilogue.stage.scope)).one
    depth = len(found.rows)
    own = real(epilogue.stage.result)
    axes = merge([own[:depth], own[depth:]], "f")
    lanes = context.target.lanes if axes.loops[-1].extent >= 4 else 1
    zero = tir.integer(0, context.width)
    return lambda _, here: injective.row(context, epilogue, axes, lanes, here, zero, None)


def _work(stages: Sequence[Epilogue]) -> int:
    each = sum(max(1, operations(one.stage.scope.body)) for one in stages[:-1])
    return stages[-1].stage.result.type.elements * each
