"""One pass over the nodes of a model: constants are folded, types inferred, and every node becomes statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tensoropt.errors import ModelError
from tensoropt.frontend.constants import Fill, Known, known_type, materialised
from tensoropt.frontend.control_flow import branch_taken
from tensoropt.frontend.folding import RANDOM, Folder, attribute_is_graph
from tensoropt.frontend.function_bodies import expanded
from tensoropt.frontend.inference import TypeInference, Unsized
from tensoropt.frontend.lift.node import Node, NotExpressed, Operand
from tensoropt.frontend.lift.table import LIFTS
from tensoropt.frontend.pooled_shapes import POOLS, without_empty_windows
from tensoropt.frontend.structure import values_read
from tensoropt.frontend.weights import TensorReader, first_line
from tensoropt.frontend.wellformed import NodeChecker
from tensoropt.ir.expression import Constant, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.program import Array, Compute, Opaque, Statement
from tensoropt.ir.types import TensorType

if TYPE_CHECKING:
    import onnx

_DEEPEST_EXPANSION = 16
_FILL_WRITTEN_OUT = 64 << 20


class Importer:
    """The state of the pass; ``constants``, ``tensors`` and ``statements`` are its result."""

    def __init__(self, label: str, inference: TypeInference, reader: TensorReader, names: set[str]) -> None:
        self._label = label
        self._inference = inference
        self._reader = reader
        self._names = names
        self._checker = NodeChecker(label, inference.opsets, inference.ir_version)
        self._folder = Folder(inference.opsets, inference.ir_version)
        self._operands: dict[str, Operand] = {}
        self.constants: dict[str, Known] = {}
        self.tensors: dict[str, Tensor] = {}
        self.statements: list[Statement] = []

    def add_input(self, name: str, kind: TensorType) -> None:
        """A run-time input of the program."""
        self.tensors[name] = Tensor(name, kind)

    def add_constant(self, name: str, value: Known) -> None:
        """A value that is known now; ModelError for an element type that programs do not have."""
        try:
            kind = known_type(value)
        except KeyError:
            dtype = value.value.dtype if isinstance(value, Fill) else value.dtype
            raise ModelError(f"{self._label}: the constant {name!r} has the unsupported element type {dtype}") from None
        self.constants[name] = value
        self.tensors[name] = Tensor(name, kind)

    def process(self, node: onnx.NodeProto, name: str, used: set[str], depth: int = 0) -> None:
        """Folds, lifts, expands or keeps one node. ``used`` are the values that anything reads."""
        attributes = self._attributes(node, name)
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            self.add_constant(node.output[0], self._constant(attributes, name))
            return
        if any(attribute_is_graph(value) for value in attributes.values()):
            self._process_branch(node, name, attributes, used, depth)
            return
        if node.op_type in ("Shape", "Size") and node.domain in ("", "ai.onnx"):
            self.add_constant(node.output[0], _shape_value(node.op_type, self.tensors[node.input[0]], attributes))
            return
        schema = self._inference.schema(node, name)
        if not schema.deprecated:
            self._checker.check(node, name, attributes)
        if schema.deprecated and self._expand(node, name, schema, used, depth):
            return
        types = self._types(node, name, attributes)
        if self._fold(node, attributes, types) or self._lift(node, name, attributes, types, used):
            return
        try:
            expressed = self._expand(node, name, schema, used, depth)
        except ModelError:  # say what is wrong with the node that the model has, not with a part of its body
            if any(isinstance(kind, Unsized) for kind in types.values()):
                self._keep_opaque(node, name, types)
            raise
        if not expressed:
            self._keep_opaque(node, name, types)

    def _types(self, node: onnx.NodeProto, name: str, attributes: Mapping[str, Any]) -> dict[str, TensorType | Unsized]:
        types = self._inference.infer(node, name, self._input_types(node), self.constants)
        if node.op_type in POOLS and node.domain in ("", "ai.onnx"):
            image = self.tensors[node.input[0]].type
            return {
                value: kind if isinstance(kind, Unsized) else without_empty_windows(attributes, image, kind)
                for value, kind in types.items()
            }
        return types

    def _input_types(self, node: onnx.NodeProto) -> dict[str, TensorType]:
        return {value: self.tensors[value].type for value in node.input if value}

    def _expand(self, node: onnx.NodeProto, name: str, schema: onnx.defs.OpSchema, used: set[str], depth: int) -> bool:
        """Writes out the function body that ONNX gives for the operator, if there is one."""
        if depth >= _DEEPEST_EXPANSION:
            return False
        body = expanded(node, schema, self._opset(node), self._input_types(node), self.declare)
        if body is None:
            return False
        inner_used = used.union(*(values_read(inner) for inner in body))
        for inner in body:
            self.process(inner, name, inner_used, depth + 1)
        return True

    def declare(self, wish: str) -> str:
        """A value name that nothing has yet."""
        name, attempt = wish, 1
        while name in self._names:
            attempt += 1
            name = f"{wish}{attempt}"
        self._names.add(name)
        return name

    def operand(self, name: str) -> Operand:
        """A value as an operand."""
        found = self._operands.get(name)
        if found is None:
            found = self._operands[name] = Operand.of(self.tensors[name], self.constants.get(name))
        return found

    def _opset(self, node: onnx.NodeProto) -> int:
        return self._inference.opsets["" if node.domain == "ai.onnx" else node.domain]

    def _attributes(self, node: onnx.NodeProto, name: str) -> dict[str, Any]:
        from onnx import helper

        attributes: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise ModelError(
                    f"{self._label}: node {name!r} refers to the attribute {attribute.ref_attr_name!r} outside a function"
                )
            if attribute.HasField("t"):
                attributes[attribute.name] = self._reader.read(attribute.t)
            elif attribute.HasField("sparse_tensor"):
                attributes[attribute.name] = self._reader.read_sparse(attribute.sparse_tensor)
            else:
                value = helper.get_attribute_value(attribute)
                attributes[attribute.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
        return attributes

    def _constant(self, attributes: Mapping[str, Any], name: str) -> Array:
        for key, dtype in (
            ("value_float", np.float32),
            ("value_floats", np.float32),
            ("value_int", np.int64),
            ("value_ints", np.int64),
        ):
            if key in attributes:
                return np.asarray(attributes[key], dtype)
        value = attributes.get("value", attributes.get("sparse_value"))
        if value is None:
            raise ModelError(f"{self._label}: the constant node {name!r} holds no tensor of numbers")
        return np.asarray(value)

    def _process_branch(
        self, node: onnx.NodeProto, name: str, attributes: Mapping[str, Any], used: set[str], depth: int
    ) -> None:
        branch = branch_taken(node, name, self.constants, self.declare, self._label)
        inner_used = used.union(*(values_read(inner) for inner in branch.nodes))
        for tensor in branch.initializers:
            self.add_constant(tensor.name, self._reader.read(tensor))
        for inner in branch.nodes:
            self.process(inner, name, inner_used, depth + 1)

    def _fold(
        self, node: onnx.NodeProto, attributes: Mapping[str, Any], types: Mapping[str, TensorType | Unsized]
    ) -> bool:
        if any(value and value not in self.constants for value in node.input):
            return False
        inputs = [self.constants[value] if value else None for value in node.input]
        known = [found if isinstance(found := types.get(value), TensorType) else None for value in node.output if value]
        results = self._folder.fold(node, attributes, inputs, known)
        if results is None:
            return False
        for value, result in zip(filter(None, node.output), results, strict=True):
            self.add_constant(value, result)
        return True

    def _lift(
        self,
        node: onnx.NodeProto,
        name: str,
        attributes: Mapping[str, Any],
        types: Mapping[str, TensorType | Unsized],
        used: set[str],
    ) -> bool:
        lift = LIFTS.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
        if lift is None or any(isinstance(types[value], Unsized) for value in node.output if value in used):
            return False
        outputs: list[Tensor | None] = []
        for value in node.output:
            kind = types.get(value)
            outputs.append(Tensor(value, kind) if value in used and isinstance(kind, TensorType) else None)
        declared: dict[str, Array] = {}
        site = Node(
            name=name,
            operator=node.op_type,
            opset=self._opset(node),
            attributes=attributes,
            operands=tuple(self.operand(value) if value else None for value in node.input),
            outputs=tuple(outputs),
            declare=self.declare,
            define=declared.__setitem__,
        )
        try:
            statements = lift(site)
        except NotExpressed:
            return False
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ModelError(
                f"{self._label}: node {name!r} ({node.op_type}, opset {site.opset}) has attributes or inputs that do not fit "
                f"one another ({first_line(error)})"
            ) from error
        for value, array in declared.items():
            self.add_constant(value, array)
        for statement in statements:
            self._append(statement)
        return True

    def _append(self, statement: Statement) -> None:
        self.statements.append(statement)
        for output in statement.outputs:
            self.tensors[output.name] = output

    def _keep_opaque(self, node: onnx.NodeProto, name: str, types: Mapping[str, TensorType | Unsized]) -> None:
        opset = self._opset(node)
        full = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        where = f"{self._label}: node {name!r} ({full}, opset {opset})"
        if node.op_type in RANDOM:
            raise ModelError(
                f"{where} draws random numbers, so its result cannot be compiled or checked; feed them as an input"
            )
        outputs: list[Tensor] = []
        for value in filter(None, node.output):
            kind = types[value]
            if isinstance(kind, Unsized):
                raise ModelError(f"{where} has the output {value!r}, which {kind.reason}; this cannot be compiled")
            outputs.append(Tensor(value, kind))
        inputs = tuple(self._as_tensor(value, name) for value in node.input if value)
        self._append(
            Opaque(tuple(outputs), inputs, node.op_type, node.domain, opset, node.SerializeToString(), (name,))
        )

    def _as_tensor(self, value: str, name: str) -> Tensor:
        """The value as a tensor that an opaque operator can read; a huge fill gets a statement of its own."""
        self.write_out_fill(value, (name,))
        return self.tensors[value]

    def write_out_fill(self, value: str, origin: tuple[str, ...]) -> None:
        """Makes a statement of a fill that is too large to be a constant of the program."""
        known = self.constants.get(value)
        if isinstance(known, Fill) and known.bytes > _FILL_WRITTEN_OUT:
            tensor = self.tensors[value]
            iterators = tuple(Iterator(f"i{axis}", extent) for axis, extent in enumerate(known.shape))
            self._append(Compute(tensor, Scope(iterators, Constant(known.value.item(), tensor.dtype)), origin))
            del self.constants[value]
            self._operands.pop(value, None)

    def constant_array(self, value: str) -> Array:
        """A constant as the array that the program keeps."""
        known = self.constants[value]
        return np.ascontiguousarray(materialised(known)) if isinstance(known, Fill) else known


def _shape_value(operator: str, tensor: Tensor, attributes: Mapping[str, Any]) -> Array:
    extents = [int(extent) for extent in tensor.shape]
    if operator == "Size":
        return np.asarray(tensor.type.elements, np.int64)
    return np.asarray(extents[slice(attributes.get("start"), attributes.get("end"))], np.int64)
