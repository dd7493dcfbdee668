"""Element-wise stages and data movement: a thread for each element, neighbours side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import Axes, contiguous_groups, merge, reads, unflatten
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.context import Body, Context, Threads, wide
from tensoropt.ir.expression import substitute
from tensoropt.ir.index import Index, Iterator

THREADS = 256
"""Of a block, where nothing else decides: few blocks fill a multiprocessor, and each thread has registers enough."""


def schedule(context: Context, epilogue: Epilogue) -> Body:
    """The launch that computes an element-wise stage."""
    scope = epilogue.stage.result
    found = reads(scope.body, context.buffers.keys())
    axes = merge(contiguous_groups(scope.traversal, (*found.watched, epilogue.output_index())) or [[]], "f")
    element = Iterator("element", axes.points)
    return one_each(
        context, axes.points, lambda number: point(context, epilogue, axes, unflatten(Index.of(element), axes.loops),
                                                   {element: number})
    )  # fmt: skip


def one_each(context: Context, count: int, body: Any) -> Body:
    """A launch with one thread for each of so many points; ``body`` gets the point's number."""
    size = min(THREADS, context.target.max_threads)
    threads = Threads((-(-count // size),), (size,))
    first = wide(threads.block[0], context.width) * tir.integer(size, context.width)
    cell, number = tir.cell(first + wide(threads.thread[0], context.width))
    statement = body(number)
    if count % size:
        statement = tir.when(number < tir.integer(count, context.width), statement)
    return Body(tir.sequence([*cell, statement]), threads)


def point(
    context: Context, epilogue: Epilogue, axes: Axes, where: Mapping[Iterator, Index], variables: Mapping[Iterator, Any]
) -> Any:
    """One element of the stage: its axes' loops are ``where`` in terms of iterators whose values are given."""
    scope = epilogue.stage.result
    full = {iterator: axes.mapping.get(iterator, Index.of(0)) for iterator in scope.traversal}
    emitter = context.emitter(variables, where=where)
    value = emitter.stored(substitute(scope.body, full))
    position = epilogue.output_index().substitute(full)
    done = emitter.write(context.buffers[scope], position, value)
    return tir.sequence([*emitter.statements, done])
