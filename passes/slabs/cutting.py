"""Slabs: a chain of statements run piece by piece along an axis, so that what lies between them is as small as a piece.

``L<x> f(x) = concat<s> (L<x'> f(x' + s·m))`` is the splitting of a traversal. A piece of the chain's last value is computed from
the parts of the values before that it reads; where these overlap (the halo of a window), a piece computes them again, or keeps
the last positions of the piece before. Pieces are written to their places in the last value (`plan.storage`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from passes.slabs.regions import Box, Source, aligned, is_contiguous, read_boxes, restricted, units, volume, whole_box
from tensoropt.ir.expression import Access, Apply, Constant, IndexValue, Scalar, Scope, Tensor, tensors
from tensoropt.ir.index import Index
from tensoropt.ir.program import Array, Compute, Program, Statement
from tensoropt.ir.structure import axes_of
from tensoropt.ir.types import DataType, TensorType


class Halo(Enum):
    """What becomes of positions that two neighbouring pieces of a value have in common."""

    COMPUTED = "computed"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Slabs:
    """A chain of statements, each of which alone reads the one before, cut along an axis of the last value."""

    statements: tuple[Compute, ...]
    axis: int
    count: int
    halo: Halo = Halo.COMPUTED

    @property
    def last(self) -> Tensor:
        """The value that the pieces make up."""
        return self.statements[-1].output

    def pieces(self) -> list[range]:
        """The positions of each piece along the axis; the last may be shorter."""
        extent = int(self.last.shape[self.axis])
        unit = units(self.statements[-1].expression)[self.axis]
        size = -(-extent // (self.count * unit)) * unit
        return [range(first, min(first + size, extent)) for first in range(0, extent, size)]

    def boxes(self, piece: range) -> list[Mapping[Source, Box]]:
        """For each statement what it computes (its own expression's box) and what it reads, for one piece of the last value."""
        box = tuple(
            piece if axis == self.axis else own for axis, own in enumerate(whole_box(self.statements[-1].expression))
        )
        found: list[Mapping[Source, Box]] = []
        for statement in reversed(self.statements):
            if found:
                box = aligned(statement.expression, found[0][statement.output])
            found.insert(0, read_boxes(statement.expression, box))
        return found


def in_slabs(program: Program, slabs: Slabs) -> Program:
    """The program with a chain in pieces, at the place of its last statement."""
    return _Cutting(program, slabs).run()


@dataclass
class _Cutting:
    program: Program
    slabs: Slabs
    constants: dict[str, Array] = field(default_factory=dict)
    made: list[Statement] = field(default_factory=list)
    before: dict[Tensor, tuple[Tensor, Box]] = field(default_factory=dict)
    """What the piece before has of each value of the chain."""

    def run(self) -> Program:
        slabs = self.slabs
        names = {statement.output.name for statement in slabs.statements}
        pieces = [self._piece(number, piece) for number, piece in enumerate(slabs.pieces())]
        last = slabs.statements[-1]
        self.made.append(Compute(last.output, _joined(last.output, pieces, slabs.axis), last.origin))
        place = next(k for k, one in enumerate(self.program.statements) if one.outputs[0].name == last.output.name)
        kept = [one for one in self.program.statements if one.outputs[0].name not in names]
        cut = sum(one.outputs[0].name not in names for one in self.program.statements[:place])
        constants = {**self.program.constants, **self.constants}
        return self.program.with_statements([*kept[:cut], *self.made, *kept[cut:]], constants)

    def _piece(self, number: int, piece: range) -> Tensor:
        """The statements of one piece; the tensor that holds its part of the last value."""
        held: dict[Tensor, tuple[Tensor, Box]] = {}
        for statement, boxes in zip(self.slabs.statements, self.slabs.boxes(piece), strict=True):
            box = boxes[statement.expression]
            name = f"{statement.output.name}/slab{number}"
            kept = self._kept(statement, box)
            if kept is None:
                made = self._computed(statement, boxes, held, name)
            else:
                axis, common = kept
                source, place = self.before[statement.output]
                again = tuple(common if k == axis else own for k, own in enumerate(box))
                rest = tuple(range(common.stop, own.stop) if k == axis else own for k, own in enumerate(box))
                copied = self._slice(source, _within(again, place), f"{name}/kept")
                new = self._computed(statement, read_boxes(statement.expression, rest), held, f"{name}/new")
                made = Tensor(name, TensorType(source.dtype, tuple(map(len, box))))  # type: ignore[arg-type]
                self.made.append(Compute(made, _joined(made, [copied, new], axis), statement.origin))
            held[statement.output] = (made, box)
        self.before = held
        return held[self.slabs.last][0]

    def _kept(self, statement: Compute, box: Box) -> tuple[int, range] | None:
        """The axis along which the piece before ends within this one's box, and the positions there that both have."""
        if self.slabs.halo is Halo.COMPUTED or statement.output not in self.before:
            return None
        other = self.before[statement.output][1]
        cut = [axis for axis, (own, before) in enumerate(zip(box, other, strict=True)) if own != before]
        if len(cut) != 1:
            return None
        common = range(box[cut[0]].start, min(other[cut[0]].stop, box[cut[0]].stop))
        if not common or common.start < other[cut[0]].start or len(common) == len(box[cut[0]]):
            return None
        rest = range(common.stop, box[cut[0]].stop)
        ends = tuple(rest if axis == cut[0] else own for axis, own in enumerate(box))
        return (cut[0], common) if aligned(statement.expression, ends) == ends else None

    def _computed(
        self, statement: Compute, boxes: Mapping[Source, Box], held: dict[Tensor, tuple[Tensor, Box]], name: str
    ) -> Tensor:
        """The statement for its box."""
        parts = dict(held)
        for tensor in tensors(statement.expression):
            if tensor in boxes and tensor not in held and boxes[tensor] != whole_box(tensor):
                part = self._part(tensor, boxes[tensor])
                if part is not None:
                    parts[tensor] = (part, boxes[tensor])
        expression = restricted(statement.expression, boxes, parts)
        made = Tensor(name, expression.type)
        self.made.append(Compute(made, expression, statement.origin))
        return made

    def _part(self, tensor: Tensor, box: Box) -> Tensor | None:
        """What is read of a tensor from outside the chain, so that pieces share their code: part of a constant, or a view."""
        if not volume(box):
            return None
        name = f"{tensor.name}/{','.join(f'{own.start}to{own.stop}' for own in box)}"
        if tensor.name in self.program.constants:
            part = Tensor(name, TensorType(tensor.dtype, tuple(map(len, box))))  # type: ignore[arg-type]
            cut = tuple(slice(own.start, own.stop) for own in box)
            self.constants[name] = self.program.constants[tensor.name][cut]
            return part
        # of the chain's own: another chain's may be made at a later place
        return self._slice(tensor, box, f"{name} for {self.slabs.last.name}") if is_contiguous(box, tensor) else None

    def _slice(self, tensor: Tensor, box: Box, name: str) -> Tensor:
        """A tensor's part as a value of its own."""
        part = Tensor(name, TensorType(tensor.dtype, tuple(map(len, box))))  # type: ignore[arg-type]
        if all(part not in statement.outputs for statement in self.made):
            iterators = axes_of(part.shape)
            indices = [Index.of(one) + own.start for one, own in zip(iterators, box, strict=True)]
            self.made.append(Compute(part, Scope(iterators, Access(tensor, indices))))
        return part


def _within(box: Box, other: Box) -> Box:
    """The box as positions of another that holds it."""
    return tuple(range(own.start - one.start, own.stop - one.start) for own, one in zip(box, other, strict=True))


def _joined(whole: Tensor, pieces: Sequence[Tensor], axis: int) -> Scope:
    """The concatenation of pieces, in the form that the frontend gives to one."""
    iterators = axes_of(whole.shape)
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + int(piece.shape[axis]))
    body: Scalar | None = None
    for number in reversed(range(len(pieces))):
        indices = [Index.of(one) - (ends[number] if place == axis else 0) for place, one in enumerate(iterators)]
        read = Access(pieces[number], indices)
        before = Apply("lt", IndexValue(Index.of(iterators[axis])), Constant(ends[number + 1], DataType.INT64))
        body = read if body is None else Apply("where", before, read, body)
    assert body is not None
    return Scope(iterators, body)
