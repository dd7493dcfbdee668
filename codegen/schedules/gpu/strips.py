"""Folds over small windows (depthwise convolution, pooling): a thread has several neighbours of a row.

Neighbours read mostly the same elements, and all of them the same weights. Everything is written out, so that an access that
several results share is one node of the expression and one load.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from codegen.lower import tir
from codegen.lower.reads import reads, unflatten
from codegen.schedules.gpu.context import Body, Context
from codegen.schedules.gpu.injective import one_each
from codegen.schedules.reducing import Reduction
from tensoropt.ir.expression import Access, Scalar, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType

_MOST = 8
"""Results of a thread."""
_WRITTEN_OUT = 100
"""Elements that are folded in a thread, one after another."""
_SHARED = 0.75
"""Share of the loads that must be left for it to be worth fewer threads."""
_FILLED = 512
"""Threads that a multiprocessor needs to have something to do while others wait for memory."""


def lengths(fold: Reduction[Context]) -> list[int]:
    """How many neighbours a thread may compute: what is taken first, which is 1 where they have little in common, or where too few
    threads would be left."""
    inner, folded = fold.kept.loops[-1], fold.folded.points
    if fold.dtype is DataType.BOOL or inner.extent < 2 or folded > _WRITTEN_OUT // 2:
        return [1]
    counts = [count for count in range(2, _MOST + 1) if inner.extent % count == 0 and folded * count <= _WRITTEN_OUT]
    alone, least = _loads(fold, 1), _FILLED * fold.context.target.multiprocessors
    enough = [count for count in counts if fold.kept.points // count >= least]
    share, count = min([(1.0, 1), *((_loads(fold, count) / (alone * count), count) for count in enough)])
    taken = count if share <= _SHARED else 1
    return [taken, *(count for count in (1, *counts) if count != taken)]


def schedule(fold: Reduction[Context], count: int, size: int) -> Body:
    """The launch, in which a thread has ``count`` neighbours along the innermost loop over outputs; blocks have ``size``."""
    *outer, inner = fold.kept.loops
    strip = Iterator("strip", inner.extent // count)
    element = Iterator("element", fold.kept.points // count)
    where = unflatten(Index.of(element), [*outer, strip])

    def one(number: Any) -> Any:
        variables: Mapping[Iterator, Any] = {element: number}
        emitter = fold.context.emitter(variables, where=where)
        totals = [fold.start(1)] * count
        for place, node in _elements(fold, strip, count):
            totals[place] = emitter.bind(fold.fold(emitter, totals[place], emitter.vector(emitter.value(node))))
        ends = [
            fold.finish({**where, inner: where[strip] * count + place}, variables, None, 1, total)
            for place, total in enumerate(totals)
        ]
        return tir.sequence([*emitter.statements, *ends])

    return one_each(fold.context, element.extent, one, size)


def _elements(fold: Reduction[Context], strip: Iterator, count: int) -> list[tuple[int, Scalar]]:
    """What a thread folds: the number of the result, and the element."""
    inner, loops = fold.kept.loops[-1], fold.folded.loops
    found = []
    for tap in product(*(range(loop.extent) for loop in loops)):
        taps = {loop: Index.of(value) for loop, value in zip(loops, tap, strict=True)}
        for place in range(count):
            point = Index.of(strip) * count + place
            found.append((place, substitute(fold.body, {**taps, inner: point})))
    return found


def _loads(fold: Reduction[Context], count: int) -> int:
    """How many different elements a thread reads."""
    strip = Iterator("strip", fold.kept.loops[-1].extent // count)
    seen: set[tuple[Access, Index]] = set()
    for _, node in _elements(fold, strip, count):
        seen.update(reads(node, fold.context.buffers.keys()).loads)
    return max(1, len(seen))
