"""Function bodies that ONNX itself gives for operators, written out as nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tensoropt.frontend.weights import ELEMENT_TYPES
from tensoropt.ir.types import TensorType

if TYPE_CHECKING:
    import onnx


def expanded(
    node: onnx.NodeProto,
    schema: onnx.defs.OpSchema,
    opset: int,
    types: Mapping[str, TensorType],
    declare: Callable[[str], str],
) -> list[onnx.NodeProto] | None:
    """The node's function body with its own values named by ``declare``, or None where the operator has no body for this opset."""
    function = _body(node, schema, opset, types)
    if function is None:
        return None
    stem = next(output for output in node.output if output)
    renamed = {"": ""}
    for formal, actual in zip(function.input, [*node.input, *[""] * len(function.input)], strict=False):
        renamed[formal] = actual
    for formal, actual in zip(function.output, node.output, strict=False):
        if actual:
            renamed[formal] = actual
    attributes = {name: formal.default_value for name, formal in schema.attributes.items() if formal.default_value.type}
    attributes |= {attribute.name: attribute for attribute in function.attribute_proto}
    attributes |= {attribute.name: attribute for attribute in node.attribute}
    return [_instance(inner, renamed, attributes, lambda name: declare(f"{stem}.{name}")) for inner in function.node]


def _body(  # the stubs of onnx lack what is asked of the schema here
    node: onnx.NodeProto, schema: Any, opset: int, types: Mapping[str, TensorType]
) -> onnx.FunctionProto | None:
    import onnx
    from onnx import helper

    if schema.has_context_dependent_function:
        versions = [version for version in schema.context_dependent_function_opset_versions if version <= opset]
        given = [
            helper.make_tensor_type_proto(
                ELEMENT_TYPES[types[value].dtype], [int(extent) for extent in types[value].shape]
            )
            if value
            else onnx.TypeProto()
            for value in node.input
        ]
        for version in sorted(versions, reverse=True):
            data = schema.get_context_dependent_function_with_opset_version(
                version, node.SerializeToString(), [kind.SerializeToString() for kind in given]
            )
            if data:
                function = onnx.FunctionProto()
                function.ParseFromString(data)
                return function
    if schema.has_function:
        versions = [version for version in schema.function_opset_versions if version <= opset]
        for version in sorted(versions, reverse=True):
            data = schema.get_function_with_opset_version(version)
            if data:
                function = onnx.FunctionProto()
                function.ParseFromString(data)
                return function
    return None


def _instance(
    inner: onnx.NodeProto,
    renamed: dict[str, str],
    attributes: Mapping[str, onnx.AttributeProto],
    declare: Callable[[str], str],
) -> onnx.NodeProto:
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(inner)
    for position, name in enumerate(inner.input):
        if name not in renamed:
            renamed[name] = declare(name)
        copy.input[position] = renamed[name]
    for position, name in enumerate(inner.output):
        if name not in renamed:
            renamed[name] = declare(name)
        copy.output[position] = renamed[name]
    copy.ClearField("attribute")
    for attribute in inner.attribute:
        if not attribute.ref_attr_name:
            kept = copy.attribute.add()
            kept.CopyFrom(attribute)
            for graph in [kept.g, *kept.graphs] if kept.type in (5, 10) else []:
                _rename_captured(graph, renamed, attributes)
        elif attribute.ref_attr_name in attributes:
            kept = copy.attribute.add()
            kept.CopyFrom(attributes[attribute.ref_attr_name])
            kept.name = attribute.name
    return copy


def _rename_captured(
    graph: onnx.GraphProto, renamed: Mapping[str, str], attributes: Mapping[str, onnx.AttributeProto]
) -> None:
    """Renames what a subgraph captures from the function body; its own values keep their names."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {output for inner in graph.node for output in inner.output}
    for inner in graph.node:
        for position, name in enumerate(inner.input):
            if name not in own and name in renamed:
                inner.input[position] = renamed[name]
        for attribute in inner.attribute:
            if attribute.ref_attr_name in attributes:
                local = attribute.name
                attribute.CopyFrom(attributes[attribute.ref_attr_name])
                attribute.name = local
            for nested in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
                _rename_captured(nested, renamed, attributes)
    for value in graph.output:
        if value.name not in own and value.name in renamed:
            value.name = renamed[value.name]
