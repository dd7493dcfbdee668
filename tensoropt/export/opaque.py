"""Opaque statements put back as the ONNX nodes that they were."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import helper, version_converter

from tensoropt.errors import ModelError
from tensoropt.export.graph import ONNX_TYPES, Graph
from tensoropt.ir.program import Opaque, Statement


def opset_for(statements: Iterable[Statement], preferred: int) -> int:
    """The version of the standard operators to write: the preferred one, or a later one where an operator exists only there."""
    needed = [preferred]
    for statement in statements:
        if isinstance(statement, Opaque) and _domain(statement) == "" and _since(statement.operator, preferred) is None:
            needed.append(statement.opset)
    return max(needed)


def emit_opaque(graph: Graph, statement: Opaque, domains: dict[str, int]) -> None:
    """Adds the statement's node, brought to the versions in ``domains``, to which its own domain is added where it is new.

    ModelError where two statements need different versions of a domain other than the standard one, or where the node
    means something else in the model's version and cannot be converted.
    """
    node: onnx.NodeProto = onnx.NodeProto.FromString(statement.node)
    domain = _domain(statement)
    wanted = domains.setdefault(domain, statement.opset)
    old, new = (_since(statement.operator, version) for version in (statement.opset, wanted))
    if wanted == statement.opset or (not domain and old == new and old is not None):
        graph.nodes.append(node)
        return
    if domain:
        raise ModelError(
            f"node {node.name or statement.outputs[0].name} ({statement.operator}) needs opset {statement.opset} of {domain}, "
            f"another node opset {wanted}"
        )
    graph.nodes += _converted(graph, statement, node, wanted)


def _domain(statement: Opaque) -> str:
    return "" if statement.domain == "ai.onnx" else statement.domain


def _since(operator: str, opset: int) -> int | None:
    try:
        return int(onnx.defs.get_schema(operator, opset, "").since_version)
    except onnx.defs.SchemaError:
        return None


def _converted(graph: Graph, statement: Opaque, node: onnx.NodeProto, opset: int) -> list[onnx.NodeProto]:
    """The nodes that do in this opset what the node does in its own."""
    inputs, outputs = (
        [
            helper.make_tensor_value_info(t.name, ONNX_TYPES[t.dtype], [int(extent) for extent in t.shape])
            for t in tensors
        ]
        for tensors in (dict.fromkeys(statement.inputs), statement.outputs)
    )
    imports = [helper.make_opsetid("", statement.opset)]
    model = helper.make_model(helper.make_graph([node], "node", inputs, outputs), opset_imports=imports)
    try:
        converted = version_converter.convert_version(model, opset).graph
    except Exception as error:  # the converter raises whatever its C++ does
        name = node.name or statement.outputs[0].name
        raise ModelError(
            f"node {name} ({statement.operator}, opset {statement.opset}) cannot be written for opset {opset}: "
            f"{str(error).splitlines()[0]}"
        ) from None
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in converted.initializer]
    nodes += converted.node
    kept = {tensor.name for tensor in (*statement.inputs, *statement.outputs)} | {""}
    names = {name: name for name in kept}
    for part in nodes:
        for group in (part.input, part.output):
            for position, name in enumerate(group):
                if name not in names:
                    names[name] = graph.fresh(f"{statement.outputs[0].name}/{name}")
                group[position] = names[name]
    return nodes
