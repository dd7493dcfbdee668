"""Element-wise stages and data movement: axes merged where the accesses allow it, lanes along the innermost, rows in parallel."""

from __future__ import annotations

from math import prod
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import Axes, contiguous_groups, merge, operations, reads
from codegen.schedules.context import Epilogue
from codegen.schedules.cpu.context import Context, thread_range
from tensoropt.ir.expression import substitute
from tensoropt.ir.index import Index, Iterator

PARALLEL_WORK = 1 << 15
"""Elements times operations below which starting threads costs more than it saves (some five microseconds)."""


def schedule(context: Context, epilogue: Epilogue) -> Any:
    """The statement that computes an element-wise stage."""
    scope = epilogue.stage.result
    found = reads(scope.body, context.buffers.keys())
    groups = contiguous_groups(scope.traversal, (*found.watched, epilogue.output_index()))
    lanes = context.target.lanes
    while len(groups) > 1 and prod(iterator.extent for iterator in groups[-1]) < lanes // 2:
        groups[-2:] = [[*groups[-2], *groups[-1]]]
    if not groups:
        groups = [[]]
    axes = merge(groups, "f")
    work = axes.points * max(1, operations(scope.body))
    threads = context.target.threads if work >= PARALLEL_WORK else 1
    return _nest(context, epilogue, axes, threads)


def _nest(context: Context, epilogue: Epilogue, axes: Axes, threads: int) -> Any:
    *outer, inner = axes.loops
    lanes = context.target.lanes if inner.extent >= 4 else 1
    rows = prod(loop.extent for loop in outer)
    chunks = inner.extent // lanes
    width = context.width
    if rows >= 4 * threads or (rows > 1 and rows % threads == 0):

        def rows_of(task: Any) -> Any:
            first, count = thread_range(rows, threads, task, width)
            return tir.serial(
                count,
                lambda number: row(context, epilogue, axes, lanes, first + number, tir.integer(0, width), None),
                "row",
                width,
            )

        return tir.parallel(threads, rows_of, width)

    def chunks_of(task: Any) -> Any:
        from tvm import tirx

        first, count = thread_range(chunks, threads, task, width)
        last = tirx.EQ(task, tir.integer(threads - 1, width)) if threads > 1 else None
        return tir.serial(
            rows, lambda number: row(context, epilogue, axes, lanes, number, first, count, last), "row", width
        )

    return tir.parallel(threads, chunks_of, width)


def row(
    context: Context, epilogue: Epilogue, axes: Axes, lanes: int, row: Any, first: Any, count: Any, last: Any = None
) -> Any:
    """One row: whole vectors, then what is left of it. ``count`` None is the whole row; ``last`` guards the rest."""
    *outer, inner = axes.loops
    chunks, rest = divmod(inner.extent, lanes)
    row_loop = Iterator("row", max(1, prod(loop.extent for loop in outer)))
    chunk_loop = Iterator("chunk", max(chunks, 1))
    outer_mapping: dict[Iterator, Index] = {}
    stride = 1
    for loop in reversed(outer):
        position = Index.of(row_loop) // stride
        outer_mapping[loop] = position if loop is outer[0] else position % loop.extent
        stride *= loop.extent

    scope = epilogue.stage.result
    full = {iterator: axes.mapping.get(iterator, Index.of(0)) for iterator in scope.traversal}
    body = substitute(scope.body, full)
    position = epilogue.output_index().substitute(full)

    def piece(start: Index, used: int, chunk: Any) -> Any:
        lane = Iterator("lane", used)
        where = {**outer_mapping, inner: start + (Index.of(lane) if lanes > 1 else 0)}
        emitter = context.emitter({row_loop: row, chunk_loop: chunk}, lane, lanes, where)
        value = emitter.stored(body)
        done = emitter.write(context.buffers[scope], position, value)
        return tir.sequence([*emitter.statements, done])

    parts = []
    if chunks:
        start = Index.of(chunk_loop) * lanes
        if count is None:
            parts.append(tir.serial(chunks, lambda chunk: piece(start, lanes, chunk), "chunk", context.width))
        else:
            parts.append(tir.serial(count, lambda chunk: piece(start, lanes, first + chunk), "chunk", context.width))
    if rest:
        tail = piece(Index.of(chunks * lanes), rest, tir.integer(0, context.width))
        parts.append(tail if last is None else tir.when(last, tail))
    return tir.sequence(parts)
