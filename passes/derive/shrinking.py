"""Smaller expressions of the same form, on which a derivation is checked in full.

Kept are: which iterators have one element, divisors and the sizes that they divide, kernel sizes, strides and padding, and
the residues of what is cut by the coefficients it stands beside. So every boundary case and residue class of the real sizes
is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm

from passes.derive.proposals import components
from tensoropt.ir.expression import Access, Scalar, Scope, Tensor, accesses, map_scalar
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo
from tensoropt.ir.types import Extent, TensorType

_PLAIN = (3, 2, 4)
"""Sizes of axes that are only ever addressed by one iterator; different ones, so that a mix-up shows."""

_TAPS = 12
"""Iterators up to this size that stand beside others keep it: they are taps of a window."""

Axis = tuple[Tensor, int]


def shrunk(scope: Scope, room: int, least: Mapping[str, int]) -> Scope:
    """The scope (which reads tensors only) with axes longer than ``room`` beyond its windows made shorter.

    ``least`` gives by an iterator's name what it is split by: it keeps more than that, and its residue.
    """
    reads = [access for access in accesses(scope.body) if isinstance(access.source, Tensor)]
    extents = _new_extents(scope, reads, room, least)
    shapes = _new_shapes(scope, reads, extents)
    iterators = {iterator: Iterator(iterator.name, extents[iterator]) for iterator in extents}
    mapping = {old: Index.of(new) for old, new in iterators.items()}

    def leaf(node: Scalar) -> Scalar:
        if not isinstance(node, Access) or not isinstance(node.source, Tensor):
            return node
        old = node.source
        type = TensorType(
            old.dtype, tuple(Extent(shapes[old, axis]) for axis in range(len(old.shape))), old.type.layout
        )
        return Access(Tensor(old.name, type), [index.substitute(mapping) for index in node.indices], node.outside)

    return Scope(
        [iterators[iterator] for iterator in scope.traversal],
        map_scalar(scope.body, leaf),
        [iterators[iterator] for iterator in scope.reduction],
        scope.reducer,
    )


def _mixed(reads: list[Access]) -> list[tuple[Index, Axis]]:
    """Indices with a boundary: iterators beside others in a component, divided, or shifted. Digits have none."""
    found = []
    for access in reads:
        assert isinstance(access.source, Tensor)
        for axis, index in enumerate(access.indices):
            divided = any(not isinstance(atom, Iterator) for atom, _ in index.terms)
            if divided or (index.constant and index.terms) or any(len(terms) > 1 for terms in components(index)):
                found.append((index, (access.source, axis)))
    return found


def _new_extents(scope: Scope, reads: list[Access], room: int, least: Mapping[str, int]) -> dict[Iterator, int]:
    mixed = _mixed(reads)
    entangled = {iterator for index, _ in mixed for iterator in _entangled(index)}
    extents: dict[Iterator, int] = {}
    for place, iterator in enumerate((*scope.traversal, *scope.reduction)):
        plain = iterator not in entangled
        extents[iterator] = (
            min(iterator.extent, _PLAIN[place % 3]) if plain and iterator.extent > 1 else iterator.extent
        )
    for iterator in entangled:
        divisors = [
            atom.divisor for index, _ in mixed for atom in _divisions(index) if iterator in atom.index.iterators()
        ]
        if divisors:
            period = lcm(*divisors)
            if iterator.extent > 2 * period:
                extents[iterator] = 2 * period + iterator.extent % period
    for index, (tensor, axis) in mixed:
        linear = [(atom, step) for atom, step in index.terms if isinstance(atom, Iterator)]
        if len(linear) < len(index.terms):
            continue
        window = min(int(tensor.shape[axis]), 2 * room)
        falling = [(atom, step) for atom, step in linear if step < 0]
        rising = [(atom, step) for atom, step in linear if step > 0]
        if falling and rising:
            _shrink_difference(extents, rising, falling, window, room)
            continue
        period = lcm(*(abs(step) for _, step in linear))
        padding = 2 * abs(index.constant)
        windows = {atom for atom, step in linear if atom.extent <= _TAPS or abs(step) * (atom.extent - 1) <= padding}
        taps = [min(atom.extent, _TAPS) for atom in windows]
        for atom, step in linear:
            if atom not in windows:
                split = least.get(atom.name, 1)
                kept = max(room, period // abs(step) + 2, split + 1, padding // abs(step) + 2, *taps)
                _cut(extents, atom, kept, lcm(split, period // abs(step)))
    return extents


def _entangled(index: Index) -> set[Iterator]:
    found: set[Iterator] = set()
    for terms in components(index):
        for atom, _ in terms:
            if not isinstance(atom, Iterator):
                found |= atom.index.iterators()
            elif len(terms) > 1 or index.constant:
                found.add(atom)
    return found


def _divisions(index: Index) -> list[FloorDiv | Modulo]:
    found: list[FloorDiv | Modulo] = []
    for atom, _ in index.terms:
        if isinstance(atom, FloorDiv | Modulo):
            found += [atom, *_divisions(atom.index)]
    return found


def _cut(extents: dict[Iterator, int], iterator: Iterator, least: int, period: int) -> int:
    """Cut by a multiple of the period to the least size or a little more; returns by how much."""
    surplus = max(0, extents[iterator] - least) // period * period
    extents[iterator] -= surplus
    return surplus


def _shrink_difference(
    extents: dict[Iterator, int],
    rising: list[tuple[Iterator, int]],
    falling: list[tuple[Iterator, int]],
    window: int,
    room: int,
) -> None:
    """``y − S·h`` in a window: both are cut so that the far corner stays where it is."""
    main, unit = min(rising, key=lambda term: term[1])
    for iterator, step in falling:
        if -step % unit:
            continue
        ratio = -step // unit
        surplus = max(0, extents[iterator] - (window // -step + room))
        surplus = min(surplus, max(0, extents[main] - room) // ratio)
        extents[iterator] -= surplus
        extents[main] -= surplus * ratio


def _new_shapes(scope: Scope, reads: list[Access], extents: dict[Iterator, int]) -> dict[Axis, int]:
    shapes: dict[Axis, int] = {}
    mapping = {old: Index.of(Iterator(old.name, extent)) for old, extent in extents.items()}
    for access in reads:
        assert isinstance(access.source, Tensor)
        for axis, (index, extent) in enumerate(zip(access.indices, access.source.shape, strict=True)):
            new = index.substitute(mapping)
            if index.low < 0 and min(extent, index.high) <= 2 * extent and any(step < 0 for _, step in index.terms):
                size = int(extent)  # a window on a kernel: its size counts, not where the index ends
            else:
                size = max(1, int(extent) - (index.high - new.high))
            shapes[access.source, axis] = max(size, shapes.get((access.source, axis), 0))
    return shapes
