"""Element-wise stages and data movement: a thread for each element, or for as many neighbours as it can read and write at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import Axes, contiguous_groups, merge, reads, unflatten
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.context import Body, Context, Threads, wide
from codegen.schedules.gpu.neighbours import at_once, each, neighbours, write
from tensoropt.ir.expression import Scalar, substitute
from tensoropt.ir.index import Index, Iterator

THREADS = 256
"""Of a block, where nothing else decides: few blocks fill a multiprocessor, and each thread has registers enough."""


def schedule(context: Context, epilogue: Epilogue) -> Body:
    """The launch that computes an element-wise stage."""
    scope = epilogue.stage.result
    watched = reads(scope.body, context.buffers.keys()).watched
    axes = merge(contiguous_groups(scope.traversal, (*watched, epilogue.output_index())) or [[]], "f")
    *outer, inner = axes.loops
    body, position = _over_loops(epilogue, axes)

    def wanted(count: int, chunk: Iterator) -> bool:
        enough = axes.points // count >= THREADS * context.target.multiprocessors
        return enough and at_once(context, scope, each(position, inner, chunk, count))

    found = neighbours(context, body, inner, scope.dtype.itemsize, wanted)
    element = Iterator("element", axes.points // found.count)
    where = unflatten(Index.of(element), [*outer, found.chunk])

    def some(number: Any) -> Any:
        emitter = context.emitter({element: number}, where=where)
        found.read(context, emitter)
        values = [emitter.stored(one) for one in found.bodies]
        return write(context, emitter, scope, found.places(position)[0], values)

    return one_each(context, element.extent, some)


def _over_loops(epilogue: Epilogue, axes: Axes) -> tuple[Scalar, Index]:
    """The body of an element and its place, in terms of the axes' loops."""
    scope = epilogue.stage.result
    full = {iterator: axes.mapping.get(iterator, Index.of(0)) for iterator in scope.traversal}
    return substitute(scope.body, full), epilogue.output_index().substitute(full)


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
    body, position = _over_loops(epilogue, axes)
    emitter = context.emitter(variables, where=where)
    value = emitter.stored(body)
    done = emitter.write(context.buffers[epilogue.stage.result], position, value)
    return tir.sequence([*emitter.statements, done])
