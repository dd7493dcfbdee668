"""Exact evaluation of single elements at real sizes.

Tensors have pseudo-random contents by position (``exact.contents``), so nothing of full size is ever held. The reduction
iterators of a sum of products are expanded one after the other, and points where a factor reads outside its box (and is 0)
are dropped as soon as the index is known: an element of a transposed convolution costs its few taps, not the whole image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tensoropt.ir.exact import (
    Domain,
    DomainRefusal,
    Value,
    apply_operation,
    constant_value,
    contents,
    convert_value,
    fold,
    is_static,
    number_value,
    positions,
    static_numbers,
)
from tensoropt.ir.expression import (
    Access,
    Apply,
    Cast,
    Constant,
    IndexValue,
    Reducer,
    Scalar,
    Scope,
    Tensor,
)
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.structure import product_factors

_ROW_LIMIT = 1 << 22
"""Points of a reduction that are held at once."""

Condition = tuple[Index, int]


class TooManyPoints(DomainRefusal):
    """A single element needs more additions than the row limit."""


def evaluate_at(scope: Scope, coordinates: Sequence[Any], domain: Domain, seed: int) -> Value:
    """The elements of a scope at points given as one integer array per axis; all points lie inside the box."""
    count = len(coordinates[0]) if coordinates else 1
    batch = max(1, _ROW_LIMIT // max(1, _estimate(scope)))
    if count <= batch:
        return _elements(scope, coordinates, count, domain, seed)
    parts = [
        evaluate_at(scope, [axis[start : start + batch] for axis in coordinates], domain, seed)
        for start in range(0, count, batch)
    ]
    return tuple(None if part[0] is None else np.concatenate(part) for part in zip(*parts, strict=True))


def _zero_conditions(scope: Scope) -> list[Condition]:
    """Index and extent of every access that makes the whole summand 0 where it leaves its box."""
    if scope.reducer is not Reducer.SUM:
        return []
    return [
        (index, int(extent))
        for factor in product_factors(scope.body)
        if isinstance(factor, Access) and factor.outside.value == 0
        for index, extent in zip(factor.indices, factor.source.shape, strict=True)
        if index.low < 0 or index.high >= extent
    ]


def _estimate(scope: Scope) -> int:
    """About how many summands an element has: iterators that a guarded index narrows count by what its box lets through."""
    narrowed: dict[Iterator, int] = {}
    for index, extent in _zero_conditions(scope):
        candidates = [(abs(step), atom) for atom, step in index.terms if isinstance(atom, Iterator)]
        for step, atom in candidates:
            if atom in scope.reduction:
                narrowed[atom] = min(narrowed.get(atom, atom.extent), -(-extent // step) + 1, atom.extent)
    total = 1
    for iterator in scope.reduction:
        total *= max(1, narrowed.get(iterator, iterator.extent))
    return total


def _elements(scope: Scope, coordinates: Sequence[Any], count: int, domain: Domain, seed: int) -> Value:
    rows: dict[Iterator, Any] = dict(zip(scope.traversal, coordinates, strict=True))
    if scope.reducer is None:
        return _scalar(scope.body, rows, count, domain, seed)
    owner = np.arange(count)
    open_conditions = _zero_conditions(scope)
    waiting = list(scope.reduction)
    while True:
        ready = [condition for condition in open_conditions if condition[0].iterators() <= rows.keys()]
        open_conditions = [condition for condition in open_conditions if condition not in ready]
        owner, rows = _pruned(owner, rows, ready)
        if not waiting:
            break
        chosen = min(waiting, key=lambda iterator: _urgency(iterator, open_conditions, rows))
        waiting.remove(chosen)
        if len(owner) * chosen.extent > 8 * _ROW_LIMIT:
            raise TooManyPoints(f"a single element has more than {8 * _ROW_LIMIT} summands")
        owner = np.repeat(owner, chosen.extent)
        repeats = {iterator: np.repeat(column, chosen.extent) for iterator, column in rows.items()}
        steps = np.tile(np.arange(chosen.extent), len(owner) // chosen.extent if chosen.extent else 0)
        rows = {**repeats, chosen: steps}
    body = _scalar(scope.body, rows, len(owner), domain, seed)
    return _folded(scope, body, owner, count, domain)


def _urgency(iterator: Iterator, conditions: list[Condition], rows: Mapping[Iterator, Any]) -> tuple[int, int]:
    closing = any(condition[0].iterators() - rows.keys() == {iterator} for condition in conditions)
    return (0 if closing else 1, iterator.extent)


def _pruned(owner: Any, rows: dict[Iterator, Any], conditions: list[Condition]) -> tuple[Any, dict[Iterator, Any]]:
    for index, extent in conditions:
        place = np.broadcast_to(np.asarray(index.evaluate(rows.__getitem__)), owner.shape)
        keep = (place >= 0) & (place < extent)
        if not keep.all():
            owner = owner[keep]
            rows = {iterator: column[keep] for iterator, column in rows.items()}
    return owner, rows


def _folded(scope: Scope, body: Value, owner: Any, count: int, domain: Domain) -> Value:
    """Rows with the same owner (they stand together) folded; owners without rows get the reducer's identity."""
    assert scope.reducer is not None
    present, starts, sizes = np.unique(owner, return_index=True, return_counts=True)
    empty = fold(
        scope.reducer, scope.dtype, tuple(None if part is None else np.empty((1, 0)) for part in body), 1, domain
    )
    parts: list[Any] = []
    folded_groups: list[tuple[Any, Value]] = []
    for size in np.unique(sizes):
        chosen = np.flatnonzero(sizes == size)
        picks = starts[chosen][:, None] + np.arange(size)[None, :]
        group = tuple(None if part is None else np.broadcast_to(part, owner.shape)[picks] for part in body)
        folded_groups.append((present[chosen], fold(scope.reducer, scope.dtype, group, 1, domain)))
    for place, part in enumerate(body):
        if part is None:
            parts.append(None)
            continue
        kinds = [values[place].dtype for _, values in folded_groups] or [empty[place].dtype]
        missing = len(present) < count
        kind = object if missing and empty[place].dtype == object else np.result_type(*kinds)
        result = np.full(count, empty[place][0] if missing else 0, dtype=kind)
        for owners, values in folded_groups:
            result[owners] = values[place]
        parts.append(result)
    return tuple(parts)


def _scalar(node: Scalar, rows: Mapping[Iterator, Any], count: int, domain: Domain, seed: int) -> Value:
    if is_static(node):
        return number_value(np.broadcast_to(static_numbers(node, rows), (count,)), domain)
    match node:
        case Constant():
            return constant_value(node, domain)
        case IndexValue():
            return number_value(np.broadcast_to(np.asarray(node.index.evaluate(rows.__getitem__)), (count,)), domain)
        case Cast():
            return convert_value(node, _scalar(node.argument, rows, count, domain, seed), domain)
        case Apply():
            operands = [_scalar(argument, rows, count, domain, seed) for argument in node.arguments]
            return apply_operation(node.operation, operands, domain)
        case Access():
            return _read(node, rows, count, domain, seed)


def _read(access: Access, rows: Mapping[Iterator, Any], count: int, domain: Domain, seed: int) -> Value:
    inside, clamped = positions(access, rows)
    inside = np.broadcast_to(inside, (count,))
    place = np.zeros(count, np.int64)
    for extent, index in zip(access.source.shape, clamped, strict=True):
        place = place * int(extent) + index
    fill = constant_value(access.outside, domain)
    if isinstance(access.source, Tensor):
        found = contents(access.source, place, domain, seed)
        return tuple(np.where(inside, part, empty) for part, empty in zip(found, fill, strict=True))
    wanted, back = np.unique(place[inside], return_inverse=True)
    if len(wanted) == 0:
        return tuple(np.broadcast_to(empty, (count,)) for empty in fill)
    shape = tuple(int(extent) for extent in access.source.shape)
    corners = list(np.unravel_index(wanted, shape)) if shape else []
    nested = evaluate_at(access.source, corners, domain, seed)
    parts: list[Any] = []
    for part, empty in zip(nested, fill, strict=True):
        if part is None:
            parts.append(None)
            continue
        values = np.broadcast_to(part, wanted.shape)
        result = np.full(count, empty, dtype=np.result_type(values.dtype, np.asarray(empty).dtype))
        result[inside] = values[back]
        parts.append(result)
    return tuple(parts)
