"""Which iterator of a sum of products plays which part, by where it occurs (OLLIE's iterator mapping table).

    in the output and operand A        m   (matrix product: rows; convolution: output channels)
    in the output and operand B        n   (columns; pixels)
    in the output and both, or neither batch (batches, groups)
    reduced                            k   (inner dimension; input channels and taps)

An iterator that an operand sees only through ``f // d`` or ``f % d`` stands for two (the group and the channel in it) and is
split first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

from codegen.schedules.context import Surroundings
from codegen.schedules.reducing import product_of
from tensoropt.ir.expression import (
    Access,
    Apply,
    IndexValue,
    Reducer,
    Scalar,
    Scope,
    free_iterators,
    leaves,
    substitute,
    tensors,
)
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo
from tensoropt.ir.types import DataType


@dataclass(frozen=True, slots=True)
class Side:
    """One operand: its value, the output iterators that it alone has (in the output's order), and whether it is constant."""

    body: Scalar
    iterators: tuple[Iterator, ...]
    constant: bool

    @property
    def extent(self) -> int:
        """Points of the side's own iterators."""
        return prod(iterator.extent for iterator in self.iterators)


@dataclass(frozen=True, slots=True)
class Contraction:
    """``Σ_k A[batch, m, k] · B[batch, n, k]``. ``mapping`` gives the scope's iterators in terms of those here."""

    sides: tuple[Side, Side]
    batch: tuple[Iterator, ...]
    reduction: tuple[Iterator, ...]
    mapping: dict[Iterator, Index]
    dtype: DataType

    @property
    def depth(self) -> int:
        """Points of the reduction."""
        return prod(iterator.extent for iterator in self.reduction)

    @property
    def batches(self) -> int:
        """Points of the batch iterators."""
        return prod(iterator.extent for iterator in self.batch)

    @property
    def products(self) -> int:
        """Multiply-adds."""
        return self.batches * self.depth * prod(side.extent for side in self.sides)


def classify(context: Surroundings, scope: Scope) -> Contraction | None:
    """The parts of a sum of products; None for anything else."""
    if scope.reducer is not Reducer.SUM or scope.dtype is DataType.BOOL:
        return None
    mapping = _split_iterators(scope)
    body = substitute(scope.body, mapping)
    factors = product_of(body)
    if len(factors) < 2:
        return None
    first, second = _operands(context, factors)
    own = [_product(part) for part in (first, second)]
    seen = [free_iterators(operand) for operand in own]
    traversal = [inner for iterator in scope.traversal for inner in _parts(mapping.get(iterator), iterator)]
    reduction = [inner for iterator in scope.reduction for inner in _parts(mapping.get(iterator), iterator)]
    traversal = [iterator for iterator in traversal if iterator.extent != 1]
    reduction = [iterator for iterator in reduction if iterator.extent != 1]
    sides = [
        Side(
            operand,
            tuple(iterator for iterator in traversal if iterator in seen[number] and iterator not in seen[1 - number]),
            _is_constant(context, operand),
        )
        for number, operand in enumerate(own)
    ]
    sides = [replace(side, constant=side.constant and _packs(side, seen[number])) for number, side in enumerate(sides)]
    batch = tuple(i for i in traversal if (i in seen[0]) == (i in seen[1]))
    full = {iterator: mapping.get(iterator, Index.of(iterator)) for iterator in (*scope.traversal, *scope.reduction)}
    return Contraction((sides[0], sides[1]), batch, tuple(reduction), full, scope.dtype)


def _operands(context: Surroundings, factors: list[Scalar]) -> tuple[list[Scalar], list[Scalar]]:
    constant = [factor for factor in factors if _is_constant(context, factor)]
    varying = [factor for factor in factors if factor not in constant]
    if constant and varying and any(free_iterators(factor) for factor in constant):
        return constant, varying
    return factors[:1], factors[1:]


def _packs(side: Side, seen: frozenset[Iterator]) -> bool:
    """Whether a constant keeps about its size when it is packed: one that is read through a window would grow."""
    packed = prod(iterator.extent for iterator in seen)
    sources = [leaf.source for leaf in leaves(side.body) if isinstance(leaf, Access)]
    held = sum(
        tensor.type.elements
        for source in sources
        for tensor in (tensors(source) if isinstance(source, Scope) else [source])
    )
    return packed <= 2 * held


def _product(factors: list[Scalar]) -> Scalar:
    result = factors[0]
    for factor in factors[1:]:
        result = Apply("mul", result, factor)
    return result


def _is_constant(context: Surroundings, node: Scalar) -> bool:
    found = [leaf for leaf in leaves(node) if isinstance(leaf, Access)]
    return all(
        context.is_constant(tensor)
        for access in found
        for tensor in (tensors(access.source) if isinstance(access.source, Scope) else [access.source])
    )


def _parts(index: Index | None, iterator: Iterator) -> list[Iterator]:
    """The iterators that replace one, outermost first."""
    if index is None:
        return [iterator]
    return [atom for atom, _ in sorted(index.terms, key=lambda term: -term[1]) if isinstance(atom, Iterator)]


def _split_iterators(scope: Scope) -> dict[Iterator, Index]:
    mapping: dict[Iterator, Index] = {}
    for divisor, iterator in sorted(_divided(scope.body), key=lambda found: (found[1].name, found[0])):
        if iterator not in mapping and iterator.extent % divisor == 0 and 1 < divisor < iterator.extent:
            outer = Iterator(f"{iterator.name}_outer", iterator.extent // divisor)
            inner = Iterator(f"{iterator.name}_inner", divisor)
            mapping[iterator] = Index.of(outer) * divisor + inner
    return mapping


def _divided(body: Scalar) -> Iterable[tuple[int, Iterator]]:
    found: set[tuple[int, Iterator]] = set()

    def look(index: Index) -> None:
        for atom, _ in index.terms:
            if isinstance(atom, (FloorDiv, Modulo)):
                inner = atom.index
                if inner.constant == 0 and len(inner.terms) == 1 and inner.terms[0][1] == 1:
                    iterator = inner.terms[0][0]
                    if isinstance(iterator, Iterator):
                        found.add((atom.divisor, iterator))
                look(inner)

    for leaf in leaves(body):
        if isinstance(leaf, Access):
            for index in leaf.indices:
                look(index)
        elif isinstance(leaf, IndexValue):
            look(leaf.index)
    return found
