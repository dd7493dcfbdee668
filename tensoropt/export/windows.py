"""What the matchers of convolutions and pooling share: axes that are read whole, and axes that a window slides along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensoropt.export.graph import Graph, Value
from tensoropt.export.lowering import Lowering
from tensoropt.ir.expression import Scope
from tensoropt.ir.index import FloorDiv, Index, Iterator
from tensoropt.ir.types import HALVES, DataType

CONVOLUTION_TYPES = HALVES | {DataType.FLOAT32}
"""Types that are convolved and pooled, all of them in f32."""


@dataclass(frozen=True, slots=True)
class Slide:
    """``stride·output + dilation·tap + start``: a window of ``taps`` along an axis of ``extent`` that gives ``outputs`` positions.

    An iterator is None where its extent is 1, since indices do not show it then. ``dilation`` is negative where taps run backward.
    """

    output: Iterator | None
    tap: Iterator | None
    stride: int
    dilation: int
    start: int
    extent: int

    @property
    def outputs(self) -> int:
        """Positions of the window."""
        return 1 if self.output is None else self.output.extent

    @property
    def taps(self) -> int:
        """Elements that the window reads."""
        return 1 if self.tap is None else self.tap.extent

    def forward(self) -> Slide:
        """The slide with taps in the opposite order where they run backward."""
        if self.dilation > 0:
            return self
        return Slide(
            self.output,
            self.tap,
            self.stride,
            -self.dilation,
            self.start + self.dilation * (self.taps - 1),
            self.extent,
        )

    @property
    def padding(self) -> tuple[int, int]:
        """Elements to add before and after the axis; negative ones are cut off. For forward slides."""
        end = self.start + (self.outputs - 1) * self.stride + (self.taps - 1) * self.dilation + 1
        spare = self.extent - end
        return -self.start, 0 if 0 <= spare < self.stride else -spare


def whole(index: Index, extent: int) -> Iterator | None:
    """The iterator that an axis is read whole by; None where it is read in another way."""
    if len(index.terms) != 1 or index.constant != 0:
        return None
    atom, coefficient = index.terms[0]
    return atom if coefficient == 1 and isinstance(atom, Iterator) and atom.extent == extent else None


def is_unit(index: Index, extent: int) -> bool:
    """Whether an axis of extent 1 is read at its one element."""
    return extent == 1 and index.is_constant and index.constant == 0


def slide(index: Index, extent: int, traversal: Sequence[Iterator], reduction: Sequence[Iterator]) -> Slide | None:
    """The index as a window over at most one output and one tap; None where it is none."""
    output: Iterator | None = None
    tap: Iterator | None = None
    stride = dilation = 1
    for atom, coefficient in index.terms:
        if not isinstance(atom, Iterator):
            return None
        if atom in traversal and output is None and coefficient > 0:
            output, stride = atom, coefficient
        elif atom in reduction and tap is None:
            tap, dilation = atom, coefficient
        else:
            return None
    return Slide(output, tap, stride, dilation, index.constant, extent)


def fitted(graph: Graph, image: Value, slides: Sequence[Slide]) -> tuple[Value, list[int], list[int]]:
    """The image, whose last axes are those of the slides, with what no window reads cut off where padding would be negative;
    and the padding before and after each axis."""
    lead = image.rank - len(slides)
    begins, ends = zip(*(found.padding for found in slides), strict=True)
    starts = [0] * lead + [max(0, -begin) for begin in begins]
    stops = [*image.shape[:lead], *(found.extent + min(0, end) for found, end in zip(slides, ends, strict=True))]
    extents = [stop - start for start, stop in zip(starts, stops, strict=True)]
    cut = graph.slice(image, starts, extents, [1] * image.rank)
    return cut, [max(0, begin) for begin in begins], [max(0, end) for end in ends]


@dataclass(frozen=True, slots=True)
class Grouping:
    """``channels·(filter // group_filters) + channel``: the channels that a filter of a grouped convolution reads."""

    filter: Iterator
    group_filters: int
    channel: Iterator | None
    count: int


def grouping(
    index: Index, extent: int, traversal: Sequence[Iterator], reduction: Sequence[Iterator]
) -> Grouping | None:
    """The index of a channel axis as a grouping; None where it is none."""
    if index.constant != 0 or not 1 <= len(index.terms) <= 2:
        return None
    channel = next((a for a, c in index.terms if c == 1 and isinstance(a, Iterator) and a in reduction), None)
    rest = [(atom, coefficient) for atom, coefficient in index.terms if atom is not channel]
    if len(rest) != 1 or rest[0][1] != (1 if channel is None else channel.extent):
        return None
    atom, width = rest[0]
    match atom:
        case Iterator():
            found, size = atom, 1
        case FloorDiv():
            inside = whole(atom.index, next(iter(atom.index.iterators())).extent)
            if inside is None:
                return None
            found, size = inside, atom.divisor
        case _:
            return None
    if found not in traversal or found.extent % size or found.extent // size * width != extent:
        return None
    return Grouping(found, size, channel, found.extent // size)


def flipped(graph: Graph, value: Value, axes: Sequence[int]) -> Value:
    """The value with the order along axes turned round."""
    if not axes:
        return value
    bounds = [[-1] * len(axes), [-value.shape[axis] - 1 for axis in axes], axes, [-1] * len(axes)]
    return graph.emit("Slice", [value, *(graph.integers(list(bound)) for bound in bounds)], value.shape, value.dtype)


def to_traversal(lowering: Lowering, value: Value, axes: Sequence[Iterator | None], scope: Scope) -> Value:
    """A value whose axes are the iterators (None: extent 1) brought to the order and shape of the scope's output."""
    named = [iterator for iterator in axes if iterator is not None]
    value = lowering.graph.reshape(value, [iterator.extent for iterator in named])
    result = lowering.arranged(value, named, scope.traversal)
    return lowering.graph.expand(result, tuple(int(extent) for extent in scope.shape))
