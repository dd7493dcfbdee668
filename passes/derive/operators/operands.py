"""Operands of library operators: groups of iterators as axes, and data brought to the place where an operator reads it."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod

from passes.derive.naming import find_iterator
from passes.derive.operators.product import Operand, as_type, multiplied
from tensoropt.ir.expression import Access, Scope, free_iterators
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType
from tensoropt.rewrite.rule import Refusal

Group = tuple[Iterator, ...]


def fused_iterator(name: str, group: Group) -> Iterator:
    """One iterator over the mixed-radix product of a group, the last one fastest."""
    return Iterator(name, prod(iterator.extent for iterator in group))


def digits(fused: Iterator, group: Group) -> dict[Iterator, Index]:
    """The iterators of a group as digits of the fused one: the inverse of ``position``, a bijection of their boxes."""
    found: dict[Iterator, Index] = {}
    rest = Index.of(fused)
    for place, iterator in enumerate(reversed(group)):
        last = place == len(group) - 1
        found[iterator] = rest if last else rest % iterator.extent
        rest = rest // iterator.extent
    return found


def position(group: Group) -> Index:
    """The value of the fused iterator: ``((g0·|g1| + g1)·|g2| + g2)…``, the mixed-radix fuse."""
    result = Index.of(0)
    for iterator in group:
        result = result * iterator.extent + iterator
    return result


def group_of(scope: Scope, names: tuple[str, ...]) -> Group | None:
    """The iterators of these names; None where one is missing."""
    found = tuple(find_iterator((*scope.traversal, *scope.reduction), name) for name in names)
    return None if None in found else tuple(iterator for iterator in found if iterator is not None)


def relaid(operand: Operand, axes: Group, mapping: dict[Iterator, Index], dtype: DataType) -> Access:
    """A read of the operand at its axes: of the tensor itself where that permutes whole axes, else of a scope that moves it.

    Factors that the operand carries are multiplied in that scope, in the type of the sum.
    """
    moved = operand.substituted(mapping)
    access = moved.access
    if moved.carried:
        return Access(Scope(axes, multiplied(as_type(access, dtype), moved.carried)), axes)
    plain = [Index.of(axis) for axis in axes if axis.extent != 1]
    read = [index for index, extent in zip(access.indices, access.source.shape, strict=True) if extent != 1]
    whole = all(
        extent == 1 or any(index is Index.of(axis) and axis.extent == extent for axis in axes)
        for index, extent in zip(access.indices, access.source.shape, strict=True)
    )
    if whole and len(access.source.shape) == len(axes) and sorted(map(repr, plain)) == sorted(map(repr, read)):
        return access
    return Access(Scope(axes, access), axes, access.outside)


@dataclass(frozen=True, slots=True)
class Window:
    """An operand read along one axis at ``a·row + d·tap + c``, both iterators in that index only.

    ``axis`` takes the place of the window in ``operand``, ``seen`` is where the operator reads it.
    """

    operand: Operand
    axis: Iterator
    seen: Index


def windowed(operand: Operand, row: Iterator, tap: Iterator, name: str) -> Window | Refusal:
    """The window of two iterators made an axis of its own.

    **Residue-class folding**: in ``s·(a·row + d·tap) + rest`` with s the greatest common divisor, the rest holds digits below
    s, which become digits of other axes: ``f[s·p + rest]`` is relaid to ``P[rest, p]`` with p over the window's range that meets
    the data, and the window reads ``P[rest, a·row + d·tap − p₀]`` densely. This takes dilated operators to dense ones over a
    batch of residue classes, and strided ones to ones over more channels.
    """
    access = operand.access
    found = [axis for axis, index in enumerate(access.indices) if index.iterators() & {row, tap}]
    index = access.indices[found[0]] if found else Index.of(0)
    stride, dilation = index.coefficient(row), index.coefficient(tap)
    if len(found) != 1 or stride < 1 or dilation == 0:
        return Refusal(f"{row.name} and {tap.name} do not stand in one index as a window")
    if any({row, tap} & free_iterators(factor) for factor in operand.carried):
        return Refusal(f"a factor varies with {row.name} or {tap.name}")
    if operand.carried and access.outside.value != 0:
        return Refusal("a factor is multiplied to what is read outside the data")
    extent = int(access.source.shape[found[0]])
    if len(index.terms) == 2 and gcd(stride, dilation) == 1:
        axis, seen, replaced = Iterator(name, extent), index, Index.of(Iterator(name, extent))
    else:
        scale = gcd(stride, dilation)
        window = Index.of(row) * (stride // scale) + Index.of(tap) * (dilation // scale)
        rest = index - window * scale
        if rest.iterators() & {row, tap}:
            return Refusal(f"{row.name} or {tap.name} is divided")
        low = max(window.low, -(rest.high // scale))
        high = min(window.high, (extent - 1 - rest.low) // scale)
        if high < low:
            return Refusal("the window never meets the data")
        axis = Iterator(name, high - low + 1)
        seen, replaced = window - low, rest + (Index.of(axis) + low) * scale
    if axis.extent == 1:
        return Refusal("the data has a single row")
    indices = (*access.indices[: found[0]], replaced, *access.indices[found[0] + 1 :])
    return Window(Operand(Access(access.source, indices, access.outside), operand.carried), axis, seen)
