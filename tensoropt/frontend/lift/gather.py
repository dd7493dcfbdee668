"""Gather, GatherElements and GatherND by constant indices that are quasi-affine in the position."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tensoropt.frontend.lift.affine_table import fit_clamped, fit_index
from tensoropt.frontend.lift.axes import normal_axis, output_iterators
from tensoropt.frontend.lift.node import Node, NotExpressed
from tensoropt.frontend.lift.scalars import select
from tensoropt.ir.expression import Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array, Statement

_LONGEST_LIST = 16


def lift_gather(node: Node) -> list[Statement]:
    """``x[.., table(i..), ..]``."""
    operand = node.operand(0)
    axis = normal_axis(int(node.attribute("axis", 0)), operand.rank)
    table = _checked(node.constant(1), operand.shape[axis])
    iterators = output_iterators(node.shape)
    before, inner = iterators[:axis], iterators[axis : axis + table.ndim]
    after = iterators[axis + table.ndim :]
    body = read_table(table, inner, lambda index: operand.at([*before, index, *after]))
    return [node.compute(node.output, iterators, body)]


def lift_gather_elements(node: Node) -> list[Statement]:
    """``x[i.., table(i..), ..]`` with a table of the output's shape."""
    operand = node.operand(0)
    axis = normal_axis(int(node.attribute("axis", 0)), operand.rank)
    table = _checked(node.constant(1), operand.shape[axis])
    iterators = output_iterators(node.shape)

    def at(index: Index) -> Scalar:
        return operand.at(index if position == axis else iterator for position, iterator in enumerate(iterators))

    return [node.compute(node.output, iterators, read_table(table, iterators, at))]


def lift_gather_nd(node: Node) -> list[Statement]:
    """Several leading axes at once, each by a table that must be quasi-affine by itself."""
    operand, tables = node.operand(0), node.constant(1)
    batch = int(node.attribute("batch_dims", 0))
    count = tables.shape[-1]
    iterators = output_iterators(node.shape)
    inner = iterators[: tables.ndim - 1]
    indices = [Index.of(iterator) for iterator in iterators[:batch]]
    for component in range(count):
        found = fit_index(_checked(tables[..., component], operand.shape[batch + component]), inner)
        if found is None:
            raise NotExpressed("the indices are not quasi-affine")
        indices.append(found)
    rest = iterators[tables.ndim - 1 :]
    return [node.compute(node.output, iterators, operand.at([*indices, *rest]))]


def read_table(table: Array, iterators: Sequence[Iterator], at: Callable[[Index], Scalar]) -> Scalar:
    """The element that a table of positions points to: by a quasi-affine index, a clamped one, or a short list of cases."""
    index = fit_index(table, iterators)
    if index is not None:
        return at(index)
    clamped = fit_clamped(table, iterators)
    if clamped is not None:
        pieces = [(clamped.high + 1, at(clamped.index))]
        if clamped.index.low < clamped.low:
            pieces.insert(0, (clamped.low, at(Index.of(clamped.low))))
        if clamped.index.high > clamped.high:
            pieces.append((clamped.index.high + 1, at(Index.of(clamped.high))))
        return select(pieces, clamped.index)
    if table.size <= _LONGEST_LIST:
        flat = Index.of(0)
        for iterator in iterators:
            flat = flat * iterator.extent + iterator
        return select(
            [(position + 1, at(Index.of(int(value)))) for position, value in enumerate(table.reshape(-1))], flat
        )
    raise NotExpressed("the indices are not quasi-affine")


def _checked(table: Array, extent: int) -> Array:
    table = np.asarray(table, np.int64)
    if table.size and (int(table.min()) < -extent or int(table.max()) >= extent):
        raise NotExpressed("an index leaves the axis")
    return np.where(table < 0, table + extent, table)
