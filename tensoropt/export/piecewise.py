"""Concat: a body that reads other tensors from some position of an axis on, computed piece by piece."""

from __future__ import annotations

from itertools import pairwise

from tensoropt.export.graph import Value
from tensoropt.export.lowering import Lowering
from tensoropt.ir.expression import Apply, Cast, Constant, IndexValue, Scalar, Scope, children, substitute
from tensoropt.ir.index import Index, Iterator


def piecewise(lowering: Lowering, scope: Scope) -> Value | None:
    """``where(i < k, …, …)`` over a traversal iterator as the Concat of both parts; None where nothing is cut."""
    if scope.reduction:
        return None
    cuts = _cuts(scope.body, scope.traversal)
    if not cuts:
        return None
    iterator = next(iter(cuts))
    axis = scope.traversal.index(iterator)
    bounds = [0, *sorted(cuts[iterator]), iterator.extent]
    pieces: list[Value] = []
    for low, high in pairwise(bounds):
        part = Iterator(iterator.name, high - low)
        body = substitute(_resolved(scope.body, iterator, low), {iterator: Index.of(part) + low})
        traversal = [part if found is iterator else found for found in scope.traversal]
        pieces.append(lowering.scope(Scope(traversal, body)))
    return lowering.graph.emit("Concat", pieces, [int(extent) for extent in scope.shape], scope.dtype, axis=axis)


def _cuts(body: Scalar, traversal: tuple[Iterator, ...]) -> dict[Iterator, set[int]]:
    """Where conditions of the body change their value, by iterator, in the order in which they are met."""
    cuts: dict[Iterator, set[int]] = {}
    stack = [body]
    while stack:
        node = stack.pop()
        found = _threshold(node)
        if found is not None and found[0] in traversal and 0 < found[1] < found[0].extent:
            cuts.setdefault(found[0], set()).add(found[1])
        stack += reversed(children(node))
    return cuts


def _threshold(node: Scalar) -> tuple[Iterator, int] | None:
    """The iterator and the constant where a node is ``where(iterator < constant, …, …)``."""
    match node:
        case Apply(
            operation="where",
            arguments=(Apply(operation="lt", arguments=(IndexValue() as left, Constant() as right)), _, _),
        ):
            terms = left.index.terms
            if len(terms) == 1 and terms[0][1] == 1 and left.index.constant == 0 and isinstance(terms[0][0], Iterator):
                return terms[0][0], int(right.value)
    return None


def _resolved(node: Scalar, iterator: Iterator, low: int) -> Scalar:
    """The body where the conditions on the iterator have the value that they have from ``low`` to the next cut."""
    found = _threshold(node)
    match node:
        case Apply() if found is not None and found[0] is iterator:
            return _resolved(node.arguments[1] if low < found[1] else node.arguments[2], iterator, low)
        case Apply():
            return Apply(node.operation, *(_resolved(argument, iterator, low) for argument in node.arguments))
        case Cast():
            return Cast(_resolved(node.argument, iterator, low), node.dtype)
        case _:
            return node
