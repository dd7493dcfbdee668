"""Kernels that work row by row (softmax, layer normalisation): which stages have their rows in common.

A value that several stages want (the exponential of a softmax) lies where the end will overwrite it, point by point.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from codegen.lower.reads import Axes, contiguous_groups, merge, reads
from codegen.schedules.context import Epilogue, Surroundings
from tensoropt.ir.expression import Scope, accesses, scopes
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import row_major_strides


@dataclass(frozen=True, slots=True)
class Rows:
    """Stages that have their rows in common: the iterators of the rows and of a row of the result.

    ``in_place`` is the result of an element-wise stage that can lie where the kernel's result will.
    """

    stages: tuple[Epilogue, ...]
    rows: tuple[Iterator, ...]
    columns: tuple[Iterator, ...]
    in_place: Scope | None


def recognize(context: Surroundings, stages: list[Epilogue]) -> Rows | None:
    """The rows that all stages have in common; None where they have none."""
    end = stages[-1].stage.result
    reductions = [one.stage.scope for one in stages if one.stage.scope.reducer is not None]
    stored = [one.stage.result for one in stages[:-1] if one.stage.scope.reducer is None]
    if not reductions or not end.type.elements or stages[-1].stage.scope.reducer is not None:
        return None
    depth = len(real(reductions[0]))
    rows, columns = real(end)[:depth], real(end)[depth:]
    if not rows or not columns or not all(_aligned(one.stage.result, rows, stages) for one in stages):
        return None
    if any(prod(iterator.extent for iterator in scope.reduction) < 8 for scope in reductions):
        return None
    if len(stored) > 1 or any(not _replaceable(one, end) for one in stored):
        return None
    found = reads(end.body, {*context.buffers, *(one.stage.result for one in stages)})
    if len(contiguous_groups(columns, (*found.watched, stages[-1].output_index()))) != 1:
        return None
    # what would lie where the result is written is read as row-major
    row_major = stages[-1].strides == row_major_strides(end.shape)
    return Rows(tuple(stages), tuple(rows), tuple(columns), stored[0] if stored and row_major else None)


def _replaceable(stored: Scope, end: Scope) -> bool:
    """Whether the end, which alone overwrites a stored value, reads it at its own point only."""
    own = tuple(Index.of(iterator) for iterator in end.traversal)
    inside = [access for access in accesses(end.body) if access.source is stored]
    return stored.type == end.type and all(tuple(access.indices) == own for access in inside)


def real(scope: Scope) -> list[Iterator]:
    """The axes of a scope that are longer than 1."""
    return [iterator for iterator in scope.traversal if iterator.extent != 1]


def folded_axes(context: Surroundings, scope: Scope) -> tuple[Axes, Axes]:
    """The loops over a reduction's rows, one, and over what it reduces of one."""
    found = reads(scope.body, context.buffers.keys())
    return merge([real(scope)], "f"), merge(contiguous_groups(scope.reduction, found.watched, "k") or [[]], "k")


def _aligned(result: Scope, rows: list[Iterator], stages: list[Epilogue]) -> bool:
    """Whether a stage has these rows (iterators of other names, the same extents) and reads the others at its own row only."""
    own = {stage.stage.result for stage in stages} | {stage.stage.scope for stage in stages}
    inside = [scope for scope in scopes(result) if scope is result or scope not in own]
    if len(inside) > 1 and any(access.source in own for scope in inside[:-1] for access in accesses(scope.body)):
        return False  # a written-out scope in between reads a stage: not followed
    extents = [iterator.extent for iterator in rows]
    for scope in {result, *(stage.stage.scope for stage in stages if stage.stage.result is result)}:
        here = real(scope)[: len(rows)]
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
