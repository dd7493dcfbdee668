"""Element-wise stages and data movement: a thread for each element, or for as many neighbours as it can read and write at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import Axes, contiguous_groups, merge, reads, unflatten
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.context import Body, Context, Threads, wide
from codegen.schedules.gpu.neighbours import Neighbours, neighbours, side_by_side, write
from tensoropt.ir.expression import Scalar, substitute
from tensoropt.ir.index import Index, Iterator

THREADS = 256
"""Of a block, where nothing else decides: few blocks fill a multiprocessor, and each thread has registers enough."""


def schedule(context: Context, epilogue: Epilogue) -> Body:
    """The launch that computes an element-wise stage."""
    scope = epilogue.stage.result
    watched = reads(scope.body, context.buffers.keys()).watched
    axes = merge(contiguous_groups(scope.traversal, (*watched, epilogue.output_index())) or [[]], "f")
    found = _neighbours(context, epilogue, axes)
    if found is not None:
        return _by_neighbours(context, epilogue, axes, found)
    element = Iterator("element", axes.points)
    return one_each(
        context, axes.points, lambda number: point(context, epilogue, axes, unflatten(Index.of(element), axes.loops),
                                                   {element: number})
    )  # fmt: skip


def _neighbours(context: Context, epilogue: Epilogue, axes: Axes) -> Neighbours | None:
    """The neighbours that a thread has; None where it has one element."""
    result, inner = epilogue.stage.result, axes.loops[-1]
    body, position = _over_loops(epilogue, axes)

    def wanted(count: int) -> bool:
        enough = axes.points // count >= THREADS * context.target.multiprocessors
        places = [position.substitute({inner: Index.of(inner) * count + lane}) for lane in range(count)]
        return enough and side_by_side(context, result, places)

    return neighbours(context, body, inner, result.dtype, wanted)


def _by_neighbours(context: Context, epilogue: Epilogue, axes: Axes, found: Neighbours) -> Body:
    """The launch in which a thread has several elements along the innermost loop."""
    result = epilogue.stage.result
    element = Iterator("element", axes.points // found.count)
    where = unflatten(Index.of(element), [*axes.loops[:-1], found.chunk])
    _, position = _over_loops(epilogue, axes)

    def some(number: Any) -> Any:
        emitter = context.emitter({element: number}, where=where)
        found.read(context, emitter)
        values = [emitter.stored(body) for body in found.bodies]
        first = position.substitute({found.loop: found.first})
        return tir.sequence(write(emitter, context.buffers[result], result.dtype, first, values))

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
