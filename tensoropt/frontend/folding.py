"""Evaluation of nodes whose inputs are all constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tensoropt.frontend.constants import Fill, Known, materialised
from tensoropt.ir.program import Array
from tensoropt.ir.types import TensorType

if TYPE_CHECKING:
    import onnx

_LIMIT_BYTES = 64 << 20
_LIMIT_GROWTH = 16
_SMALL_FILL = 1 << 12

RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
_KEEPS_FILL = frozenset(
    {
        "Expand",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Identity",
        "Transpose",
        "Tile",
        "Slice",
        "Split",
        "Dropout",
    }
)
_ELEMENTWISE_ON_FILLS = frozenset(
    {"Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Exp", "Log", "Cast", "Equal", "Greater", "Less", "Not", "And",
     "Or", "Where", "Pow", "Max", "Min", "Reciprocal", "Relu", "Sigmoid", "Tanh", "Sign", "Floor", "Ceil"}
)  # fmt: skip


class Folder:
    """Folds nodes, remembering evaluators, since exporters repeat the same small nodes many times."""

    def __init__(self, opsets: Mapping[str, int], ir_version: int) -> None:
        self._opsets = opsets
        self._ir_version = ir_version
        self._evaluators: dict[bytes, Any] = {}

    def fold(
        self,
        node: onnx.NodeProto,
        attributes: Mapping[str, Any],
        inputs: Sequence[Known | None],
        types: Sequence[TensorType | None],
    ) -> list[Known] | None:
        """The values of all outputs, or None where the node is random, too large, or has no evaluator.

        ``types`` are the outputs' types as far as they are known; they bound the size of what is written out.
        """
        if node.op_type in RANDOM or any(kind is not None and attribute_is_graph(kind) for kind in attributes.values()):
            return None
        fills = self._fold_fill(node, attributes, inputs, types)
        if fills is not None:
            return fills
        given = sum(known.bytes if isinstance(known, Fill) else known.nbytes for known in inputs if known is not None)
        if any(isinstance(known, Fill) and known.bytes > _LIMIT_BYTES for known in inputs):
            return None
        limit = max(_LIMIT_BYTES, _LIMIT_GROWTH * given)
        if sum(kind.bytes for kind in types if kind is not None) > limit:
            return None
        arrays = [None if known is None else materialised(known) for known in inputs]
        direct = _DIRECT.get(node.op_type)
        if direct is not None and node.domain in ("", "ai.onnx"):
            result = direct(attributes, arrays, types)
            if result is not None:
                return [result]
        if any(kind is None for kind in types):
            return None
        return self._evaluate(node, arrays)

    def _fold_fill(
        self,
        node: onnx.NodeProto,
        attributes: Mapping[str, Any],
        inputs: Sequence[Known | None],
        types: Sequence[TensorType | None],
    ) -> list[Known] | None:
        first = types[0] if types else None
        if first is None or node.domain not in ("", "ai.onnx"):
            return None
        shape = tuple(int(extent) for extent in first.shape)
        if node.op_type == "ConstantOfShape":
            value = attributes.get("value")
            scalar = np.zeros((), np.float32) if value is None else np.asarray(value).reshape(-1)[0]
            return [_filled(np.asarray(scalar), shape)]
        source = inputs[0] if inputs else None
        if source is None or not any(isinstance(known, Fill) for known in inputs):
            if node.op_type == "Expand" and isinstance(source, np.ndarray) and source.size == 1:
                return [_filled(source.reshape(()), shape)]
            return None
        if (
            node.op_type in _KEEPS_FILL
            and isinstance(source, Fill)
            and len(types) == len([t for t in types if t is not None])
        ):
            if node.op_type == "Dropout" and len(types) > 1:
                return None
            return [
                _filled(source.value, tuple(int(extent) for extent in kind.shape)) for kind in types if kind is not None
            ]
        if node.op_type in _ELEMENTWISE_ON_FILLS:
            scalars = [_one_element(known) for known in inputs]
            if all(found is not None for found in scalars):
                result = self._evaluate(node, scalars)
                return None if result is None else [_filled(np.asarray(result[0]).reshape(()), shape)]
        return None

    def _evaluate(self, node: onnx.NodeProto, arrays: Sequence[Array | None]) -> list[Known] | None:
        import onnx
        from onnx import helper

        anonymous = onnx.NodeProto()
        anonymous.CopyFrom(node)
        anonymous.ClearField("name")
        for position, array in enumerate(arrays):
            anonymous.input[position] = "" if array is None else f"i{position}"
        for position, output in enumerate(node.output):
            anonymous.output[position] = f"o{position}" if output else ""
        key = anonymous.SerializeToString(deterministic=True)
        evaluator = self._evaluators.get(key)
        if evaluator is None:
            from onnx.reference import ReferenceEvaluator

            inputs = [
                helper.make_tensor_value_info(f"i{position}", 1, None)
                for position, array in enumerate(arrays)
                if array is not None
            ]
            outputs = [helper.make_tensor_value_info(name, 1, None) for name in anonymous.output if name]
            imports = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
            graph = helper.make_graph([anonymous], "fold", inputs, outputs)
            try:
                evaluator = ReferenceEvaluator(
                    helper.make_model(graph, opset_imports=imports, ir_version=self._ir_version)
                )
            except Exception:
                return None
            self._evaluators[key] = evaluator
        feeds = {f"i{position}": array for position, array in enumerate(arrays) if array is not None}
        try:
            with np.errstate(all="ignore"):
                results = evaluator.run(None, feeds)
        except Exception:  # the operator is not implemented or refuses these values: it is not folded then
            return None
        return [np.asarray(result) for result in results]


def attribute_is_graph(value: object) -> bool:
    """Whether an attribute holds a subgraph."""
    return type(value).__name__ == "GraphProto"


def _filled(value: Array, shape: tuple[int, ...]) -> Known:
    size = math.prod(shape)
    return np.full(shape, value, value.dtype) if size <= _SMALL_FILL else Fill(value.reshape(()), shape)


def _one_element(known: Known | None) -> Array | None:
    if isinstance(known, Fill):
        return known.value.reshape((1,) * len(known.shape))
    return known if known is not None and known.size == 1 else None


Direct = Callable[[Mapping[str, Any], Sequence[Any], Sequence[TensorType | None]], Array | None]


def _same_elements(
    attributes: Mapping[str, Any], arrays: Sequence[Any], types: Sequence[TensorType | None]
) -> Array | None:
    if types[0] is None or len(types) != 1:
        return None
    return np.asarray(arrays[0]).reshape(tuple(int(extent) for extent in types[0].shape))


def _transposed(
    attributes: Mapping[str, Any], arrays: Sequence[Any], types: Sequence[TensorType | None]
) -> Array | None:
    return np.ascontiguousarray(np.transpose(arrays[0], attributes.get("perm")))


def _range(attributes: Mapping[str, Any], arrays: Sequence[Any], types: Sequence[TensorType | None]) -> Array | None:
    start, limit, delta = (np.asarray(array).reshape(()) for array in arrays)
    if delta == 0:
        return None
    count = max(0, math.ceil((float(limit) - float(start)) / float(delta)))
    if count * start.dtype.itemsize > _LIMIT_BYTES:
        return None
    return np.asarray(start + np.arange(count).astype(start.dtype) * delta).astype(start.dtype)


_DIRECT: dict[str, Direct] = {
    "Range": _range,
    "Identity": _same_elements,
    "Reshape": _same_elements,
    "Squeeze": _same_elements,
    "Unsqueeze": _same_elements,
    "Flatten": _same_elements,
    "Transpose": _transposed,
}
"""Folded without an evaluator, since models have hundreds of these on their weights."""
