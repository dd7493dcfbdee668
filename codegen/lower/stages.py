"""Which scopes of a kernel get a buffer, and which are computed where they are read.

A reduction is a stage. An element-wise scope is written out at its readers, unless that repeats costly work. An element-wise
scope that reads one reduction at its own point becomes that reduction's **epilogue**: both are one stage. A schedule that has a
place for it may ask for one costly value (the exponential of a softmax) to be kept besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from codegen.lower.reads import operations
from tensoropt.ir.expression import (
    Access,
    Constant,
    Scalar,
    Scope,
    Tensor,
    accesses,
    map_scalar,
    reducer_identity,
    scopes,
    substitute,
)
from tensoropt.ir.index import Index

_REPEATED_WORK = 24
"""How many operations a value may cost again and again before it is kept in a buffer instead."""

_WORTH_STORING = 12
"""From how many operations on a value is read back rather than computed twice, where storing it needs no memory."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A scope that is computed into a buffer: ``result`` is what lies in the buffer, ``scope`` what is reduced.

    Without an epilogue they are the same. With one, ``result`` reads ``scope`` at the same point everywhere.
    """

    scope: Scope
    result: Scope


def split_stages(root: Scope, stored: Scope | None = None) -> list[Stage]:
    """The stages of a kernel in the order of their computation; the last one's result is (an equal form of) the root.

    ``stored`` is an element-wise scope that becomes a stage of its own instead of being written out at its readers.
    """
    rebuilt = _written_out(root, stored)
    root = rebuilt[root]
    order = scopes(root)
    readers = _readers(order)
    wanted = None if stored is None else rebuilt[stored]
    kept = [
        scope
        for scope in order
        if scope is root or scope is wanted or scope.reducer is not None or _repeats(scope, readers[scope])
    ]
    fused: dict[Scope, Scope] = {}
    for scope in kept:
        reader = _epilogue_of(scope, readers[scope], kept)
        if reader is not None and reader not in fused.values():
            fused[scope] = reader
    absorbed = set(fused.values())
    stages = [Stage(scope, fused.get(scope, scope)) for scope in kept if scope not in absorbed]
    return _ordered(stages)


def costly_value(root: Scope) -> Scope | None:
    """The element-wise scope of the root's type that several scopes read and that costs most; None where nothing does."""
    order = scopes(root)
    readers = _readers(order)
    found = [
        scope
        for scope in order
        if scope is not root
        and scope.reducer is None
        and scope.type == root.type
        and scope.type.elements
        and len({reader for reader, _ in readers[scope]}) > 1
        and operations(scope.body) >= _WORTH_STORING
    ]
    return max(found, key=lambda scope: operations(scope.body), default=None)


def _readers(order: list[Scope]) -> dict[Scope, list[tuple[Scope, Access]]]:
    readers: dict[Scope, list[tuple[Scope, Access]]] = {scope: [] for scope in order}
    for scope in order:
        for access in accesses(scope.body):
            if isinstance(access.source, Scope):
                readers[access.source].append((scope, access))
    return readers


def _written_out(root: Scope, stored: Scope | None) -> dict[Scope, Scope]:
    """Every scope of the kernel with element-wise scopes substituted into their readers wherever that repeats no costly work.

    What reads or reduces nothing becomes a constant, so that no schedule meets an extent of 0 but in the output.
    """
    order = scopes(root)
    readers = _readers(order)
    rebuilt: dict[Scope, Scope] = {}

    def leaf(node: Scalar) -> Scalar:
        if not isinstance(node, Access):
            return node
        if not node.source.type.elements:
            return node.outside
        if isinstance(node.source, Tensor):
            return node
        source = rebuilt[node.source]
        kept = node.source is stored or _repeats(node.source, readers[node.source])
        if source.reducer is None and node.stays_inside and not kept:
            return substitute(source.body, dict(zip(source.traversal, node.indices, strict=True)))
        return node if source is node.source else Access(source, node.indices, node.outside)

    for scope in order:
        body = map_scalar(scope.body, leaf)
        if scope.reducer is not None and any(iterator.extent == 0 for iterator in scope.reduction):
            rebuilt[scope] = Scope(scope.traversal, Constant(reducer_identity(scope.reducer, scope.dtype), scope.dtype))
        else:
            rebuilt[scope] = (
                scope if body is scope.body else Scope(scope.traversal, body, scope.reduction, scope.reducer)
            )
    return rebuilt


def _repeats(scope: Scope, readers: list[tuple[Scope, Access]]) -> bool:
    own = max(1, prod(int(extent) for extent in scope.shape))
    reading = sum(prod(iterator.extent for iterator in (*reader.traversal, *reader.reduction)) for reader, _ in readers)
    cost = operations(scope.body) + sum(
        operations(access.source.body) for access in accesses(scope.body) if isinstance(access.source, Scope)
    )
    return reading > 2 * own and cost > _REPEATED_WORK


def _epilogue_of(scope: Scope, readers: list[tuple[Scope, Access]], kept: list[Scope]) -> Scope | None:
    """The element-wise scope that alone reads a reduction, at the point that it computes itself; or None.

    Scopes in between that are written out do not count: only a direct reader can be an epilogue.
    """
    found = {reader for reader, _ in readers}
    if scope.reducer is None or len(found) != 1:
        return None
    reader = found.pop()
    if reader.reducer is not None or reader not in kept:
        return None
    return reader if all(point_mapping(reader, access) is not None for _, access in readers) else None


def point_mapping(reader: Scope, access: Access) -> dict[object, Index] | None:
    """The reader's iterators as indices over the iterators of the scope that it reads, where the access only permutes axes."""
    source = access.source
    assert isinstance(source, Scope)
    mapping: dict[object, Index] = {}
    for index, iterator in zip(access.indices, source.traversal, strict=True):
        if iterator.extent == 1:
            if not (index.is_constant and index.constant == 0):
                return None
            continue
        if index.constant or len(index.terms) != 1 or index.terms[0][1] != 1:
            return None
        atom = index.terms[0][0]
        if atom not in reader.traversal or atom in mapping or atom.extent != iterator.extent:
            return None
        mapping[atom] = Index.of(iterator)
    for iterator in reader.traversal:
        if iterator not in mapping:
            if iterator.extent != 1:
                return None
            mapping[iterator] = Index.of(0)
    return mapping


def _ordered(stages: list[Stage]) -> list[Stage]:
    """Stages after everything that they read; an epilogue may read stages that come after its reduction."""
    available: set[Scope] = set()
    results = {stage.result for stage in stages}
    ordered: list[Stage] = []
    pending = list(stages)
    while pending:
        for stage in pending:
            inside = [scope for scope in scopes(stage.result) if scope in results and scope is not stage.result]
            if all(scope in available for scope in inside):
                ordered.append(stage)
                available.add(stage.result)
                pending.remove(stage)
                break
        else:
            raise AssertionError("stages depend on one another")
    return ordered
