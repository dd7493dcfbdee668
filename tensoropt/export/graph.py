"""Builds lists of ONNX nodes: names, constants, and short methods for the operators whose parameters are tensors.

The same builder fills the main graph and the bodies of functions, so all constants other than weights are Constant nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tensoropt.ir.program import Array
from tensoropt.ir.types import DataType

OPSETS = range(18, 22)
"""Versions of the standard operators that the emitted nodes are valid for."""

ONNX_TYPES: dict[DataType, int] = {
    DataType.BOOL: TensorProto.BOOL,
    DataType.INT8: TensorProto.INT8,
    DataType.INT16: TensorProto.INT16,
    DataType.INT32: TensorProto.INT32,
    DataType.INT64: TensorProto.INT64,
    DataType.UINT8: TensorProto.UINT8,
    DataType.UINT16: TensorProto.UINT16,
    DataType.UINT32: TensorProto.UINT32,
    DataType.UINT64: TensorProto.UINT64,
    DataType.FLOAT16: TensorProto.FLOAT16,
    DataType.BFLOAT16: TensorProto.BFLOAT16,
    DataType.FLOAT32: TensorProto.FLOAT,
    DataType.FLOAT64: TensorProto.DOUBLE,
}


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor in the ONNX graph: its name there, element type and shape."""

    name: str
    dtype: DataType
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


@dataclass(slots=True)
class Graph:
    """Nodes in order. Names of new values avoid ``taken`` and start with ``prefix``."""

    taken: set[str] = field(default_factory=set)
    prefix: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    _attempts: dict[str, int] = field(default_factory=dict)
    _reshaped: dict[str, Value] = field(default_factory=dict)
    """What a reshaped value was before, so that a chain of reshapes is one node; ``prune`` takes the others away."""
    _constants: dict[tuple[str, tuple[int, ...], bytes], Value] = field(default_factory=dict)

    def fresh(self, hint: str) -> str:
        """A name that nothing has yet."""
        name = hint = self.prefix + hint
        while name in self.taken:
            self._attempts[hint] = self._attempts.get(hint, 0) + 1
            name = f"{hint}_{self._attempts[hint]}"
        self.taken.add(name)
        return name

    def emit(
        self, operator: str, inputs: Sequence[Value], shape: Iterable[int], dtype: DataType, **attributes: Any
    ) -> Value:
        """A node of one output, whose shape and type the caller knows."""
        result = Value(self.fresh(operator.lower()), dtype, tuple(int(extent) for extent in shape))
        self.nodes.append(helper.make_node(operator, [value.name for value in inputs], [result.name], **attributes))
        return result

    def constant(self, array: Array) -> Value:
        """A Constant node, one for each content."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (array.dtype.str + array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            value = Value(self.fresh("constant"), DataType.from_numpy(array.dtype), array.shape)
            proto = numpy_helper.from_array(array)
            self.nodes.append(helper.make_node("Constant", [], [value.name], value=proto))
            self._constants[key] = value
        return self._constants[key]

    def integers(self, numbers: Sequence[int]) -> Value:
        """A vector of i64, as shapes, axes and pads are given."""
        return self.constant(np.array(numbers, np.int64))

    def scalar(self, number: bool | int | float, dtype: DataType) -> Value:
        """A constant without axes."""
        with np.errstate(all="ignore"):
            return self.constant(np.array(number).astype(dtype.numpy))

    def cast(self, value: Value, dtype: DataType) -> Value:
        """The value in another element type; itself where it has it."""
        if value.dtype is dtype:
            return value
        return self.emit("Cast", [value], value.shape, dtype, to=ONNX_TYPES[dtype])

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """The same elements in another shape."""
        if value.shape == tuple(shape):
            return value
        base = self._reshaped.get(value.name, value)
        if base.shape == tuple(shape):
            return base
        attributes = {"allowzero": 1} if 0 in shape else {}
        result = self.emit("Reshape", [base, self.integers(shape)], shape, value.dtype, **attributes)
        self._reshaped[result.name] = base
        return result

    def prune(self, needed: Iterable[str], first: int = 0) -> None:
        """Takes away the nodes from ``first`` on that nothing needs."""
        wanted = set(needed)
        kept: list[onnx.NodeProto] = []
        gone: set[str] = set()
        for node in reversed(self.nodes[first:]):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
            else:
                gone.update(node.output)
        self.nodes[first:] = reversed(kept)
        for key, value in list(self._constants.items()):
            if value.name in gone:
                del self._constants[key]

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Axis ``a`` of the result is axis ``order[a]`` of the value."""
        if list(order) == list(range(value.rank)):
            return value
        shape = tuple(value.shape[axis] for axis in order)
        if [axis for axis in order if value.shape[axis] != 1] == [a for a in range(value.rank) if value.shape[a] != 1]:
            return self.reshape(value, shape)
        return self.emit("Transpose", [value], shape, value.dtype, perm=list(order))

    def expand(self, value: Value, shape: Sequence[int]) -> Value:
        """The value broadcast to a shape."""
        if value.shape == tuple(shape):
            return value
        carrier = DataType.FLOAT32 if value.dtype is DataType.BFLOAT16 else value.dtype
        wide = self.cast(value, carrier)
        return self.cast(self.emit("Expand", [wide, self.integers(shape)], shape, carrier), value.dtype)

    def slice(self, value: Value, starts: Sequence[int], extents: Sequence[int], steps: Sequence[int]) -> Value:
        """``extents[a]`` elements of each axis from ``starts[a]`` on, ``steps[a]`` apart; every step is positive."""
        axes = [
            axis
            for axis, extent in enumerate(value.shape)
            if (starts[axis], steps[axis]) != (0, 1) or extents[axis] != extent
        ]
        if not axes:
            return value
        ends = [starts[axis] + (extents[axis] - 1) * steps[axis] + 1 for axis in axes]
        bounds = [[starts[axis] for axis in axes], ends, axes, [steps[axis] for axis in axes]]
        return self.emit("Slice", [value, *map(self.integers, bounds)], extents, value.dtype)

    def pad(self, value: Value, begins: Sequence[int], ends: Sequence[int], fill: bool | int | float) -> Value:
        """The value with elements added before and after each axis; the counts are not negative."""
        if not any(begins) and not any(ends):
            return value
        shape = [extent + low + high for extent, low, high in zip(value.shape, begins, ends, strict=True)]
        carrier = _PAD_CARRIERS.get(value.dtype, value.dtype)
        wide = self.cast(value, carrier)
        operands = [wide, self.integers([*begins, *ends]), self.scalar(fill, carrier)]
        return self.cast(self.emit("Pad", operands, shape, carrier), value.dtype)

    def where(self, condition: Value, chosen: Value, other: Value) -> Value:
        """``chosen`` where the condition holds, else ``other``; all broadcast."""
        carrier = _WHERE_CARRIERS.get(chosen.dtype, chosen.dtype)
        shape = np.broadcast_shapes(condition.shape, chosen.shape, other.shape)
        operands = [condition, self.cast(chosen, carrier), self.cast(other, carrier)]
        return self.cast(self.emit("Where", operands, shape, carrier), chosen.dtype)


_PAD_CARRIERS = {
    DataType.INT16: DataType.INT32,
    DataType.UINT16: DataType.INT32,
    DataType.BFLOAT16: DataType.FLOAT32,
}
_WHERE_CARRIERS = {
    DataType.BOOL: DataType.UINT8,
    DataType.INT16: DataType.INT32,
    DataType.UINT16: DataType.INT32,
    DataType.UINT64: DataType.INT64,
    DataType.BFLOAT16: DataType.FLOAT32,
}
"""Types that hold the values exactly where ONNX Runtime has no kernel for the type itself."""
