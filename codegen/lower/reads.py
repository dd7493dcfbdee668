"""What a body reads once nested scopes are written out, and which neighbouring axes it treats as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import prod

from codegen.lower.emitter import Source, flat_index
from tensoropt.ir.expression import (
    Access,
    Apply,
    IndexValue,
    Scalar,
    Scope,
    leaves,
    substitute,
)
from tensoropt.ir.index import Index, Iterator


@dataclass(frozen=True, slots=True)
class Reads:
    """The loads of a body: element indices, and all indices whose values matter (elements, conditions, index values)."""

    loads: tuple[tuple[Access, Index], ...]
    watched: tuple[Index, ...]


def reads(body: Scalar, materialised: AbstractSet[Source]) -> Reads:
    """The loads of a body. Scopes that are not materialised are written out, with their conditions."""
    loads: list[tuple[Access, Index]] = []
    watched: list[Index] = []
    pending, seen = [body], {body}
    while pending:
        for leaf in leaves(pending.pop()):
            match leaf:
                case IndexValue():
                    watched.append(leaf.index)
                case Access():
                    for index, extent in zip(leaf.indices, leaf.source.shape, strict=True):
                        if index.low < 0 or index.high >= extent:
                            watched.append(index)
                    if isinstance(leaf.source, Scope) and leaf.source not in materialised:
                        inner = substitute(
                            leaf.source.body, dict(zip(leaf.source.traversal, leaf.indices, strict=True))
                        )
                        if inner not in seen:
                            seen.add(inner)
                            pending.append(inner)
                    else:
                        flat = flat_index(leaf)
                        loads.append((leaf, flat))
                        watched.append(flat)
                case _:
                    pass
    return Reads(tuple(loads), tuple(watched))


@dataclass(frozen=True, slots=True)
class Axes:
    """Loops, outermost first, and how the iterators that they replace are computed from them."""

    loops: tuple[Iterator, ...]
    mapping: Mapping[Iterator, Index]

    @property
    def points(self) -> int:
        """Iterations of the whole nest."""
        return prod(loop.extent for loop in self.loops)


def unflatten(flat: Index, iterators: Sequence[Iterator]) -> dict[Iterator, Index]:
    """Each iterator as a function of the row-major position in their box."""
    mapping: dict[Iterator, Index] = {}
    inner = 1
    for iterator in reversed(iterators):
        mapping[iterator] = (flat // inner) % iterator.extent if iterator is not iterators[0] else flat // inner
        inner *= iterator.extent
    return mapping


def merge(groups: Sequence[Sequence[Iterator]], prefix: str) -> Axes:
    """One loop for each group of iterators."""
    loops: list[Iterator] = []
    mapping: dict[Iterator, Index] = {}
    for number, group in enumerate(groups):
        loop = Iterator(f"{prefix}{number}", prod(iterator.extent for iterator in group))
        loops.append(loop)
        mapping.update(unflatten(Index.of(loop), group))
    return Axes(tuple(loops), mapping)


def contiguous_groups(
    iterators: Sequence[Iterator], watched: Sequence[Index], prefix: str = "f"
) -> list[list[Iterator]]:
    """Neighbouring iterators that every watched index sees only as one (``h·W + w``), grouped; extents of 1 are dropped."""
    real = [iterator for iterator in iterators if iterator.extent != 1]
    groups: list[list[Iterator]] = []
    for iterator in reversed(real):
        if groups and _joins([iterator, *groups[0]], watched):
            groups[0].insert(0, iterator)
        else:
            groups.insert(0, [iterator])
    return groups


def _joins(group: Sequence[Iterator], watched: Sequence[Index]) -> bool:
    loop = Iterator("joined", prod(iterator.extent for iterator in group))
    mapping = unflatten(Index.of(loop), group)
    members = set(group)
    touched = [index for index in watched if members & index.iterators()]
    return all(plain(index.substitute(mapping), loop) for index in touched)


def plain(index: Index, loop: Iterator) -> bool:
    """Whether a loop occurs in an index at the top level only, outside divisions."""
    return not any(not isinstance(atom, Iterator) and loop in atom.index.iterators() for atom, _ in index.terms)


def operations(body: Scalar) -> int:
    """A rough cost of one evaluation of a body, nested scopes not entered: transcendental functions count for more."""
    cost, pending = 0, [body]
    while pending:
        node = pending.pop()
        if isinstance(node, Apply):
            cost += _WEIGHT.get(node.operation, 1)
            pending += node.arguments
        elif not isinstance(node, (Access, IndexValue)) and hasattr(node, "argument"):
            cost += 1
            pending.append(node.argument)
    return cost


_WEIGHT = {
    **dict.fromkeys(("exp", "log", "tanh", "erf", "sigmoid"), 16),
    **dict.fromkeys(
        ("pow", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"), 60
    ),
    **dict.fromkeys(("div", "sqrt", "rsqrt", "reciprocal", "mod", "fmod"), 5),
}
