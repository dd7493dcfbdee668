"""Exact evaluation of single elements at real sizes.

Tensors have pseudo-random contents by position (``exact.contents``), so nothing of full size is ever held. The reduction
iterators of a sum of products are expanded one after the other, and points where a factor reads outside its box (and is 0)
are dropped as soon as the index is known: an element of a transposed convolution costs its few taps, not the whole image.
Nested scopes that only move elements are looked through. Several assignments of contents are evaluated at once, on a leading
axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensoropt.ir.exact import contents, is_static, positions, static_numbers
from tensoropt.ir.exact_arithmetic import apply_operation, constant_value, convert_value, fold, number_value
from tensoropt.ir.exact_domains import Domain, DomainRefusal, Value
from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.structure import product_factors

_ROW_LIMIT = 1 << 21
"""Summands that are held at once; more are split by points, and a single point may have eight times as many."""

Rows = Mapping[Iterator, Any]


class TooManyPoints(DomainRefusal):
    """A single element needs more additions than the row limit."""


def evaluate_at(scope: Scope, coordinates: Sequence[Any], domain: Domain, seeds: Sequence[int]) -> Value:
    """The elements of a scope at points given as one integer array per axis, inside the box; one row for each seed."""
    count = len(coordinates[0]) if coordinates else 1
    return _Points(domain, tuple(seeds)).of(scope, coordinates, count)


@dataclass(frozen=True, slots=True)
class _Guard:
    """An index of which the whole summand is 0 where it leaves ``[0, extent)``."""

    needs: frozenset[Iterator]
    place: Callable[[Rows], Any]
    extent: int


def _guards(body: Scalar) -> list[_Guard]:
    """The guards of a product, those of factors that move elements from elsewhere included."""
    found: list[_Guard] = []
    for factor in product_factors(body):
        if not isinstance(factor, Access) or factor.outside.value != 0:
            continue
        for index, extent in zip(factor.indices, factor.source.shape, strict=True):
            if index.low < 0 or index.high >= extent:
                found.append(_Guard(index.iterators(), _evaluated(index), int(extent)))
        inner = factor.source
        if isinstance(inner, Scope) and inner.reducer is None and inner.type.elements:
            found += [_composed(guard, factor) for guard in _guards(inner.body)]
    return found


def _evaluated(index: Any) -> Callable[[Rows], Any]:
    return lambda rows: np.asarray(index.evaluate(rows.__getitem__))


def _composed(guard: _Guard, access: Access) -> _Guard:
    """A guard of a nested scope as one of the scope that reads it; where the read itself leaves the box, it is 0 anyway."""
    assert isinstance(access.source, Scope)
    read = {
        iterator: index
        for iterator, index in zip(access.source.traversal, access.indices, strict=True)
        if iterator in guard.needs
    }

    def place(rows: Rows) -> Any:
        inner = {
            iterator: np.clip(np.asarray(index.evaluate(rows.__getitem__)), 0, iterator.extent - 1)
            for iterator, index in read.items()
        }
        return guard.place(inner)

    return _Guard(frozenset().union(*(index.iterators() for index in read.values())), place, guard.extent)


@dataclass(frozen=True, slots=True)
class _Points:
    """Evaluates elements in a domain for some seeds. Values have one row for each seed, or are plain where all agree."""

    domain: Domain
    seeds: tuple[int, ...]

    def of(self, scope: Scope, coordinates: Sequence[Any], count: int) -> Value:
        """The elements at so many points; halves are taken one after the other where all together are too many."""
        rows: dict[Iterator, Any] = dict(zip(scope.traversal, coordinates, strict=True))
        if scope.reducer is None:
            return self._full(self._scalar(scope.body, rows, count), count)
        try:
            return self._folded_rows(scope, rows, count, 1 if count > 1 else 8)
        except TooManyPoints:
            if count < 2:
                raise
        parts = [
            self.of(scope, [axis[half] for axis in coordinates], len(np.arange(count)[half]))
            for half in (slice(0, count // 2), slice(count // 2, count))
        ]
        return tuple(None if part[0] is None else np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))

    def _full(self, value: Value, count: int) -> Value:
        return tuple(None if part is None else np.broadcast_to(part, (len(self.seeds), count)) for part in value)

    def _folded_rows(self, scope: Scope, rows: dict[Iterator, Any], count: int, patience: int) -> Value:
        owner = np.arange(count)
        guards = _guards(scope.body) if scope.reducer is Reducer.SUM else []
        waiting = list(scope.reduction)
        while True:
            ready = [guard for guard in guards if guard.needs <= rows.keys()]
            guards = [guard for guard in guards if guard not in ready]
            owner, rows = _pruned(owner, rows, ready)
            if not waiting:
                break
            chosen = min(waiting, key=lambda iterator: _urgency(iterator, guards, rows))
            waiting.remove(chosen)
            if len(owner) * chosen.extent > patience * _ROW_LIMIT:
                raise TooManyPoints(f"a single element has more than {8 * _ROW_LIMIT} summands")
            owner = np.repeat(owner, chosen.extent)
            repeats = {iterator: np.repeat(column, chosen.extent) for iterator, column in rows.items()}
            steps = np.tile(np.arange(chosen.extent), len(owner) // chosen.extent if chosen.extent else 0)
            rows = {**repeats, chosen: steps}
        body = self._full(self._scalar(scope.body, rows, len(owner)), len(owner))
        return self._folded(scope, body, owner, count)

    def _folded(self, scope: Scope, body: Value, owner: Any, count: int) -> Value:
        """Rows with the same owner (they stand together) folded; owners without rows get the reducer's identity."""
        assert scope.reducer is not None
        sizes = np.bincount(owner, minlength=count)
        starts = np.cumsum(sizes) - sizes
        results: list[Any] = [None] * len(body)
        for size in np.unique(sizes):
            chosen = np.flatnonzero(sizes == size)
            if len(chosen) == count:
                picks: Any = slice(None)
            else:
                picks = (starts[chosen][:, None] + np.arange(size)[None, :]).reshape(-1)
            group = tuple(
                None if part is None else part[:, picks].reshape(len(self.seeds), len(chosen), size) for part in body
            )
            for place, values in enumerate(fold(scope.reducer, scope.dtype, group, 1, self.domain)):
                if values is None:
                    continue
                results[place] = _placed(results[place], chosen, values, (len(self.seeds), count))
        return tuple(results)

    def _scalar(self, node: Scalar, rows: Rows, count: int) -> Value:
        if is_static(node):
            return number_value(np.broadcast_to(static_numbers(node, rows), (count,)), self.domain)
        match node:
            case Constant():
                return constant_value(node, self.domain)
            case IndexValue():
                numbers = np.broadcast_to(np.asarray(node.index.evaluate(rows.__getitem__)), (count,))
                return number_value(numbers, self.domain)
            case Cast():
                return convert_value(node, self._scalar(node.argument, rows, count), self.domain)
            case Apply():
                operands = [self._scalar(argument, rows, count) for argument in node.arguments]
                return apply_operation(node.operation, operands, self.domain)
            case Access():
                return self._read(node, rows, count)

    def _read(self, access: Access, rows: Rows, count: int) -> Value:
        inside, clamped = positions(access, rows)
        source = access.source
        if isinstance(source, Tensor):
            place: Any = 0
            for extent, index in zip(source.shape, clamped, strict=True):
                place = place * int(extent) + index
            each = [contents(source, place, self.domain, seed) for seed in self.seeds]
            found: Value = tuple(np.stack(parts).reshape(len(each), -1) for parts in zip(*each, strict=True))
        elif not source.type.elements:
            inside, found = np.False_, constant_value(access.outside, self.domain)
        elif source.reducer is None:
            found = self._scalar(source.body, dict(zip(source.traversal, clamped, strict=True)), count)
        else:
            return self._read_fold(access, source, inside, clamped, count)
        if inside is np.True_:
            return found
        fill = constant_value(access.outside, self.domain)
        return tuple(
            None if part is None else np.where(inside, part, empty) for part, empty in zip(found, fill, strict=True)
        )

    def _read_fold(self, access: Access, source: Scope, inside: Any, clamped: tuple[Any, ...], count: int) -> Value:
        """Elements of a nested scope that folds; each is computed once."""
        place = np.zeros(count, np.int64)
        for extent, index in zip(source.shape, clamped, strict=True):
            place = place * int(extent) + index
        inside = np.broadcast_to(inside, (count,))
        fill = constant_value(access.outside, self.domain)
        wanted, back = np.unique(place[inside], return_inverse=True)
        if len(wanted) == 0:
            return tuple(np.broadcast_to(empty, (len(self.seeds), count)) for empty in fill)
        shape = tuple(int(extent) for extent in source.shape)
        corners = list(np.unravel_index(wanted, shape)) if shape else []
        nested = self.of(source, corners, len(wanted))
        return tuple(
            None if part is None else _spread(part[:, back], inside, empty)
            for part, empty in zip(nested, fill, strict=True)
        )


def _urgency(iterator: Iterator, guards: list[_Guard], rows: Rows) -> tuple[int, int]:
    closing = any(guard.needs - rows.keys() == {iterator} for guard in guards)
    return (0 if closing else 1, iterator.extent)


def _pruned(owner: Any, rows: dict[Iterator, Any], guards: list[_Guard]) -> tuple[Any, dict[Iterator, Any]]:
    for guard in guards:
        place = np.broadcast_to(guard.place(rows), owner.shape)
        keep = (place >= 0) & (place < guard.extent)
        if not keep.all():
            owner = owner[keep]
            rows = {iterator: column[keep] for iterator, column in rows.items()}
    return owner, rows


def _placed(result: Any, chosen: Any, values: Any, shape: tuple[int, int]) -> Any:
    """The values put at the chosen points of a result, made or widened where it cannot hold them."""
    if len(chosen) == shape[1]:
        return values
    if result is None:
        result = np.zeros(shape, values.dtype)
    elif result.dtype != values.dtype:
        result = result.astype(np.result_type(result.dtype, values.dtype))
    result[:, chosen] = values
    return result


def _spread(values: Any, inside: Any, fill: Any) -> Any:
    """Values put where ``inside`` holds, and the fill elsewhere."""
    if inside.all():
        return values
    result = np.full((len(values), len(inside)), fill, dtype=np.result_type(values.dtype, np.asarray(fill).dtype))
    result[:, inside] = values
    return result
