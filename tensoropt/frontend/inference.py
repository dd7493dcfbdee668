"""Types of one node's outputs, by onnx's own shape inference with every known constant given as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensoropt.errors import ModelError
from tensoropt.frontend.constants import Known, materialised
from tensoropt.frontend.weights import ELEMENT_TYPES, data_type_of, first_line, type_name
from tensoropt.ir.types import Extent, TensorType

if TYPE_CHECKING:
    import onnx

_DATA_ELEMENTS = 1 << 12
"""Constants up to this size are shown to shape inference as values; shapes, axes, pads and scales are smaller."""


@dataclass(frozen=True, slots=True)
class Unsized:
    """A type with an extent that depends on data. ``reason`` is a clause for a message."""

    reason: str


@dataclass(frozen=True, slots=True)
class TypeInference:
    """Infers types node by node. ``opsets`` gives the version of each domain, ``declared`` the model's own static value types."""

    label: str
    opsets: Mapping[str, int]
    ir_version: int
    declared: Mapping[str, TensorType]

    def schema(self, node: onnx.NodeProto, name: str) -> onnx.defs.OpSchema:
        """The operator's schema; ModelError for an operator, domain or opset that onnx does not know."""
        import onnx

        domain = "" if node.domain == "ai.onnx" else node.domain
        version = self.opsets.get(domain)
        full = f"{node.domain}::{node.op_type}" if domain else node.op_type
        full = full if full.isprintable() else repr(full)
        if version is None:
            raise ModelError(
                f"{self.label}: node {name!r} uses the operator {full}, but the model declares no opset for {domain!r}"
            )
        try:
            schema = onnx.defs.get_schema(node.op_type, version, domain)
        except onnx.defs.SchemaError:
            raise ModelError(
                f"{self.label}: node {name!r} uses the operator {full} (opset {version}), which is unknown and has no function "
                "body in the model; export with standard operators"
            ) from None
        if schema.deprecated and not has_body(schema):
            raise ModelError(
                f"{self.label}: node {name!r} uses the operator {full}, which opset {version} no longer has"
            )
        return schema

    def infer(
        self, node: onnx.NodeProto, name: str, types: Mapping[str, TensorType], known: Mapping[str, Known]
    ) -> dict[str, TensorType | Unsized]:
        """The type of each output; ModelError where the inputs do not fit the operator."""
        import onnx
        from onnx import helper, numpy_helper

        schema = self.schema(node, name)
        given = {
            value: helper.make_tensor_type_proto(
                ELEMENT_TYPES[types[value].dtype], [int(extent) for extent in types[value].shape]
            )
            for value in node.input
            if value
        }
        data = {
            value: numpy_helper.from_array(materialised(known[value]), value)
            for value in node.input
            if value in known and types[value].elements <= _DATA_ELEMENTS
        }
        imports = [helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, given, data, opset_imports=imports, ir_version=self.ir_version
            )
        except Exception as error:
            raise ModelError(
                f"{self.label}: node {name!r} ({node.op_type}) does not fit its inputs: {_reason(error)}"
            ) from None
        return {value: self._static(found.get(value), value, node, name) for value in node.output if value}

    def _static(
        self, found: onnx.TypeProto | None, value: str, node: onnx.NodeProto, name: str
    ) -> TensorType | Unsized:
        if found is not None and found.HasField("tensor_type"):
            tensor = found.tensor_type
            dtype = data_type_of(tensor.elem_type)
            if dtype is None and tensor.elem_type:
                return Unsized(f"has the unsupported element type {type_name(tensor.elem_type)}")
            if (
                dtype is not None
                and tensor.HasField("shape")
                and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
            ):
                extents = [int(dim.dim_value) for dim in tensor.shape.dim]
                if min(extents, default=0) < 0:
                    raise ModelError(
                        f"{self.label}: node {name!r} ({node.op_type}) would give {value!r} the shape {extents}, "
                        "which has a negative extent"
                    )
                return TensorType(dtype, tuple(Extent(extent) for extent in extents))
        elif found is not None and found.WhichOneof("value") is not None:
            return Unsized("is not a tensor")
        if value in self.declared:
            return self.declared[value]
        return Unsized("has a shape that depends on data")


def has_body(schema: onnx.defs.OpSchema) -> bool:
    """Whether ONNX gives the operator's meaning as a function."""
    described: Any = schema  # the stubs of onnx lack these two
    return bool(described.has_function or described.has_context_dependent_function)


def declared_types(graph: onnx.GraphProto) -> dict[str, TensorType]:
    """The static types that the file itself states for intermediate values."""
    types: dict[str, TensorType] = {}
    for value in graph.value_info:
        tensor = value.type.tensor_type
        dtype = data_type_of(tensor.elem_type)
        if (
            dtype is not None
            and tensor.HasField("shape")
            and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
        ):
            types[value.name] = TensorType(dtype, tuple(Extent(dim.dim_value) for dim in tensor.shape.dim))
    return types


def _reason(error: Exception) -> str:
    return first_line(error).removeprefix("[ShapeInferenceError] ").removeprefix("[TypeInferenceError] ")
