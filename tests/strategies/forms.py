"""Equality up to renaming decided without the canonical key: the least text over all orders of the reductions; and near copies."""

from __future__ import annotations

from itertools import permutations
from random import Random

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
    accesses,
    map_scalar,
    substitute,
)
from tensoropt.ir.index import FloorDiv, Index, Iterator
from tensoropt.ir.scalar import OPERATIONS

Labels = dict[Iterator, str]


def least_form(scope: Scope) -> str:
    """The least text of a scope over all orders of its reductions; for few of them."""
    return min(_form(scope, order) for order in permutations(scope.reduction))


def _form(scope: Scope, order: tuple[Iterator, ...]) -> str:
    labels = {iterator: f"x{place}" for place, iterator in enumerate(scope.traversal)}
    labels |= {iterator: f"s{place}" for place, iterator in enumerate(order)}
    sizes = [iterator.extent for iterator in scope.traversal], [iterator.extent for iterator in order]
    return f"{sizes} {scope.reducer} {_scalar(scope.body, labels)}"


def _scalar(node: Scalar, labels: Labels) -> str:
    match node:
        case Constant():
            return f"{node.value!r} {node.dtype}"
        case IndexValue():
            return f"value {_index(node.index, labels)} {node.dtype}"
        case Cast():
            return f"cast {node.dtype} ({_scalar(node.argument, labels)})"
        case Access():
            source = repr(node.source) if isinstance(node.source, Tensor) else f"({least_form(node.source)})"
            return f"{source} {[_index(index, labels) for index in node.indices]} {node.outside.value!r}"
        case Apply():
            operation = OPERATIONS[node.operation]
            joined = operation.associative and operation.commutative
            operands = [_scalar(operand, labels) for operand in (_operands(node) if joined else node.arguments)]
            return f"{node.operation} {sorted(operands) if operation.commutative else operands}"


def _operands(node: Apply) -> list[Scalar]:
    found: list[Scalar] = []
    for argument in node.arguments:
        nested = isinstance(argument, Apply) and argument.operation == node.operation
        found += _operands(argument) if nested and isinstance(argument, Apply) else [argument]
    return found


def _index(index: Index, labels: Labels) -> str:
    parts = []
    for atom, coefficient in index.terms:
        if isinstance(atom, Iterator):
            parts.append(f"{coefficient}{labels[atom]}")
        else:
            sign = "/" if isinstance(atom, FloorDiv) else "%"
            parts.append(f"{coefficient}({_index(atom.index, labels)}){sign}{atom.divisor}")
    return f"{sorted(parts)}+{index.constant}"


def renamed(scope: Scope, random: Random) -> Scope:
    """The scope with other names, its reductions and the operands of commutative operations in another order."""
    names = [f"q{place}" for place in range(12)]
    random.shuffle(names)
    mapping = {old: Iterator(name, old.extent) for old, name in zip((*scope.traversal, *scope.reduction), names)}  # noqa: B905
    reduction = [mapping[iterator] for iterator in scope.reduction]
    random.shuffle(reduction)
    body = substitute(scope.body, {old: Index.of(new) for old, new in mapping.items()})
    return Scope([mapping[iterator] for iterator in scope.traversal], _shuffled(body, random), reduction, scope.reducer)


def _shuffled(node: Scalar, random: Random) -> Scalar:
    match node:
        case Apply():
            operands = [_shuffled(operand, random) for operand in node.arguments]
            if OPERATIONS[node.operation].commutative:
                random.shuffle(operands)
            return Apply(node.operation, *operands)
        case Cast():
            return Cast(_shuffled(node.argument, random), node.dtype)
        case Access() if isinstance(node.source, Scope):
            return Access(renamed(node.source, random), node.indices, node.outside)
        case _:
            return node


def nearly(scope: Scope, random: Random) -> Scope:
    """The scope with one thing changed: an index, an outside value, two factors' tensors, an order or the reducer."""
    reads = accesses(scope.body)
    iterators = [*scope.traversal, *scope.reduction]
    chosen = random.randrange(len(reads)) if reads else 0
    match random.randrange(5):
        case 0 if len(scope.traversal) > 1:
            turned = [*scope.traversal[1:], scope.traversal[0]]
            return Scope(turned, scope.body, scope.reduction, scope.reducer)
        case 1 if scope.reduction and scope.reducer is not None:
            return Scope(scope.traversal, scope.body, scope.reduction, random.choice(list(Reducer)))
        case 2 if reads and reads[chosen].indices and iterators:
            at = random.randrange(len(reads[chosen].indices))
            more = Index.of(random.choice(iterators)) if random.randrange(2) else Index.of(random.choice((-1, 1)))
            indices = [index + more if place == at else index for place, index in enumerate(reads[chosen].indices)]
            replacement = Access(reads[chosen].source, indices, reads[chosen].outside)
        case 3 if reads:
            replacement = Access(reads[chosen].source, reads[chosen].indices, random.choice((0.0, 1.0, 2.0)))
        case _ if reads:
            replacement = Access(reads[chosen].source, reads[chosen].indices[::-1], reads[chosen].outside)
        case _:
            return scope
    count = -1

    def leaf(node: Scalar) -> Scalar:
        nonlocal count
        if isinstance(node, Access):
            count += 1
        return replacement if isinstance(node, Access) and count == chosen else node

    return Scope(scope.traversal, map_scalar(scope.body, leaf), scope.reduction, scope.reducer)
