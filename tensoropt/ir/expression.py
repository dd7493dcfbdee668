"""Tensor algebra: immutable, hash-consed expressions.

A scope ``L<traversal> reducer<reduction> body`` has one output axis for each traversal iterator and folds the body over the
reduction iterators. The body is scalar arithmetic over accesses. An access reads a tensor or another scope at quasi-affine
indices; **reading outside the box of the source gives the access's ``outside`` value**, so padding moves no data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from weakref import WeakKeyDictionary

from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.interning import Interned
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType, Extent, TensorType

Number = bool | int | float


class Reducer(Enum):
    """How reduction iterators are folded; the value is the spelling in the text form."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    PROD = "prod"


class Tensor(Interned):
    """A named tensor of a program; two tensors are the same exactly if name and type are."""

    __slots__ = ("name", "type")
    name: str
    type: TensorType

    def __new__(cls, name: str, type: TensorType) -> Tensor:
        return cls._intern(name, type)

    def _build(self, name: str, type: TensorType) -> None:
        self._set(name=name, type=type)

    @property
    def dtype(self) -> DataType:
        """Element type."""
        return self.type.dtype

    @property
    def shape(self) -> tuple[Extent, ...]:
        """One extent for each axis."""
        return self.type.shape

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


class Constant(Interned):
    """A literal. Its bits are its identity: 0.0 and −0.0 differ, NaN equals NaN."""

    __slots__ = ("dtype", "value")
    value: Number
    dtype: DataType

    def __new__(cls, value: Number, dtype: DataType) -> Constant:
        spelled = normal_number(value, dtype)
        return cls._intern(spelled.hex() if isinstance(spelled, float) else spelled, dtype)

    def _build(self, spelled: str | int, dtype: DataType) -> None:
        value: Number = float.fromhex(spelled) if isinstance(spelled, str) else spelled
        self._set(value=bool(value) if dtype is DataType.BOOL else value, dtype=dtype)


def normal_number(value: Number, dtype: DataType) -> Number:
    """The value as the type holds it: rounded for floats, wrapped for integers."""
    if dtype.is_float:
        return float(dtype.numpy.type(value))
    if dtype is DataType.BOOL:
        return int(bool(value))
    bits = dtype.itemsize * 8
    wrapped = int(value) % (1 << bits)
    unsigned = dtype.value.startswith("u")
    return wrapped if unsigned or wrapped < 1 << (bits - 1) else wrapped - (1 << bits)


class IndexValue(Interned):
    """An index as an integer scalar: position tables, masks and ranges without data."""

    __slots__ = ("dtype", "index")
    index: Index
    dtype: DataType

    def __new__(cls, index: Index, dtype: DataType = DataType.INT64) -> IndexValue:
        return cls._intern(index, dtype)

    def _build(self, index: Index, dtype: DataType) -> None:
        self._set(index=index, dtype=dtype)


class Apply(Interned):
    """A scalar operation (a name in ``scalar.OPERATIONS``) on operands."""

    __slots__ = ("arguments", "dtype", "operation")
    operation: str
    arguments: tuple[Scalar, ...]
    dtype: DataType

    def __new__(cls, operation: str, *arguments: Scalar) -> Apply:
        return cls._intern(operation, arguments)

    def _build(self, operation: str, arguments: tuple[Scalar, ...]) -> None:
        result = OPERATIONS[operation].result_type(tuple(argument.dtype for argument in arguments))
        self._set(operation=operation, arguments=arguments, dtype=result)


class Cast(Interned):
    """Conversion to another type: floats truncate toward zero, integers wrap, NaN and non-zero are true."""

    __slots__ = ("argument", "dtype")
    argument: Scalar
    dtype: DataType

    def __new__(cls, argument: Scalar, dtype: DataType) -> Cast:
        return cls._intern(argument, dtype)

    def _build(self, argument: Scalar, dtype: DataType) -> None:
        self._set(argument=argument, dtype=dtype)


class Access(Interned):
    """``source[indices]``, and ``outside`` where an index leaves the box of the source."""

    __slots__ = ("dtype", "indices", "outside", "source")
    source: Tensor | Scope
    indices: tuple[Index, ...]
    outside: Constant
    dtype: DataType

    def __new__(
        cls, source: Tensor | Scope, indices: Iterable[Index | Iterator | int], outside: Number | Constant = 0
    ) -> Access:
        fill = outside if isinstance(outside, Constant) else Constant(outside, source.dtype)
        return cls._intern(source, tuple(Index.of(index) for index in indices), fill)

    def _build(self, source: Tensor | Scope, indices: tuple[Index, ...], outside: Constant) -> None:
        if len(indices) != len(source.shape):
            raise ValueError(f"{len(indices)} indices on a source of {len(source.shape)} axes")
        if outside.dtype is not source.dtype:
            raise ValueError(f"the outside value is {outside.dtype.value}, the source {source.dtype.value}")
        self._set(source=source, indices=indices, outside=outside, dtype=source.dtype)

    @property
    def stays_inside(self) -> bool:
        """Whether the bounds prove that no read leaves the box."""
        return all(
            index.low >= 0 and index.high < extent
            for index, extent in zip(self.indices, self.source.shape, strict=True)
        )


Scalar = Constant | IndexValue | Apply | Cast | Access


class Scope(Interned):
    """``L<traversal> reducer<reduction> body``. The reducer is None exactly if nothing is reduced.

    An empty reduction range gives the reducer's identity (0, 1, −∞ or the lowest value, +∞ or the highest).
    """

    __slots__ = ("body", "dtype", "reducer", "reduction", "shape", "traversal")
    traversal: tuple[Iterator, ...]
    reduction: tuple[Iterator, ...]
    reducer: Reducer | None
    body: Scalar
    dtype: DataType
    shape: tuple[Extent, ...]

    def __new__(
        cls,
        traversal: Iterable[Iterator],
        body: Scalar,
        reduction: Iterable[Iterator] = (),
        reducer: Reducer | None = Reducer.SUM,
    ) -> Scope:
        folded = tuple(reduction)
        return cls._intern(tuple(traversal), folded, reducer if folded else None, body)

    def _build(
        self, traversal: tuple[Iterator, ...], reduction: tuple[Iterator, ...], reducer: Reducer | None, body: Scalar
    ) -> None:
        iterators = (*traversal, *reduction)
        if len(set(iterators)) != len(iterators) or len({iterator.name for iterator in iterators}) != len(iterators):
            raise ValueError(f"iterators repeat: {iterators}")
        if reduction and reducer is None:
            raise ValueError("a reduction needs a reducer")
        stray = free_iterators(body) - set(iterators)
        if stray:
            raise ValueError(f"unbound iterators: {sorted(iterator.name for iterator in stray)}")
        self._set(
            traversal=traversal,
            reduction=reduction,
            reducer=reducer,
            body=body,
            dtype=body.dtype,
            shape=tuple(Extent(iterator.extent) for iterator in traversal),
        )

    @property
    def type(self) -> TensorType:
        """Type of the tensor that the scope computes."""
        return TensorType(self.dtype, self.shape)

    def __repr__(self) -> str:
        from tensoropt.ir.printer import format_scope

        return format_scope(self)


def reducer_identity(reducer: Reducer, dtype: DataType) -> Number:
    """What a reduction over nothing gives."""
    match reducer:
        case Reducer.SUM:
            return 0
        case Reducer.PROD:
            return 1
        case Reducer.MAX:
            return -math.inf if dtype.is_float else _integer_range(dtype)[0]
        case Reducer.MIN:
            return math.inf if dtype.is_float else _integer_range(dtype)[1]


def _integer_range(dtype: DataType) -> tuple[int, int]:
    if dtype is DataType.BOOL:
        return 0, 1
    bits = dtype.itemsize * 8
    return (0, (1 << bits) - 1) if dtype.value.startswith("u") else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def children(node: Scalar) -> tuple[Scalar, ...]:
    """The scalar operands of a node, without entering nested scopes."""
    match node:
        case Apply():
            return node.arguments
        case Cast():
            return (node.argument,)
        case _:
            return ()


def map_scalar(node: Scalar, leaf: Callable[[Scalar], Scalar]) -> Scalar:
    """The node with every leaf (constant, index value, access) replaced; the same object where nothing changes."""
    match node:
        case Apply():
            arguments = tuple(map_scalar(argument, leaf) for argument in node.arguments)
            same = all(new is old for new, old in zip(arguments, node.arguments, strict=True))
            return node if same else Apply(node.operation, *arguments)
        case Cast():
            argument = map_scalar(node.argument, leaf)
            return node if argument is node.argument else Cast(argument, node.dtype)
        case _:
            return leaf(node)


def substitute(node: Scalar, mapping: Mapping[Iterator, Index]) -> Scalar:
    """The scalar with iterators replaced in its indices. Nested scopes are closed, so they stay as they are."""

    def leaf(found: Scalar) -> Scalar:
        match found:
            case Access():
                indices = tuple(index.substitute(mapping) for index in found.indices)
                return found if indices == found.indices else Access(found.source, indices, found.outside)
            case IndexValue():
                return IndexValue(found.index.substitute(mapping), found.dtype)
            case _:
                return found

    return map_scalar(node, leaf)


def leaves(node: Scalar) -> Iterable[Scalar]:
    """Constants, index values and accesses of a scalar from left to right, without entering nested scopes."""
    operands = children(node)
    if not operands:
        yield node
    for operand in operands:
        yield from leaves(operand)


def accesses(node: Scalar) -> list[Access]:
    """The accesses of a scalar from left to right, without entering nested scopes."""
    return [leaf for leaf in leaves(node) if isinstance(leaf, Access)]


def free_iterators(node: Scalar) -> frozenset[Iterator]:
    """Iterators in the indices of a scalar; nested scopes bind their own and have none free."""
    found: set[Iterator] = set()
    for leaf in leaves(node):
        match leaf:
            case Access():
                for index in leaf.indices:
                    found |= index.iterators()
            case IndexValue():
                found |= leaf.index.iterators()
            case _:
                pass
    return frozenset(found)


def scopes(root: Scope) -> list[Scope]:
    """The scope and all scopes nested in it, each once, inner ones before those that read them."""
    order: dict[Scope, None] = {}
    stack: list[tuple[Scope, bool]] = [(root, False)]
    while stack:
        scope, entered = stack.pop()
        if scope in order:
            continue
        if entered:
            order[scope] = None
            continue
        stack.append((scope, True))
        stack += [(access.source, False) for access in accesses(scope.body) if isinstance(access.source, Scope)]
    return list(order)


def tensors(root: Scope) -> tuple[Tensor, ...]:
    """The tensors that a scope reads, nested scopes included, each once in the order of first use."""
    known = _tensors.get(root)
    if known is None:
        found: dict[Tensor, None] = {}
        for scope in scopes(root):
            for access in accesses(scope.body):
                if isinstance(access.source, Tensor):
                    found[access.source] = None
        known = _tensors[root] = tuple(found)
    return known


_tensors: WeakKeyDictionary[Scope, tuple[Tensor, ...]] = WeakKeyDictionary()
"""What was found for scopes that exist: a statement is asked for its inputs many times."""


def replace_sources(root: Scope, mapping: Mapping[Tensor | Scope, Tensor | Scope]) -> Scope:
    """The scope reading other sources of the same shape and type wherever a key of the mapping was read."""
    rebuilt: dict[Tensor | Scope, Tensor | Scope] = dict(mapping)

    def leaf(node: Scalar) -> Scalar:
        if isinstance(node, Access) and node.source in rebuilt:
            return Access(rebuilt[node.source], node.indices, node.outside)
        return node

    for scope in scopes(root):
        if scope not in rebuilt:
            body = map_scalar(scope.body, leaf)
            rebuilt[scope] = (
                scope if body is scope.body else Scope(scope.traversal, body, scope.reduction, scope.reducer)
            )
    result = rebuilt[root]
    assert isinstance(result, Scope)
    return result


def fresh_iterators(iterators: Iterable[Iterator], taken: Iterable[Iterator]) -> dict[Iterator, Iterator]:
    """For each iterator one of the same extent whose name is not taken (the iterator itself where it is free)."""
    names = {iterator.name for iterator in taken}
    renamed: dict[Iterator, Iterator] = {}
    for iterator in iterators:
        name, attempt = iterator.name, 0
        while name in names:
            attempt += 1
            name = f"{iterator.name.rstrip('0123456789') or 'i'}{attempt}"
        names.add(name)
        renamed[iterator] = Iterator(name, iterator.extent)
    return renamed
