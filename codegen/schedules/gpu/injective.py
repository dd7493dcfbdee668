"""Element-wise stages and data movement: a thread for each element, or for as many neighbours as it can read and write at once."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from codegen.device.table import ALIGNED
from codegen.lower import tir
from codegen.lower.reads import Axes, contiguous_groups, merge, reads, unflatten
from codegen.schedules.context import Epilogue
from codegen.schedules.gpu.context import Body, Context, Threads, wide
from codegen.schedules.gpu.neighbours import Neighbours, at_once, each, neighbours, write
from tensoropt.ir.expression import Scalar, substitute
from tensoropt.ir.index import Index, Iterator

THREADS = 256
"""Of a block, where nothing else decides: few blocks fill a multiprocessor, and each thread has registers enough."""

_SIZES = (128, 64)
"""Of a block, besides."""


def schedule(context: Context, epilogue: Epilogue) -> tuple[str, Body]:
    """The name of the schedule and the launch that computes an element-wise stage."""
    scope = epilogue.stage.result
    watched = reads(scope.body, context.buffers.keys()).watched
    axes = merge(contiguous_groups(scope.traversal, (*watched, epilogue.output_index())) or [[]], "f")
    *outer, inner = axes.loops
    body, position = _over_loops(epilogue, axes)

    def at_most(most: int) -> Neighbours:
        def wanted(count: int, chunk: Iterator) -> bool:
            return count <= most and at_once(context, scope, each(position, inner, chunk, count))

        return neighbours(context, body, inner, scope.dtype.itemsize, wanted)

    filled = axes.points // (THREADS * context.target.multiprocessors)
    together = [at_most(filled)]
    for most in (ALIGNED, *(1 << power for power in reversed(range(ALIGNED.bit_length() - 1)))):
        if all(one.count != most for one in together) and (other := at_most(most)).count == most:
            together.append(other)
    sizes = block_sizes(context)
    found, size = context.chosen("injective", list(product(together, sizes)))
    label = "injective" if found is together[0] else f"injective by {found.count}"
    element = Iterator("element", axes.points // found.count)
    where = unflatten(Index.of(element), [*outer, found.chunk])

    def some(number: Any) -> Any:
        emitter = context.emitter({element: number}, where=where)
        found.read(context, emitter)
        values = [emitter.stored(one) for one in found.bodies]
        return write(context, emitter, scope, found.places(position)[0], values)

    return label + in_blocks(size, sizes[0]), one_each(context, element.extent, some, size)


def _over_loops(epilogue: Epilogue, axes: Axes) -> tuple[Scalar, Index]:
    """The body of an element and its place, in terms of the axes' loops."""
    scope = epilogue.stage.result
    full = {iterator: axes.mapping.get(iterator, Index.of(0)) for iterator in scope.traversal}
    return substitute(scope.body, full), epilogue.output_index().substitute(full)


def block_sizes(context: Context) -> list[int]:
    """Threads of a block, where nothing else decides: what is taken, and what can be tried."""
    usual = min(THREADS, context.target.max_threads)
    return [usual, *(size for size in _SIZES if size < usual)]


def in_blocks(size: int, usual: int) -> str:
    """What a schedule's name says of its blocks: nothing where they have as many threads as usual."""
    return "" if size == usual else f" in blocks of {size}"


def one_each(context: Context, count: int, body: Any, size: int) -> Body:
    """A launch with one thread for each of so many points, ``size`` in a block; ``body`` gets the point's number."""
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
