"""What a model must satisfy before its nodes are looked at: versions, functions, names, order, and input shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tensoropt.errors import ModelError
from tensoropt.frontend.weights import data_type_of, type_name
from tensoropt.ir.types import Extent, TensorType

if TYPE_CHECKING:
    import onnx

_OLDEST_OPSET = 1


def node_label(node: onnx.NodeProto, position: int) -> str:
    """The node's name, or ``<operator>_<position>`` where it has none."""
    return node.name or f"{node.op_type}_{position}"


def standard_domain(domain: str) -> str:
    """The domain with the two spellings of the standard one made equal."""
    return "" if domain == "ai.onnx" else domain


def opsets_of(model: onnx.ModelProto, label: str) -> dict[str, int]:
    """The opset of each domain; ModelError where this version of onnx cannot read one."""
    import onnx

    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(f"{label} has IR version {model.ir_version}; this installation reads up to {onnx.IR_VERSION}")
    if not all(isinstance(entry.domain, str) for entry in model.opset_import):
        raise ModelError(f"{label} is damaged: a domain is not text")
    opsets = {standard_domain(entry.domain): int(entry.version) for entry in model.opset_import}
    newest = onnx.defs.onnx_opset_version()
    if "" not in opsets and (not opsets or any(standard_domain(node.domain) == "" for node in model.graph.node)):
        raise ModelError(f"{label} does not declare the opset of the standard operators; export it again")
    version = opsets.get("", newest)
    if not _OLDEST_OPSET <= version <= newest:
        raise ModelError(
            f"{label} is written for opset {version}; this installation reads opsets {_OLDEST_OPSET} to {newest}, "
            "so export it again for one of these"
        )
    return opsets


def inlined(model: onnx.ModelProto, label: str) -> onnx.ModelProto:
    """The model with its local functions inlined; ModelError for functions that call themselves."""
    import onnx.inliner

    if not model.functions:
        return model
    calls = {
        (function.domain, function.name): [(node.domain, node.op_type) for node in function.node]
        for function in model.functions
    }
    finished: set[tuple[str, str]] = set()
    for root in calls:
        stack = [(root, iter(calls[root]))]
        active = {root}
        while stack:
            current, rest = stack[-1]
            called = next((name for name in rest if name in calls and name not in finished), None)
            if called is None:
                stack.pop()
                active.discard(current)
                finished.add(current)
            elif called in active:
                raise ModelError(f"{label}: the model-local function {called[0]}::{called[1]} calls itself")
            else:
                stack.append((called, iter(calls[called])))
                active.add(called)
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:
        raise ModelError(
            f"{label}: its model-local functions cannot be inlined ({str(error).strip().splitlines()[0]})"
        ) from None


def ordered_nodes(graph: onnx.GraphProto, known: Iterable[str], label: str) -> list[tuple[str, onnx.NodeProto]]:
    """The nodes that the outputs need, with their labels, in an order in which they can run.

    ModelError for cycles, values assigned twice and values that nothing assigns.
    """
    labelled = [(node_label(node, position), node) for position, node in enumerate(graph.node)]
    available = set(known)
    producer: dict[str, int] = {}
    for position, (name, node) in enumerate(labelled):
        for output in filter(None, node.output):
            if output in producer or output in available:
                raise ModelError(
                    f"{label}: node {name!r} ({node.op_type}) assigns {output!r}, which already has a value"
                )
            producer[output] = position
    order: list[int] = []
    state: dict[int, int] = {}
    for output in graph.output:
        if output.name not in producer and output.name not in available:
            raise ModelError(f"{label}: nothing computes the output {output.name!r}")
        if output.name not in producer:
            continue
        stack = [(producer[output.name], False)]
        while stack:
            position, done = stack.pop()
            if done:
                state[position] = 2
                order.append(position)
                continue
            if position in state:
                continue
            state[position] = 1
            stack.append((position, True))
            name, node = labelled[position]
            for value in sorted(values_read(node), reverse=True):
                if value in available:
                    continue
                if value not in producer:
                    raise ModelError(f"{label}: node {name!r} ({node.op_type}) reads {value!r}, which nothing computes")
                needed = producer[value]
                if state.get(needed) == 1:
                    raise ModelError(
                        f"{label}: the graph has a cycle through node {name!r} ({node.op_type}); an ONNX graph has none"
                    )
                stack.append((needed, False))
    ranks = {position: rank for rank, position in enumerate(sorted(order))}
    in_file_order = all(
        ranks[producer[value]] < ranks[position]
        for position in order
        for value in values_read(labelled[position][1])
        if value not in available
    )
    return [labelled[position] for position in (sorted(order) if in_file_order else order)]


def values_read(node: onnx.NodeProto) -> set[str]:
    """The values that a node reads, those that its subgraphs capture included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            for inner in graph.node:
                own |= set(inner.output)
            for inner in graph.node:
                names |= values_read(inner) - own
            names |= {value.name for value in graph.output} - own
    return names


def input_types(
    graph: onnx.GraphProto, constants: Iterable[str], shapes: Mapping[str, Sequence[int]], label: str
) -> dict[str, TensorType]:
    """The static type of each input that is not a constant, dynamic dimensions bound by ``shapes``.

    A symbol that one input's shape binds is bound for all inputs. ModelError for what stays dynamic or contradicts.
    """
    fixed = set(constants)
    inputs = [value for value in graph.input if value.name not in fixed]
    names = [value.name for value in inputs]
    for name in shapes:
        if name not in names:
            known = ", ".join(names) or "none"
            raise ModelError(f"{label} has no input {name!r} to give a shape to; its inputs are: {known}")
    symbols: dict[str, int] = {}
    for value in inputs:
        if value.name in shapes:
            _bind(value, [int(extent) for extent in shapes[value.name]], symbols, label)
    types: dict[str, TensorType] = {}
    for value in inputs:
        if not value.type.HasField("tensor_type"):
            raise ModelError(f"{label}: the input {value.name!r} is not a tensor; only tensors can be inputs")
        element_type = value.type.tensor_type.elem_type
        dtype = data_type_of(element_type)
        if dtype is None:
            raise ModelError(
                f"{label}: the input {value.name!r} has the unsupported element type {type_name(element_type)}"
            )
        given = shapes.get(value.name)
        extents = _static_shape(value, symbols, label) if given is None else [int(extent) for extent in given]
        types[value.name] = TensorType(dtype, tuple(Extent(extent) for extent in extents))
    return types


def _bind(value: onnx.ValueInfoProto, given: list[int], symbols: dict[str, int], label: str) -> None:
    spelled = ",".join(map(str, given))
    if any(extent < 0 for extent in given):
        raise ModelError(f"the shape {value.name}={spelled} has a negative extent")
    if not value.type.tensor_type.HasField("shape"):
        return
    dimensions = value.type.tensor_type.shape.dim
    if len(dimensions) != len(given):
        raise ModelError(
            f"the shape {value.name}={spelled} has {len(given)} extents, but the input {value.name!r} of {label} has "
            f"{len(dimensions)} axes: {_spell_shape(value)}"
        )
    for axis, (dimension, extent) in enumerate(zip(dimensions, given, strict=True)):
        expected = dimension.dim_value if dimension.HasField("dim_value") else extent
        if dimension.dim_param:
            expected = symbols.setdefault(dimension.dim_param, extent)
        if expected != extent:
            raise ModelError(
                f"the shape {value.name}={spelled} gives axis {axis} the extent {extent}, but {label} needs {expected} there"
            )


def _static_shape(value: onnx.ValueInfoProto, symbols: Mapping[str, int], label: str) -> list[int]:
    if not value.type.tensor_type.HasField("shape"):
        raise ModelError(
            f"{label}: the input {value.name!r} has no shape; give one with --shape {_plain(value.name)}=..."
        )
    extents: list[int] = []
    for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
        if dimension.HasField("dim_value") and dimension.dim_value >= 0:
            extents.append(int(dimension.dim_value))
        elif dimension.dim_param in symbols:
            extents.append(symbols[dimension.dim_param])
        else:
            called = f" {dimension.dim_param!r}" if dimension.dim_param else ""
            example = ",".join(
                str(found.dim_value) if found.HasField("dim_value") and found.dim_value >= 0 else "1"
                for found in value.type.tensor_type.shape.dim
            )
            raise ModelError(
                f"{label}: the input {value.name!r} has the dynamic dimension{called} at axis {axis} of {_spell_shape(value)}; "
                f"bind it, for example with --shape {_plain(value.name)}={example}"
            )
    return extents


def _plain(name: str) -> str:
    """A name as one types it, quoted where it holds what does not print."""
    return name if name.isprintable() else repr(name)


def _spell_shape(value: onnx.ValueInfoProto) -> str:
    return (
        "["
        + ", ".join(
            str(found.dim_value) if found.HasField("dim_value") else found.dim_param or "?"
            for found in value.type.tensor_type.shape.dim
        )
        + "]"
    )
