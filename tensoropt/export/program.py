"""A program as a standard ONNX model."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tensoropt.errors import ModelError
from tensoropt.export.generated import FunctionLibrary
from tensoropt.export.graph import ONNX_TYPES, OPSETS, Graph, Value
from tensoropt.export.opaque import emit_opaque, opset_for
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.program import Array, Compute, Opaque, Program, type_of

DEFAULT_OPSET = 21

_IR_VERSION = 10
"""The version of the file format, as old as the opset allows; 10 goes with opset 21."""


def export_onnx(program: Program, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """The program as a model of standard operators that any runtime runs, with the names of its inputs and outputs.

    Statements that are library operators (matrix product, convolution, pooling, element-wise arithmetic, data movement) stand in
    the graph; every other expression becomes a model-local function whose documentation is its IR text. The opset is a later one
    where an opaque operator exists only there. ModelError for an opaque operator that cannot be brought to the opset.
    """
    if opset not in OPSETS:
        raise ModelError(f"ONNX is written for opsets {OPSETS.start} to {OPSETS.stop - 1}, not {opset}")
    opset = opset_for(program.statements, opset)
    graph = Graph(taken=_tensor_names(program))
    functions = FunctionLibrary(opset)
    domains = {"": opset}
    values: dict[Tensor | Scope, Value] = {}
    for tensor in (*program.inputs, *program.constant_tensors().values()):
        values[tensor] = _value(tensor, tensor.name)
    for statement in program.statements:
        first = len(graph.nodes)
        match statement:
            case Compute():
                functions.lower(graph, statement, values)
            case Opaque():
                emit_opaque(graph, statement, domains)
                values |= {output: _value(output, output.name) for output in statement.outputs}
        for node in graph.nodes[first:]:
            node.name = node.name or f"{'/'.join(statement.origin) or statement.outputs[0].name}/{node.output[0]}"
    outputs = _outputs(graph, program, values)
    proto = helper.make_graph(
        graph.nodes,
        program.name or "program",
        [_declaration(tensor) for tensor in program.inputs],
        outputs,
    )
    imports = dict(domains)
    if functions.protos:
        imports[functions.domain] = 1
    opsets = [helper.make_opsetid(domain, version) for domain, version in imports.items()]
    model = helper.make_model(
        proto,
        functions=functions.protos,
        opset_imports=opsets,
        ir_version=max(_IR_VERSION, helper.find_min_ir_version_for(opsets, ignore_unknown=True)),
        producer_name="tensoropt",
    )
    for name, array in program.constants.items():
        _add_weight(model.graph, name, array)
    return model


def _add_weight(graph: onnx.GraphProto, name: str, array: Array) -> None:
    """Adds an initializer in place, so that large weights exist once more and no oftener."""
    tensor = graph.initializer.add(name=name, dims=array.shape, data_type=ONNX_TYPES[type_of(array).dtype])
    tensor.raw_data = np.asarray(array).tobytes()


def _tensor_names(program: Program) -> set[str]:
    names = {tensor.name for tensor in (*program.inputs, *program.outputs)} | set(program.constants)
    return names | {output.name for statement in program.statements for output in statement.outputs}


def _value(tensor: Tensor, name: str) -> Value:
    return Value(name, tensor.dtype, tuple(int(extent) for extent in tensor.shape))


def _declaration(tensor: Tensor, name: str | None = None) -> onnx.ValueInfoProto:
    shape = [int(extent) for extent in tensor.shape]
    return helper.make_tensor_value_info(name or tensor.name, ONNX_TYPES[tensor.dtype], shape)


def _outputs(graph: Graph, program: Program, values: dict[Tensor | Scope, Value]) -> list[onnx.ValueInfoProto]:
    """One output for each of the program's; a tensor that is an output twice is copied, as ONNX names outputs once."""
    declared: list[onnx.ValueInfoProto] = []
    seen: set[str] = set()
    for tensor in program.outputs:
        name = tensor.name
        if name in seen:
            name = graph.fresh(name)
            graph.nodes.append(helper.make_node("Identity", [tensor.name], [name], name=f"copy/{name}"))
        seen.add(name)
        declared.append(_declaration(tensor, name))
    return declared
