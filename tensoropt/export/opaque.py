"""Opaque statements put back as the ONNX nodes that they were."""

from __future__ import annotations

import onnx
from onnx import helper, version_converter

from tensoropt.errors import ModelError
from tensoropt.export.graph import ONNX_TYPES
from tensoropt.ir.program import Opaque


def node_for_opset(statement: Opaque, domains: dict[str, int]) -> onnx.NodeProto:
    """The statement's node, valid for the versions in ``domains``, to which its own domain is added where it is new.

    ModelError where two statements need different versions of a domain other than the standard one, or where the node
    means something else in the model's version and cannot be converted.
    """
    node: onnx.NodeProto = onnx.NodeProto.FromString(statement.node)
    domain = "" if statement.domain == "ai.onnx" else statement.domain
    wanted = domains.setdefault(domain, statement.opset)
    if wanted == statement.opset:
        return node
    if domain:
        raise ModelError(
            f"node {node.name or statement.outputs[0].name} ({statement.operator}) needs opset {statement.opset} of {domain}, "
            f"another node opset {wanted}"
        )
    old, new = (_since(statement.operator, version) for version in (statement.opset, wanted))
    return node if old == new and old is not None else _converted(statement, node, wanted)


def _since(operator: str, opset: int) -> int | None:
    try:
        return int(onnx.defs.get_schema(operator, opset, "").since_version)
    except onnx.defs.SchemaError:
        return None


def _converted(statement: Opaque, node: onnx.NodeProto, opset: int) -> onnx.NodeProto:
    inputs = [
        helper.make_tensor_value_info(tensor.name, ONNX_TYPES[tensor.dtype], [int(extent) for extent in tensor.shape])
        for tensor in statement.inputs
    ]
    outputs = [
        helper.make_tensor_value_info(tensor.name, ONNX_TYPES[tensor.dtype], [int(extent) for extent in tensor.shape])
        for tensor in statement.outputs
    ]
    imports = [helper.make_opsetid("", statement.opset)]
    model = helper.make_model(helper.make_graph([node], "node", inputs, outputs), opset_imports=imports)
    try:
        nodes: list[onnx.NodeProto] = list(version_converter.convert_version(model, opset).graph.node)
    except Exception as error:  # the converter raises whatever its C++ does
        raise _refusal(statement, node, opset, str(error).splitlines()[0]) from None
    if len(nodes) != 1:
        raise _refusal(statement, node, opset, "it becomes several nodes")
    return nodes[0]


def _refusal(statement: Opaque, node: onnx.NodeProto, opset: int, reason: str) -> ModelError:
    name = node.name or statement.outputs[0].name
    return ModelError(
        f"node {name} ({statement.operator}, opset {statement.opset}) cannot be written for opset {opset}: {reason}"
    )
