"""Which statements stand in the graph and which become model-local functions."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx
from onnx import helper

from tensoropt.export.graph import Graph, Value
from tensoropt.export.lowering import Lowering
from tensoropt.export.patterns import PATTERNS
from tensoropt.export.reading import read_access
from tensoropt.ir.canonical import canonical_kernel_key
from tensoropt.ir.expression import Scope, Tensor, replace_sources, scopes
from tensoropt.ir.printer import format_scope
from tensoropt.ir.program import Compute
from tensoropt.ir.structure import is_contraction, is_mover

_SHORT = 8
_LONG = 40
"""A statement of at most so many nodes, constants not counted, stands in the graph: any short one, and a longer one of plain
operators."""

_ADDRESSING = frozenset({"Gather", "Range", "Col2Im", "Slice", "Pad"})
"""Operators that a reader cannot tell the purpose of without the expression that they spell out."""

_KEY_DIGITS = 8


@dataclass(slots=True)
class FunctionLibrary:
    """Lowers statements; those that are no plain operators become functions, one for each expression up to names of tensors."""

    opset: int
    domain: str = "tensoropt.generated"
    protos: list[onnx.FunctionProto] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    def lower(self, graph: Graph, statement: Compute, values: dict[Tensor | Scope, Value]) -> None:
        """Adds nodes that compute the statement; its output becomes known in ``values``."""
        key, inputs = canonical_kernel_key(statement.expression)
        if key not in self._names:
            proto = self._function(key, statement.expression, inputs)
            if proto is None:
                _inline(graph, statement, values)
                return
            self._names[key] = proto.name
            self.protos.append(proto)
        output = statement.output
        names = [values[tensor].name for tensor in inputs]
        graph.nodes.append(helper.make_node(self._names[key], names, [output.name], domain=self.domain))
        values[output] = Value(output.name, output.dtype, tuple(int(extent) for extent in output.shape))

    def _function(self, key: str, expression: Scope, inputs: tuple[Tensor, ...]) -> onnx.FunctionProto | None:
        """The expression as a function of its tensors in this order; None where it is short enough to stand in the graph."""
        parameters = [Tensor(f"x{position}", tensor.type) for position, tensor in enumerate(inputs)]
        renamed = replace_sources(expression, dict(zip(inputs, parameters, strict=True)))
        graph = Graph(taken={"y", *(parameter.name for parameter in parameters)})
        known: dict[Tensor | Scope, Value] = {
            parameter: Value(parameter.name, parameter.dtype, tuple(int(extent) for extent in parameter.shape))
            for parameter in parameters
        }
        result = _lower(graph, renamed, known)
        graph.prune([result.name])
        if _is_plain([node.op_type for node in graph.nodes if node.op_type != "Constant"]):
            return None
        _rename_result(graph, 0, result, "y")
        proto = helper.make_function(
            self.domain,
            f"{_kind(expression)}_{key[:_KEY_DIGITS]}",
            [parameter.name for parameter in parameters],
            ["y"],
            graph.nodes,
            [helper.make_opsetid("", self.opset)],
        )
        declared = "\n".join(f"{parameter!r}" for parameter in parameters)
        proto.doc_string = f"{declared}\n%y: {expression.type} =\n{format_scope(renamed)}"
        return proto


def _is_plain(operators: list[str]) -> bool:
    """Whether nodes read well enough without a name and an expression beside them."""
    return len(operators) <= _SHORT or (len(operators) <= _LONG and not _ADDRESSING.intersection(operators))


def _lower(graph: Graph, expression: Scope, values: dict[Tensor | Scope, Value]) -> Value:
    return Lowering(graph, dict(values), PATTERNS, read_access).scope(expression)


def _inline(graph: Graph, statement: Compute, values: dict[Tensor | Scope, Value]) -> None:
    output = statement.output
    first = len(graph.nodes)
    graph.prefix = f"{output.name}/"
    result = _lower(graph, statement.expression, values)
    graph.prefix = ""
    graph.prune([result.name], first)
    _rename_result(graph, first, result, output.name)
    values[output] = Value(output.name, output.dtype, result.shape)


def _rename_result(graph: Graph, first: int, result: Value, name: str) -> None:
    """Gives the value the name. A value from before node ``first``, or a constant that others may share, is copied to it."""
    producer = next((node for node in graph.nodes[first:] if result.name in node.output), None)
    if producer is None or producer.op_type == "Constant":
        graph.nodes.append(helper.make_node("Identity", [result.name], [name]))
        return
    for node in graph.nodes[first:]:
        for names in (node.input, node.output):
            for position, found in enumerate(names):
                if found == result.name:
                    names[position] = name


def _kind(expression: Scope) -> str:
    """What a reader may expect of the function, as the start of its name."""
    if any(is_contraction(scope) for scope in scopes(expression)):
        return "contraction"
    if expression.reducer is not None:
        return expression.reducer.value
    return "move" if is_mover(expression) else "pointwise"
