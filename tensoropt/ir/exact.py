"""Exact evaluation of whole scopes, without rounding, in a domain of ``exact_domains``; for small sizes.

Arrays may have leading axes beyond those of their tensors, one element for each assignment of contents: then all assignments
are evaluated at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from tensoropt.ir.exact_arithmetic import (
    apply_operation,
    constant_value,
    convert_value,
    fold,
    mixed,
    number_value,
    residues,
)
from tensoropt.ir.exact_domains import PRIME as PRIME
from tensoropt.ir.exact_domains import SAFE_PRIME as SAFE_PRIME
from tensoropt.ir.exact_domains import SUBGROUP as SUBGROUP
from tensoropt.ir.exact_domains import Domain as Domain
from tensoropt.ir.exact_domains import DomainRefusal as DomainRefusal
from tensoropt.ir.exact_domains import Value as Value
from tensoropt.ir.exact_domains import choose_domain as choose_domain
from tensoropt.ir.exact_domains import is_static as is_static
from tensoropt.ir.expression import (
    Access,
    Apply,
    Cast,
    Constant,
    IndexValue,
    Scalar,
    Scope,
    Tensor,
    scopes,
)
from tensoropt.ir.index import Iterator
from tensoropt.ir.interpreter import convert
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType


def contents(tensor: Tensor, positions: Any, domain: Domain, seed: int) -> Value:
    """Pseudo-random elements of a tensor at row-major positions: a function of name, position and seed, so no array is needed.

    Integers alternate between small ones, among which many are equal, and large ones, by the parity of the seed; none is 0, so that
    tensors can be divided by.
    """
    draws = mixed(positions, f"{tensor.name}/{seed}/0")
    if domain is Domain.PRIME:
        return (residues(draws, PRIME),)
    if domain is Domain.PAIRED:
        second = mixed(positions, f"{tensor.name}/{seed}/1")
        return residues(draws, SAFE_PRIME), residues(second, SUBGROUP)
    if tensor.dtype is DataType.BOOL:
        return ((draws % np.uint64(2)).astype(np.bool_),)
    size = 8 if seed % 2 or tensor.dtype.value.startswith("u") else 2**13
    numbers = (draws % np.uint64(2 * size)).astype(np.int64) + 1  # up to twice the size
    if tensor.dtype.value.startswith("u"):
        return (numbers,)
    return (np.where(numbers > size, size - numbers, numbers),)


def random_values(tensors: Iterable[Tensor], domain: Domain, seed: int) -> dict[str, Value]:
    """Whole tensors with the same contents."""
    found = {}
    for tensor in tensors:
        positions = np.arange(prod(tensor.shape), dtype=np.int64).reshape(tensor.shape)
        found[tensor.name] = contents(tensor, positions, domain, seed)
    return found


def assignments(tensors: Iterable[Tensor], domain: Domain, seeds: Sequence[int]) -> dict[str, Value]:
    """The contents for several seeds, stacked on a leading axis."""
    read = list(tensors)
    each = [random_values(read, domain, seed) for seed in seeds]
    return {
        tensor.name: tuple(np.stack(parts) for parts in zip(*(found[tensor.name] for found in each), strict=True))
        for tensor in read
    }


def evaluate_exact(
    scope: Scope, values: Mapping[str, Value], domain: Domain, results: dict[Scope, Value] | None = None
) -> Value:
    """The whole value of a scope, given the tensors that it reads: every point of every box at once.

    ``results`` holds the values of scopes that were evaluated before with the same contents, and takes the new ones.
    """
    results = {} if results is None else results
    for inner in scopes(scope):
        if inner in results:
            continue
        iterators = (*inner.traversal, *inner.reduction)
        shape = tuple(iterator.extent for iterator in iterators)
        grid = {
            iterator: np.arange(iterator.extent).reshape([-1 if at == axis else 1 for at in range(len(iterators))])
            for axis, iterator in enumerate(iterators)
        }
        body = _scalar(inner.body, grid, values, results, domain)
        whole = tuple(
            None
            if part is None
            else np.broadcast_to(part, np.shape(part)[: max(0, np.ndim(part) - len(shape))] + shape)
            for part in body
        )
        if inner.reducer is not None:
            whole = fold(inner.reducer, inner.dtype, whole, len(inner.reduction), domain)
        results[inner] = whole
    return results[scope]


def _scalar(
    node: Scalar,
    grid: Mapping[Iterator, Any],
    values: Mapping[str, Value],
    results: Mapping[Scope, Value],
    domain: Domain,
) -> Value:
    if is_static(node):
        return number_value(static_numbers(node, grid), domain)
    match node:
        case Constant():
            return constant_value(node, domain)
        case IndexValue():
            return number_value(np.asarray(node.index.evaluate(grid.__getitem__)), domain)
        case Cast():
            return convert_value(node, _scalar(node.argument, grid, values, results, domain), domain)
        case Apply():
            operands = [_scalar(argument, grid, values, results, domain) for argument in node.arguments]
            return apply_operation(node.operation, operands, domain)
        case Access():
            source = values[node.source.name] if isinstance(node.source, Tensor) else results[node.source]
            inside, clamped = positions(node, grid)
            fill = constant_value(node.outside, domain)
            return tuple(
                None if part is None else _filled(part, inside, clamped, empty, len(grid))
                for part, empty in zip(source, fill, strict=True)
            )


def _filled(part: Any, inside: Any, clamped: tuple[Any, ...], fill: Any, rank: int) -> Any:
    """The elements at the clamped indices, of each assignment, and the fill outside; ``rank`` is that of the grid."""
    if not part.size:
        return np.broadcast_to(fill, np.shape(inside))
    if not clamped:
        return part.reshape([*part.shape, *[1] * rank])
    first = clamped[0].reshape([1] * (rank - clamped[0].ndim) + list(clamped[0].shape))
    picked = part[(..., first, *clamped[1:])]
    return picked if inside is np.True_ else np.where(inside, picked, fill)


def static_numbers(node: Scalar, grid: Mapping[Iterator, Any]) -> Any:
    """The plain value of a scalar that depends on iterators only."""
    match node:
        case Constant():
            return np.asarray(node.value, node.dtype.numpy)
        case IndexValue():
            return np.asarray(node.index.evaluate(grid.__getitem__)).astype(node.dtype.numpy)
        case Cast():
            return np.asarray(convert(static_numbers(node.argument, grid), node.dtype))
        case Apply():
            operands = [static_numbers(argument, grid) for argument in node.arguments]
            return np.asarray(OPERATIONS[node.operation].evaluate(*operands))
        case Access():
            raise DomainRefusal("an access depends on data")


def positions(access: Access, grid: Mapping[Iterator, Any]) -> tuple[Any, tuple[Any, ...]]:
    """Where an access stays inside its source (plainly True where it always does), and its indices clamped to the box."""
    inside: Any = np.True_
    clamped = []
    for index, extent in zip(access.indices, access.source.shape, strict=True):
        place = np.asarray(index.evaluate(grid.__getitem__), dtype=np.int64)
        if index.low < 0 or index.high >= extent:
            inside = inside & (place >= 0) & (place < extent)
            place = np.clip(place, 0, max(int(extent) - 1, 0))
        clamped.append(place)
    return inside, tuple(clamped)
