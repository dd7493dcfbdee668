"""Questions about the form of expressions that passes and code generators both ask."""

from __future__ import annotations

from collections.abc import Iterable

from tensoropt.ir.expression import (
    Access,
    Apply,
    Cast,
    Constant,
    IndexValue,
    Scalar,
    Scope,
    Tensor,
    accesses,
    free_iterators,
    leaves,
    map_scalar,
    substitute,
)
from tensoropt.ir.index import Index, Iterator


def is_identity(access: Access, traversal: tuple[Iterator, ...]) -> bool:
    """Whether the access reads exactly the element that the traversal is at, from a source of the same shape."""
    return len(access.indices) == len(traversal) and all(
        index is Index.of(iterator) and extent == iterator.extent
        for index, iterator, extent in zip(access.indices, traversal, access.source.shape, strict=True)
    )


def element_wise(scope: Scope) -> Scope | None:
    """The scope with the scopes that it nests written out, where none of them folds; None where one does."""
    if scope.reduction:
        return None
    folds = False

    def leaf(node: Scalar) -> Scalar:
        nonlocal folds
        if not isinstance(node, Access) or not isinstance(node.source, Scope):
            return node
        inner = element_wise(node.source)
        if inner is None or not node.stays_inside:
            folds = True
            return node
        return substitute(inner.body, dict(zip(inner.traversal, node.indices, strict=True)))

    body = map_scalar(scope.body, leaf)
    return None if folds else Scope(scope.traversal, body)


def overwritable(scope: Scope) -> tuple[Tensor, ...]:
    """The tensors that an element-wise scope reads only at the element that it writes, which is as large."""
    flat = element_wise(scope)
    read_there: dict[Tensor, bool] = {}
    for access in [] if flat is None else accesses(flat.body):
        if isinstance(access.source, Tensor):
            there = is_identity(access, scope.traversal) and access.dtype.itemsize == scope.dtype.itemsize
            read_there[access.source] = read_there.get(access.source, True) and there
    return tuple(tensor for tensor, there in read_there.items() if there)


def is_row_access(access: Access, traversal: tuple[Iterator, ...]) -> bool:
    """Whether the access reads, for all points of a row, one element: leading axes at the traversal, trailing axes of extent 1."""
    if len(access.indices) > len(traversal):
        return False
    trailing = False
    for index, iterator, extent in zip(access.indices, traversal, access.source.shape, strict=False):
        trailing = trailing or (extent == 1 and iterator.extent != 1)
        if trailing:
            if extent != 1 or not (index.is_constant and index.constant == 0):
                return False
        elif index is not Index.of(iterator) or extent != iterator.extent:
            return False
    return True


def row_major(indices: Iterable[Index | Iterator | int], shape: Iterable[int]) -> Index:
    """The row-major position of a point in a shape."""
    position = Index.of(0)
    for index, extent in zip(indices, shape, strict=True):
        position = position * int(extent) + index
    return position


def row_major_strides(shape: Iterable[int]) -> tuple[int, ...]:
    """How many elements lie from one to the next along each axis of a shape."""
    strides: list[int] = []
    elements = 1
    for extent in reversed([int(extent) for extent in shape]):
        strides.insert(0, elements)
        elements *= extent
    return tuple(strides)


def linear_index(access: Access) -> Index:
    """The row-major position of the element that an access reads."""
    return row_major(access.indices, access.source.shape)


def linear_position(traversal: tuple[Iterator, ...]) -> Index:
    """The row-major position of the output element at a point of the traversal."""
    return row_major(traversal, (iterator.extent for iterator in traversal))


def axes_of(shape: Iterable[int]) -> tuple[Iterator, ...]:
    """An iterator over each axis of a shape."""
    return tuple(Iterator(f"i{axis}", int(extent)) for axis, extent in enumerate(shape))


def copy_of(tensor: Tensor) -> Scope:
    """The scope that is each element of a tensor."""
    axes = axes_of(tensor.shape)
    return Scope(axes, Access(tensor, axes))


def view_source(scope: Scope) -> Tensor | Scope | None:
    """The source whose elements, in the same row-major order, are the scope's value (a reshape); None where it is another thing."""
    body = scope.body
    if scope.reduction or not isinstance(body, Access) or not body.stays_inside:
        return None
    if scope.type.elements != body.source.type.elements:
        return None
    position = linear_position(scope.traversal)
    digits = zip(body.indices, digits_of(position, body.source.shape), strict=True)
    same = linear_index(body) is position or all(index is digit for index, digit in digits)
    return body.source if same else None


def digits_of(position: Index, shape: tuple[int, ...]) -> tuple[Index, ...]:
    """The indices, one for each axis, of the element at a row-major position of a tensor."""
    digits: list[Index] = []
    for extent in reversed(shape):
        digits.append(position % int(extent) if len(digits) < len(shape) - 1 else position)
        position = position // int(extent)
    return tuple(reversed(digits))


def is_mover(scope: Scope) -> bool:
    """Whether the scope only moves elements: the body is a bare access."""
    return not scope.reduction and isinstance(scope.body, Access)


def is_of_indices(node: Scalar) -> bool:
    """Whether the value depends on iterators only: a position, a mask, an entry of a table."""
    return all(isinstance(leaf, Constant | IndexValue) for leaf in leaves(node))


def product_factors(body: Scalar) -> list[Scalar]:
    """The factors of a product, nested multiplications flattened; a body that is none is its one factor."""
    if isinstance(body, Apply) and body.operation == "mul":
        return [factor for argument in body.arguments for factor in product_factors(argument)]
    return [body]


def is_contraction(scope: Scope) -> bool:
    """Whether the scope sums products of at least two accesses over a range: the heavy arithmetic."""
    if not scope.reduction or scope.reducer is None or scope.reducer.value != "sum":
        return False
    factors = product_factors(scope.body)
    return sum(isinstance(_peel(factor), Access) for factor in factors) >= 2


def product_extents(scope: Scope) -> tuple[int, int, int]:
    """Points of a contraction's traversal that all reads have, that the first alone has, and that only others have."""
    reads = [free_iterators(access) for access in accesses(scope.body)]
    shared = frozenset.intersection(*reads)
    batch = rows = columns = 1
    for iterator in scope.traversal:
        if iterator in shared:
            batch *= iterator.extent
        elif iterator in reads[0]:
            rows *= iterator.extent
        else:
            columns *= iterator.extent
    return batch, rows, columns


def _peel(node: Scalar) -> Scalar:
    return node.argument if isinstance(node, Cast) else node


def arithmetic(scope: Scope) -> int:
    """Scalar operations of the scope itself, nested scopes not counted: points of the box times operations of the body."""
    points = scope.type.elements
    for iterator in scope.reduction:
        points *= iterator.extent
    return points * (max(1, _operations(scope.body)) + (1 if scope.reduction else 0))


def _operations(node: Scalar) -> int:
    match node:
        case Apply():
            return 1 + sum(_operations(argument) for argument in node.arguments)
        case Cast():
            return 1 + _operations(node.argument)
        case _:
            return 0
