"""Kernels that work row by row (softmax, layer normalisation) in one launch: a block for each row, one stage after another.

What a stage leaves for the next ones lies in global memory, where the block's own caches still have it.
"""

from __future__ import annotations

from math import prod
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import merge
from codegen.schedules.common_rows import Rows, folded_axes, real
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu import injective
from codegen.schedules.gpu.context import Body, Context, Threads, barrier, wide
from codegen.schedules.gpu.injective import in_blocks
from codegen.schedules.gpu.reduction import Fold, row_sizes
from tensoropt.ir.index import Index, Iterator


def schedule(context: Context, found: Rows) -> tuple[str, Body]:
    """The name of the schedule and the launch that computes all stages. ``context.buffers`` holds the results of all."""
    count = prod(iterator.extent for iterator in found.rows)
    columns = prod(iterator.extent for iterator in found.columns)
    sizes = row_sizes(context, columns)
    size = context.chosen("rows", sizes)
    threads = Threads((count,), (size,))
    row, value = Iterator("row", count), wide(threads.block[0], context.width)
    steps: list[Any] = []
    for stage in found.stages:
        if steps:
            steps.append(barrier())
        if stage.stage.scope.reducer is not None:
            fold = Fold(context, stage, *folded_axes(context, stage.stage.scope))
            steps.append(fold.one(row, value, threads))
        else:
            steps.append(_elements(context, found, stage, row, value, threads))
    where = "" if found.in_place is None else " in place"
    return f"rows of {len(found.stages)} stages{where}{in_blocks(size, sizes[0])}", Body(tir.sequence(steps), threads)


def _elements(context: Context, found: Rows, stage: Epilogue, row: Iterator, value: Any, threads: Threads) -> Any:
    """One row of an element-wise stage: every thread has every so manieth column."""
    own = real(stage.stage.result)
    depth = len(found.rows)
    axes = merge([own[:depth], own[depth:]], "f")
    size, thread, width = threads.size[0], wide(threads.thread[0], context.width), context.width
    rounds, rest = divmod(axes.loops[1].extent, size)
    mine, turn = Iterator("thread", size), Iterator("turn", max(1, rounds))

    def share(first: Index, variables: dict[Iterator, Any]) -> Any:
        where = {axes.loops[0]: Index.of(row), axes.loops[1]: first + Index.of(mine)}
        return injective.point(context, stage, axes, where, {row: value, mine: thread, **variables})

    parts = []
    if rounds:
        parts.append(tir.serial(rounds, lambda number: share(Index.of(turn) * size, {turn: number}), "turn", width))
    if rest:
        parts.append(tir.when(thread < tir.integer(rest, width), share(Index.of(rounds * size), {})))
    return tir.sequence(parts)
