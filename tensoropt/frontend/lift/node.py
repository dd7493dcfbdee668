"""What a lifting function sees of an ONNX node, and how it writes statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensoropt.frontend.constants import Fill, Known, known_type, materialised, uniform_value
from tensoropt.frontend.lift.formula import Formula, formula_of
from tensoropt.ir.expression import Access, Constant, Number, Reducer, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Array, Compute
from tensoropt.ir.types import DataType, Extent, TensorType

_FILL_WRITTEN_OUT = 64 << 20
"""A fill up to this size is written out where a kernel wants a tensor, such as the weights of a convolution."""

IndexLike = Index | Iterator | int


class NotExpressed(Exception):
    """Tensor algebra does not express this node (the message says why); its function body or an opaque statement does."""


@dataclass(frozen=True, slots=True)
class Operand:
    """An input of a node: a tensor of the program, and its value where that is constant.

    ``uniform`` is the value that all elements share, ``formula`` computes them from their position, where there is one.
    """

    tensor: Tensor
    known: Known | None
    uniform: Array | None
    formula: Formula | None

    @staticmethod
    def of(tensor: Tensor, known: Known | None) -> Operand:
        """An operand; looks whether a constant has the same value everywhere."""
        uniform = None if known is None else uniform_value(known)
        formula = formula_of(known) if uniform is None and isinstance(known, np.ndarray) else None
        return Operand(tensor, known, uniform, formula)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents as plain integers."""
        return tuple(int(extent) for extent in self.tensor.shape)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.tensor.shape)

    @property
    def dtype(self) -> DataType:
        """Element type."""
        return self.tensor.dtype

    @property
    def array(self) -> Array | None:
        """The value as an array (a broadcast view for a fill), None where it is not constant."""
        return None if self.known is None else materialised(self.known)

    def at(self, indices: Iterable[IndexLike], outside: Number = 0) -> Scalar:
        """The element at the indices: a literal where all elements are equal, or computed, where no read leaves the box."""
        listed = [Index.of(index) for index in indices]
        inside = all(index.low >= 0 and index.high < extent for index, extent in zip(listed, self.shape, strict=True))
        if self.formula is not None and inside:
            return self.formula.at(listed)
        if self.uniform is not None:
            literal = Constant(self.uniform.item(), self.dtype)
            if inside or Constant(outside, self.dtype) is literal:
                return literal
        return self.read(listed, outside)

    def read(self, indices: Iterable[IndexLike], outside: Number = 0) -> Scalar:
        """The element at the indices as an access, for operands whose tensor a library operator would take."""
        if isinstance(self.known, Fill) and self.known.bytes > _FILL_WRITTEN_OUT:
            return Access(self._fill_scope(), indices, outside)
        return Access(self.tensor, indices, outside)

    def _fill_scope(self) -> Scope:
        assert self.uniform is not None
        iterators = tuple(Iterator(f"z{axis}", extent) for axis, extent in enumerate(self.shape))
        return Scope(iterators, Constant(self.uniform.item(), self.dtype))

    def broadcast(self, iterators: Sequence[Iterator], axis: int | None = None) -> Scalar:
        """The element that broadcasting pairs with a point of the iterators.

        Axes align at the end, or from ``axis`` on (the rule of opsets before 7).
        """
        start = len(iterators) - self.rank if axis is None else axis
        if start < 0:
            raise NotExpressed("an operand has more axes than the result")
        return self.at(0 if extent == 1 else iterators[start + position] for position, extent in enumerate(self.shape))


@dataclass(frozen=True, slots=True)
class Node:
    """An ONNX node with the types and constants that are known where it stands.

    ``operands`` holds None for an input that is left out, ``outputs`` for an output that is left out or unused. ``declare`` gives
    a unique value name from a wish; ``define`` adds a constant to the program.
    """

    name: str
    operator: str
    opset: int
    attributes: Mapping[str, Any]
    operands: tuple[Operand | None, ...]
    outputs: tuple[Tensor | None, ...]
    declare: Callable[[str], str]
    define: Callable[[str, Array], None]

    def operand(self, position: int) -> Operand:
        """A required input."""
        found = self.optional(position)
        if found is None:
            raise NotExpressed(f"input {position} is missing")
        return found

    def optional(self, position: int) -> Operand | None:
        """An optional input, None where it is left out."""
        return self.operands[position] if position < len(self.operands) else None

    def constant(self, position: int) -> Array:
        """The value of an input that must be constant."""
        array = self.operand(position).array
        if array is None:
            raise NotExpressed(f"input {position} is not constant")
        return array

    def optional_integers(self, position: int) -> list[int] | None:
        """The values of an optional constant integer input, None where it is left out."""
        if self.optional(position) is None:
            return None
        return [int(value) for value in self.constant(position).reshape(-1)]

    @property
    def output(self) -> Tensor:
        """The first output."""
        if not self.outputs or self.outputs[0] is None:
            raise NotExpressed("the first output is unused")
        return self.outputs[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents of the first output."""
        return tuple(int(extent) for extent in self.output.shape)

    def only_first_output(self) -> None:
        """Refuses nodes whose further outputs are used."""
        if any(output is not None for output in self.outputs[1:]):
            raise NotExpressed("a further output is used")

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value."""
        return self.attributes.get(name, default)

    def integers(self, name: str, default: Sequence[int]) -> list[int]:
        """A list-of-integers attribute."""
        return [int(value) for value in self.attributes.get(name, default)]

    def intermediate(self, suffix: str, dtype: DataType, shape: Iterable[int]) -> Tensor:
        """A new tensor named after the first output."""
        name = self.declare(f"{self.output.name}.{suffix}")
        return Tensor(name, TensorType(dtype, tuple(Extent(extent) for extent in shape)))

    def new_constant(self, suffix: str, array: Array) -> Operand:
        """A new constant of the program named after the first output."""
        name = self.declare(f"{self.output.name}.{suffix}")
        self.define(name, np.ascontiguousarray(array))
        return Operand.of(Tensor(name, known_type(array)), array)

    def compute(
        self,
        output: Tensor,
        traversal: Sequence[Iterator],
        body: Scalar,
        reduction: Sequence[Iterator] = (),
        reducer: Reducer = Reducer.SUM,
    ) -> Compute:
        """The statement ``output = L<traversal> reducer<reduction> body``."""
        return Compute(output, Scope(traversal, body, reduction, reducer), (self.name,))


def tensor_operand(tensor: Tensor) -> Operand:
    """An intermediate as an operand."""
    return Operand(tensor, None, None, None)
