"""Slabs: a chain of statements run piece by piece along an axis, so that what lies between them is as small as a piece.

``L<x> f(x) = concat<s> (L<x'> f(x' + s·m))`` is the splitting of a traversal; where every statement of a chain reads the one
before only at its own position along the axis, all of them can be split and the pieces run one after the other. The axis is the
first of the last value with more than one element, so that its pieces are contiguous and are written in place (`plan.storage`);
along it no piece needs what another has computed. Weights are sliced beforehand and other inputs by views, so that pieces share
their code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Scalar, Scope, Tensor, map_scalar, tensors
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array, Compute, Program, Statement
from tensoropt.ir.structure import axes_of
from tensoropt.ir.types import DataType, TensorType

LONGEST = 6
"""Statements of a chain: each piece is a call of a kernel for each of them."""


class NotSeparable(Exception):
    """A statement reads what is cut along the axis at other positions than its own."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Statements, each of which alone reads the one before, and the axis along which the last is cut."""

    statements: tuple[Compute, ...]
    axis: int

    @property
    def extent(self) -> int:
        """Points of the axis."""
        return int(self.statements[-1].output.shape[self.axis])


def chain_of(program: Program, name: str) -> Chain | None:
    """The longest chain of at most ``LONGEST`` statements around that which writes a value; None where it cannot be cut.

    Values between the statements are read by nothing else and are no outputs, and neither is the last, which is written in pieces.
    """
    producers, readers = program.producers(), program.consumers()
    kept = set(program.outputs)
    statement = next((one for one in program.statements if one.outputs[0].name == name), None)
    if not isinstance(statement, Compute) or statement.output in kept:
        return None
    found: tuple[Compute, ...] = (statement,)
    while len(found) < LONGEST:
        sources = sorted(found[0].inputs, key=lambda tensor: -tensor.type.bytes)
        before = [
            producers[tensor]
            for tensor in sources
            if tensor in producers and len(readers[tensor]) == 1 and tensor not in kept
        ]
        longer = [(one, *found) for one in before if isinstance(one, Compute)]
        after = readers.get(found[-1].output, [])
        longer += [(*found, one) for one in after if len(after) == 1 and isinstance(one, Compute)]
        chosen = next((one for one in longer if one[-1].output not in kept and _separable(program, one)), None)
        if chosen is None:
            break
        found = chosen
    return Chain(found, _first_axis(found[-1])) if len(found) > 1 else None


def _first_axis(statement: Compute) -> int:
    """The first axis with more than one element."""
    return next((place for place, extent in enumerate(statement.output.shape) if extent > 1), 0)


def _separable(program: Program, statements: tuple[Compute, ...]) -> bool:
    try:
        _Cutting(program, Chain(statements, _first_axis(statements[-1])), 1).run()
    except (NotSeparable, IndexError):
        return False
    return True


def in_slabs(program: Program, chain: Chain, count: int) -> Program:
    """The program with a chain in so many pieces of equal size. NotSeparable where the axis does not divide."""
    if chain.extent % count:
        raise NotSeparable(f"{chain.extent} points are not {count} equal pieces")
    return _Cutting(program, chain, count).run()


@dataclass
class _Cutting:
    program: Program
    chain: Chain
    count: int
    constants: dict[str, Array] = field(default_factory=dict)
    made: list[Statement] = field(default_factory=list)

    def run(self) -> Program:
        size = self.chain.extent // self.count
        names = {statement.output.name for statement in self.chain.statements}
        pieces: list[Tensor] = []
        for number in range(self.count):
            pieces.append(self._piece(number, size))
        last = self.chain.statements[-1]
        self.made.append(Compute(last.output, _joined(last.output, pieces, self.chain.axis), last.origin))
        place = next(k for k, one in enumerate(self.program.statements) if one.outputs[0].name == last.output.name)
        kept = [one for one in self.program.statements if one.outputs[0].name not in names]
        cut = sum(one.outputs[0].name not in names for one in self.program.statements[:place])
        constants = {**self.program.constants, **self.constants}
        return self.program.with_statements([*kept[:cut], *self.made, *kept[cut:]], constants)

    def _piece(self, number: int, size: int) -> Tensor:
        """The statements of one piece; the tensor that holds its part of the last value."""
        axes = {self.chain.statements[-1].output: self.chain.axis}
        for statement in reversed(self.chain.statements):  # where each value between is cut
            if statement.output not in axes:
                raise NotSeparable(f"{statement.output.name} is not read along the axis")
            for tensor, axis in _cut_axes(statement.expression, axes[statement.output]).items():
                axes.setdefault(tensor, axis)
        replaced: dict[Tensor, Tensor] = {}
        for statement in self.chain.statements:
            axis = axes[statement.output]
            expression = self._restricted(statement.expression, axis, number * size, size, axes, replaced)
            made = Tensor(f"{statement.output.name}/slab{number}", expression.type)
            self.made.append(Compute(made, expression, statement.origin))
            replaced[statement.output] = made
        return replaced[self.chain.statements[-1].output]

    def _restricted(
        self,
        scope: Scope,
        axis: int,
        start: int,
        size: int,
        axes: Mapping[Tensor, int],
        replaced: Mapping[Tensor, Tensor],
    ) -> Scope:
        """The scope computed for ``size`` points of an axis from ``start`` on."""
        whole = scope.traversal[axis]
        piece = Iterator(whole.name, size)
        moved = {whole: Index.of(piece) + start}
        nested: dict[tuple[Scope, int], Scope] = {}

        def leaf(node: Scalar) -> Scalar:
            match node:
                case Access():
                    own = _own_axis(node, whole)
                    if own is None:
                        read = tensors(node.source) if isinstance(node.source, Scope) else [node.source]
                        if _mentions(node, whole) or any(tensor in replaced for tensor in read):
                            raise NotSeparable(f"{node.source!r} is read across the axis")
                        return node
                    indices = list(node.indices)
                    indices[own] = Index.of(piece)
                    if isinstance(node.source, Scope):
                        if (node.source, own) not in nested:
                            inner = self._restricted(node.source, own, start, size, axes, replaced)
                            nested[node.source, own] = inner
                        return Access(nested[node.source, own], indices, node.outside)
                    if node.source in replaced:
                        if axes[node.source] != own:
                            raise NotSeparable(f"{node.source!r} is cut along another axis")
                        return Access(replaced[node.source], indices, node.outside)
                    return Access(self._sliced(node.source, own, start, size), indices, node.outside)
                case IndexValue():
                    return IndexValue(node.index.substitute(moved), node.dtype)
                case _:
                    return node

        body = map_scalar(scope.body, leaf)
        traversal = [piece if place == axis else one for place, one in enumerate(scope.traversal)]
        return Scope(traversal, body, scope.reduction, scope.reducer)

    def _sliced(self, tensor: Tensor, axis: int, start: int, size: int) -> Tensor:
        """A tensor's part along an axis: of a constant another constant, of other values a slice, a view where it is contiguous."""
        shape = [size if place == axis else int(extent) for place, extent in enumerate(tensor.shape)]
        name = f"{tensor.name}/{axis}from{start}to{start + size}"
        part = Tensor(name, TensorType(tensor.dtype, tuple(shape)))  # type: ignore[arg-type]
        if tensor.name in self.program.constants:
            cut = tuple(slice(start, start + size) if place == axis else slice(None) for place in range(len(shape)))
            self.constants[part.name] = self.program.constants[tensor.name][cut]
        elif all(part not in statement.outputs for statement in (*self.program.statements, *self.made)):
            iterators = axes_of(shape)
            indices = [Index.of(one) + (start if place == axis else 0) for place, one in enumerate(iterators)]
            self.made.append(Compute(part, Scope(iterators, Access(tensor, indices))))
        return part


def _own_axis(access: Access, iterator: Iterator) -> int | None:
    """The axis of the source that is read at exactly the iterator, of its extent, if it is in no other index."""
    found = [place for place, index in enumerate(access.indices) if iterator in index.iterators()]
    if len(found) != 1 or access.indices[found[0]] is not Index.of(iterator):
        return None
    return found[0] if access.source.shape[found[0]] == iterator.extent else None


def _mentions(access: Access, iterator: Iterator) -> bool:
    return any(iterator in index.iterators() for index in access.indices)


def _cut_axes(scope: Scope, axis: int) -> dict[Tensor, int]:
    """The axis along which each tensor is read at a scope's own position, those that nested scopes read included."""
    found: dict[Tensor, int] = {}

    def look(node: Scalar) -> Scalar:
        if isinstance(node, Access):
            own = _own_axis(node, scope.traversal[axis])
            if own is not None and isinstance(node.source, Scope):
                found.update(_cut_axes(node.source, own))
            elif own is not None and isinstance(node.source, Tensor):
                found[node.source] = own
        return node

    map_scalar(scope.body, look)
    return found


def _joined(whole: Tensor, pieces: Sequence[Tensor], axis: int) -> Scope:
    """The concatenation of equal pieces, in the form that the frontend gives to one."""
    iterators = axes_of(whole.shape)
    size = int(pieces[0].shape[axis])
    body: Scalar | None = None
    for number in reversed(range(len(pieces))):
        indices = [Index.of(one) - (number * size if place == axis else 0) for place, one in enumerate(iterators)]
        read = Access(pieces[number], indices)
        before = Apply("lt", IndexValue(Index.of(iterators[axis])), Constant((number + 1) * size, DataType.INT64))
        body = read if body is None else Apply("where", before, read, body)
    assert body is not None
    return Scope(iterators, body)
