"""Exact canonical keys of scopes.

Two scopes have the same key exactly if they are the same up to renaming of iterators, the order of reduction iterators and
associativity and commutativity of operands; indices are in the normal form of ``tensoropt.ir.index``. Data types, shapes,
outside values, the identity of tensors and the order of traversal iterators count. Keys are the same in every process.

Method: reduction iterators are coloured by extent and by where they occur, colours are refined to a fixpoint, and where ties
stay each tied iterator is individualised in turn (one of them where a swap changes nothing); the least serialisation is the
canonical form. Nested scopes are closed, so they are canonised on their own and stand in the form as digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from weakref import WeakKeyDictionary

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
    scopes,
    tensors,
)
from tensoropt.ir.index import FloorDiv, Index, Iterator, Modulo
from tensoropt.ir.scalar import OPERATIONS

Labels = dict[Iterator, str]
SourceText = Callable[[Tensor | Scope], str]

_TIE_LIMIT = 24
"""Orders of tied tensors that a kernel key tries before it lets names decide."""

_texts: WeakKeyDictionary[Scope, str] = WeakKeyDictionary()
_keys: WeakKeyDictionary[Scope, str] = WeakKeyDictionary()


def canonical_key(scope: Scope) -> str:
    """A digest of the canonical form, 64 hexadecimal digits."""
    found = _keys.get(scope)
    if found is None:
        found = _keys[scope] = _digest(_text(scope))
    return found


def canonical_form(scope: Scope) -> str:
    """The exact serialisation behind the key: one line for each nested scope (digest and form), the scope itself last."""
    nested = sorted({f"{canonical_key(inner)} = {_text(inner)}" for inner in scopes(scope) if inner is not scope})
    return "\n".join([*nested, _text(scope)])


def canonical_kernel_key(scope: Scope) -> tuple[str, tuple[Tensor, ...]]:
    """A key that abstracts from the names of tensors, and the tensors in the order that the key numbers them.

    Scopes with the same key compute the same function of their tensors taken in that order, so they can share code.
    """
    read = tensors(scope)
    colours = _refined_tensors(scope, dict.fromkeys(read, ""))
    best: tuple[str, tuple[Tensor, ...]] | None = None
    for order in _tensor_orders(scope, colours):
        text = _whole_text(scope, {tensor: str(place) for place, tensor in enumerate(order)})
        if best is None or text < best[0]:
            best = text, order
    assert best is not None
    return _digest(best[0]), best[1]


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=32).hexdigest()


def _text(scope: Scope) -> str:
    found = _texts.get(scope)
    if found is None:
        found = _texts[scope] = _canonical_text(scope, _named_source)
    return found


def _named_source(source: Tensor | Scope) -> str:
    if isinstance(source, Scope):
        return "{" + canonical_key(source) + "}"
    return f"{source.name!r}:{_type_text(source)}"


def _type_text(tensor: Tensor) -> str:
    return f"{tensor.type}@{tensor.type.layout.name}"


# One scope -----------------------------------------------------------------------------------------------------------


def _canonical_text(scope: Scope, source: SourceText) -> str:
    fixed = {iterator: f"t{place}" for place, iterator in enumerate(scope.traversal)}
    if len(scope.reduction) < 2:
        return _scope_text(scope, fixed, scope.reduction, source)
    occurrences = list(_occurrences(scope.body, ()))
    start = {iterator: (iterator.extent,) for iterator in scope.reduction}
    ranks = _ranked(start)
    return _least(scope, fixed, ranks, occurrences, source)


def _least(
    scope: Scope, fixed: Labels, ranks: dict[Iterator, int], occurrences: list[_Occurrence], source: SourceText
) -> str:
    ranks = _refined(fixed, ranks, occurrences, source)
    order = sorted(ranks, key=ranks.__getitem__)
    tied = next((cell for cell in _cells(ranks) if len(cell) > 1), None)
    if tied is None:
        return _scope_text(scope, fixed, order, source)
    first = tied[0]
    branches = [first, *(other for other in tied[1:] if not _swappable(scope, fixed, order, first, other, source))]
    return min(_least(scope, fixed, _individualised(ranks, chosen), occurrences, source) for chosen in branches)


def _individualised(ranks: dict[Iterator, int], chosen: Iterator) -> dict[Iterator, int]:
    return {iterator: 2 * rank + (iterator is not chosen) for iterator, rank in ranks.items()}


def _swappable(
    scope: Scope, fixed: Labels, order: list[Iterator], one: Iterator, other: Iterator, source: SourceText
) -> bool:
    exchanged = [other if iterator is one else one if iterator is other else iterator for iterator in order]
    return _scope_text(scope, fixed, order, source) == _scope_text(scope, fixed, exchanged, source)


_Occurrence = tuple[str, Scalar, frozenset[Iterator]]


def _occurrences(node: Scalar, path: tuple[str, ...]) -> Iterable[_Occurrence]:
    """Leaves with indices, each with the operators above it (and the operand's place where the order counts)."""
    match node:
        case Apply():
            free = OPERATIONS[node.operation].commutative
            for place, argument in enumerate(node.arguments):
                yield from _occurrences(argument, (*path, node.operation if free else f"{node.operation}.{place}"))
        case Cast():
            yield from _occurrences(node.argument, (*path, f"cast.{node.dtype.value}"))
        case Access():
            yield "/".join(path), node, frozenset().union(*(index.iterators() for index in node.indices))
        case IndexValue():
            yield "/".join(path), node, node.index.iterators()


def _refined(
    fixed: Labels, ranks: dict[Iterator, int], occurrences: list[_Occurrence], source: SourceText
) -> dict[Iterator, int]:
    while True:
        classes = len(set(ranks.values()))
        if classes == len(ranks):
            return ranks
        labels = {**fixed, **{iterator: f"r{rank}" for iterator, rank in ranks.items()}}
        seen: dict[Iterator, list[str]] = {iterator: [] for iterator in ranks}
        for path, leaf, present in occurrences:
            text = f"{path}|{_scalar_text(leaf, labels, source)}"
            for iterator in present:
                if iterator in seen:
                    marked = {**labels, iterator: "*"}
                    seen[iterator].append(f"{text}|{_scalar_text(leaf, marked, source)}")
        ranks = _ranked({iterator: (ranks[iterator], *sorted(seen[iterator])) for iterator in ranks})
        if len(set(ranks.values())) == classes:
            return ranks


def _ranked(signatures: Mapping[Iterator, tuple[int | str, ...]]) -> dict[Iterator, int]:
    places = {signature: place for place, signature in enumerate(sorted(set(signatures.values())))}
    return {iterator: places[signature] for iterator, signature in signatures.items()}


def _cells(ranks: dict[Iterator, int]) -> list[list[Iterator]]:
    cells: dict[int, list[Iterator]] = {}
    for iterator in sorted(ranks, key=lambda found: (ranks[found], found.name)):
        cells.setdefault(ranks[iterator], []).append(iterator)
    return list(cells.values())


# Serialisation under a labelling -------------------------------------------------------------------------------------


def _scope_text(scope: Scope, fixed: Labels, reduction: Iterable[Iterator], source: SourceText) -> str:
    labels = dict(fixed)
    extents = []
    for place, iterator in enumerate(reduction):
        labels[iterator] = f"r{place}"
        extents.append(str(iterator.extent))
    axes = ",".join(str(iterator.extent) for iterator in scope.traversal)
    folded = f"{scope.reducer.value}<{','.join(extents)}>" if scope.reducer else ""
    return f"L<{axes}>{folded} {_scalar_text(scope.body, labels, source)}"


def _scalar_text(node: Scalar, labels: Labels, source: SourceText) -> str:
    match node:
        case Access():
            indices = ",".join(_index_text(index, labels) for index in node.indices)
            outside = node.outside.value
            if outside == 0 and not node.dtype.is_float:
                return f"{source(node.source)}[{indices}]"
            return f"{source(node.source)}[{indices}]?{_number(node.outside)}"
        case Apply():
            operation = OPERATIONS[node.operation]
            operands = _flattened(node) if operation.associative and operation.commutative else node.arguments
            texts = [_scalar_text(operand, labels, source) for operand in operands]
            if operation.commutative:
                texts.sort()
            return f"{node.operation}({';'.join(texts)})"
        case Constant():
            return f"{_number(node)}:{node.dtype.value}"
        case Cast():
            return f"cast.{node.dtype.value}({_scalar_text(node.argument, labels, source)})"
        case IndexValue():
            return f"index.{node.dtype.value}({_index_text(node.index, labels)})"


def _number(constant: Constant) -> str:
    return constant.value.hex() if isinstance(constant.value, float) else str(int(constant.value))


def _flattened(node: Apply) -> list[Scalar]:
    flat: list[Scalar] = []
    for argument in node.arguments:
        same = isinstance(argument, Apply) and argument.operation == node.operation
        flat += _flattened(argument) if isinstance(argument, Apply) and same else [argument]
    return flat


def _index_text(index: Index, labels: Labels) -> str:
    parts = []
    for atom, coefficient in index.terms:
        match atom:
            case Iterator():
                text = labels[atom]
            case FloorDiv():
                text = f"({_index_text(atom.index, labels)})/{atom.divisor}"
            case Modulo():
                text = f"({_index_text(atom.index, labels)})%{atom.divisor}"
        parts.append(f"{coefficient}*{text}")
    parts.sort()
    return "+".join([*parts, str(index.constant)])


# Tensors without names -----------------------------------------------------------------------------------------------


def _form_digests(root: Scope, names: dict[Tensor, str]) -> dict[Scope, str]:
    """For each scope the digest of its form where tensors are known by their labels and types only."""
    digests: dict[Scope, str] = {}

    def source(found: Tensor | Scope) -> str:
        return "{" + digests[found] + "}" if isinstance(found, Scope) else f"#{names[found]}:{_type_text(found)}"

    for scope in scopes(root):
        digests[scope] = _digest(_canonical_text(scope, source))
    return digests


def _whole_text(root: Scope, names: dict[Tensor, str]) -> str:
    types = ";".join(f"{label}:{_type_text(tensor)}" for tensor, label in names.items())
    return f"{_form_digests(root, names)[root]}|{types}"


def _refined_tensors(root: Scope, colours: dict[Tensor, str]) -> dict[Tensor, str]:
    """Colours told apart by where tensors are read: in which scope, in which place of it, and how that scope is read."""
    while len(set(colours.values())) < len(colours) or "" in colours.values():
        digests = _form_digests(root, colours)
        context: dict[Scope, list[str]] = {scope: [] for scope in digests}
        seen: dict[Tensor, list[str]] = {tensor: [] for tensor in colours}
        for scope in reversed(scopes(root)):
            above = _digest("|".join(sorted(context[scope])))
            for access in dict.fromkeys(accesses(scope.body)):
                marked = _canonical_text(scope, _marking(access.source, digests, colours))
                use = f"{digests[scope]}|{above}|{marked}"
                if isinstance(access.source, Scope):
                    context[access.source].append(use)
                else:
                    seen[access.source].append(use)
        refined = {tensor: _digest("|".join([colours[tensor], *sorted(seen[tensor])])) for tensor in colours}
        if len(set(refined.values())) == len(set(colours.values())) and "" not in colours.values():
            return refined
        colours = refined
    return colours


def _marking(chosen: Tensor | Scope, digests: dict[Scope, str], colours: dict[Tensor, str]) -> SourceText:
    def source(found: Tensor | Scope) -> str:
        if found is chosen:
            return "*"
        return "{" + digests[found] + "}" if isinstance(found, Scope) else f"#{colours[found]}:{_type_text(found)}"

    return source


def _interchangeable(root: Scope, colours: dict[Tensor, str], tied: list[Tensor]) -> bool:
    """Whether exchanging the first tied tensor with any other leaves the form as it is, so that their order is free."""
    names = {tensor: f"{colour}.{place}" for place, (tensor, colour) in enumerate(colours.items())}
    form = _form_digests(root, names)[root]
    first = tied[0]
    return all(
        _form_digests(root, {**names, first: names[other], other: names[first]})[root] == form for other in tied[1:]
    )


def _tensor_orders(root: Scope, colours: dict[Tensor, str]) -> list[tuple[Tensor, ...]]:
    """Orders of the tensors by colour, ties broken in every way while that stays cheap."""
    cells: dict[str, list[Tensor]] = {}
    for tensor in sorted(colours, key=lambda found: (colours[found], found.name)):
        cells.setdefault(colours[tensor], []).append(tensor)
    tied = next((cell for cell in cells.values() if len(cell) > 1), None)
    if tied is None:
        return [tuple(tensor for cell in cells.values() for tensor in cell)]
    if _interchangeable(root, colours, tied):
        numbered = {tensor: f"{colours[tensor]}!{place:09}" for place, tensor in enumerate(tied)}
        return _tensor_orders(root, _refined_tensors(root, {**colours, **numbered}))
    branches = tied if len(tied) ** 2 <= _TIE_LIMIT else tied[:1]
    found: list[tuple[Tensor, ...]] = []
    for chosen in branches:
        apart = {tensor: colour + ("!" if tensor is chosen else "") for tensor, colour in colours.items()}
        found += _tensor_orders(root, _refined_tensors(root, apart))
        if len(found) >= _TIE_LIMIT:
            break
    return found
