"""``If`` with a condition that is known while the model is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensoropt.errors import ModelError
from tensoropt.frontend.constants import Known, uniform_value

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Branch:
    """The nodes and constants of the branch that is taken, named so that they can stand in the graph around it."""

    nodes: list[onnx.NodeProto]
    initializers: list[onnx.TensorProto]


def branch_taken(
    node: onnx.NodeProto, name: str, constants: Mapping[str, Known], declare: Callable[[str], str], label: str
) -> Branch:
    """The branch of an ``If`` whose condition is constant; ModelError for any other node with subgraphs."""
    import onnx

    if node.op_type != "If":
        raise ModelError(
            f"{label}: node {name!r} ({node.op_type}) runs a subgraph, which cannot be compiled; unroll it and export again"
        )
    condition = uniform_value(constants[node.input[0]]) if node.input[0] in constants else None
    if condition is None:
        raise ModelError(
            f"{label}: node {name!r} (If) has a condition that is only known at run time, which cannot be compiled"
        )
    wanted = "then_branch" if bool(condition) else "else_branch"
    graph = onnx.GraphProto()
    graph.CopyFrom(next(attribute.g for attribute in node.attribute if attribute.name == wanted))
    renamed: dict[str, str] = {}
    copies: list[onnx.NodeProto] = []
    assigned = {output for inner in graph.node for output in inner.output} | {
        tensor.name for tensor in graph.initializer
    }
    for formal, actual in zip(graph.output, node.output, strict=True):
        if formal.name in assigned and formal.name not in renamed:
            renamed[formal.name] = actual
        else:  # the branch returns a captured value, or one value twice
            copies.append(
                onnx.NodeProto(op_type="Identity", input=[renamed.get(formal.name, formal.name)], output=[actual])
            )
    for inner in graph.node:
        for output in filter(None, inner.output):
            if output not in renamed:
                renamed[output] = declare(f"{node.output[0]}.{output}")
    for tensor in graph.initializer:
        if tensor.name not in renamed:
            renamed[tensor.name] = declare(f"{node.output[0]}.{tensor.name}")
        tensor.name = renamed[tensor.name]
    for inner in graph.node:
        _rename(inner, renamed)
    return Branch([*graph.node, *copies], list(graph.initializer))


def _rename(node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
    for position, value in enumerate(node.input):
        node.input[position] = renamed.get(value, value)
    for position, value in enumerate(node.output):
        node.output[position] = renamed.get(value, value)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            own |= {output for inner in graph.node for output in inner.output}
            visible = {old: new for old, new in renamed.items() if old not in own}
            for inner in graph.node:
                _rename(inner, visible)
            for value in graph.output:
                value.name = visible.get(value.name, value.name)
