"""Nodes that damaged or hostile files hold are refused before onnx's C++ code or a lifting function sees them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tensoropt.errors import ModelError

if TYPE_CHECKING:
    import onnx

_EQUATION = re.compile(r"[A-Za-z.,>\s-]*")


def check_names(graph: onnx.GraphProto, label: str) -> None:
    """ModelError for names that are not text, which protobuf hands over as bytes."""
    values = [*graph.input, *graph.output, *graph.initializer, *graph.value_info]
    if not all(isinstance(value.name, str) for value in values):
        raise ModelError(f"{label} is damaged: the name of a value is not text")
    for position, node in enumerate(graph.node):
        texts: Iterable[object] = (node.name, node.op_type, node.domain, *node.input, *node.output)
        if not all(isinstance(text, str) for text in texts):
            raise ModelError(f"{label} is damaged: a name in node {position} is not text")
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
                check_names(inner, label)


class NodeChecker:
    """Checks nodes against their schemas."""

    def __init__(self, label: str, opsets: Mapping[str, int], ir_version: int) -> None:
        import onnx

        self._label = label
        self._context = onnx.checker.C.CheckerContext()
        self._context.ir_version = ir_version or onnx.IR_VERSION
        self._context.opset_imports = dict(opsets)

    def check(self, node: onnx.NodeProto, name: str, attributes: Mapping[str, Any]) -> None:
        """ModelError for missing or ill-typed attributes and for a wrong number of inputs or outputs."""
        import onnx

        equation = attributes.get("equation")
        if node.op_type == "Einsum" and not (isinstance(equation, str) and _EQUATION.fullmatch(equation)):
            raise ModelError(f"{self._label}: node {name!r} (Einsum) has the equation {equation!r}, which is none")
        try:
            onnx.checker.check_node(node, self._context)
        except onnx.checker.ValidationError as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"{self._label}: node {name!r} ({node.op_type}) is malformed: {reason}") from None
        except (UnicodeDecodeError, RuntimeError, ValueError):
            raise ModelError(f"{self._label}: node {name!r} ({node.op_type}) is damaged") from None
