"""``load_program``: the whole way from an ONNX model to a Program."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tensoropt.errors import ModelError
from tensoropt.frontend.external_data import ExternalData
from tensoropt.frontend.importer import Importer
from tensoropt.frontend.inference import TypeInference, declared_types
from tensoropt.frontend.parameters import no_parameters
from tensoropt.frontend.source import ModelSource, read_source
from tensoropt.frontend.structure import inlined, input_types, opsets_of, ordered_nodes, standard_domain, values_read
from tensoropt.frontend.weights import ELEMENT_TYPES, TensorReader
from tensoropt.frontend.wellformed import check_names
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array, Program, Statement, type_of

if TYPE_CHECKING:
    import onnx

_PART = 1 << 18


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as a program and as a reference.

    ``model`` is the original with functions inlined and static input shapes, its initializers without their data, which lies in
    ``weights`` by name (views of the file's bytes or memory maps): ``reference.reference_session`` puts them together.
    ``sha256`` covers the file and its external data. ``operators`` are the nodes' by their names, which statements have as
    ``origin``. ``values`` are the model's own values of weights that are inputs of the program.
    """

    program: Program
    model: onnx.ModelProto
    weights: Mapping[str, Array] = field(repr=False)
    sha256: str
    path: Path | None = None
    warnings: tuple[str, ...] = ()
    operators: Mapping[str, str] = field(default_factory=dict, repr=False)
    values: Mapping[str, Array] = field(default_factory=dict, repr=False)


def load_program(
    model: ModelSource,
    shapes: Mapping[str, Sequence[int]] | None = None,
    free: Callable[[onnx.GraphProto], Sequence[str]] = no_parameters,
) -> LoadedModel:
    """Reads a model and lifts it to tensor algebra.

    ``shapes`` gives whole shapes for inputs with dynamic dimensions; ``free`` says which initializers of the graph are not
    constants but further inputs of the program. ModelError, with one sentence, for everything that cannot be
    read, is not valid ONNX, or cannot be compiled.
    """
    source = read_source(model)
    label, path, sha256 = source.label, source.path, source.sha256
    opsets = opsets_of(source.model, label)
    external = ExternalData(label, path, source.folder)
    reader = TensorReader(label, external)
    check_names(source.model.graph, label)
    weights = _take_weights(source.model, reader)
    proto = inlined(_without_arena(source.model), label)
    del source  # and with it the parsed file, whose weights are copied
    opsets |= {standard_domain(entry.domain): int(entry.version) for entry in proto.opset_import}
    graph = proto.graph
    inputs = input_types(graph, weights, shapes or {}, label)
    names = {value for node in graph.node for value in (*node.input, *node.output)} | set(inputs) | set(weights)
    inference = TypeInference(label, opsets, proto.ir_version, declared_types(graph))
    importer = Importer(label, inference, reader, names)
    for name, kind in inputs.items():
        importer.add_input(name, kind)
    nodes = ordered_nodes(graph, [*inputs, *weights], label)
    outputs = [value.name for value in graph.output]
    used = {value for _, node in nodes for value in values_read(node)} | set(outputs)
    values = {name: weights[name] for name in free(graph) if name in used}
    for name, array in weights.items():
        if name in values:
            importer.add_input(name, type_of(array))
        elif name in used:
            importer.add_constant(name, array)
    for name, node in nodes:
        importer.process(node, name, used)
    for name in outputs:
        importer.write_out_fill(name, ())
    program = _program(graph.name or "main", importer, [*inputs, *values], outputs)
    _make_static(graph, program)
    warnings = _warnings(program)
    operators = {name: node.op_type for name, node in nodes}
    hashed = _hash_with_external(sha256, external)
    return LoadedModel(program, proto, weights, hashed, path, warnings, operators, values)


def separated(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model written here as ``LoadedModel`` has it: without the data of its initializers, and these."""
    weights = _take_weights(model, TensorReader("the model", ExternalData("the model", None, None)))
    return _without_arena(model), weights


def _take_weights(model: onnx.ModelProto, reader: TensorReader) -> dict[str, Array]:
    """Moves the initializers' data out of the message; what stays is a header that points outside."""
    import onnx

    weights: dict[str, Array] = {}
    headers: list[onnx.TensorProto] = []
    for tensor in model.graph.initializer:
        if not tensor.name or tensor.name in weights:
            raise ModelError(
                f"{reader.label}: an initializer has no name or a name ({tensor.name!r}) that another one has"
            )
        weights[tensor.name] = reader.read(tensor)
        headers.append(_header(tensor))
    for sparse in model.graph.sparse_initializer:
        weights[sparse.values.name] = reader.read_sparse(sparse)
        headers.append(
            _header(onnx.TensorProto(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims))
        )
    model.graph.ClearField("sparse_initializer")
    model.graph.ClearField("initializer")
    model.graph.initializer.extend(headers)
    return weights


def _without_arena(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy. A message keeps the memory of all that was ever in it, so clearing fields gives none back."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _header(tensor: onnx.TensorProto) -> onnx.TensorProto:
    import onnx

    header = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    header.data_location = onnx.TensorProto.EXTERNAL
    header.external_data.add(key="location", value="weights")
    return header


def _program(name: str, importer: Importer, inputs: list[str], outputs: list[str]) -> Program:
    """The statements that the outputs need, with the constants that these read."""
    needed = set(outputs)
    kept: list[Statement] = []
    for statement in reversed(importer.statements):
        if any(output.name in needed for output in statement.outputs):
            kept.append(statement)
            needed |= {tensor.name for tensor in statement.inputs}
    constants = {value: importer.constant_array(value) for value in importer.constants if value in needed}
    tensors: dict[str, Tensor] = importer.tensors
    return Program(
        name=name,
        inputs=tuple(tensors[value] for value in inputs),
        outputs=tuple(tensors[value] for value in outputs),
        constants=constants,
        statements=tuple(reversed(kept)),
    )


def _make_static(graph: onnx.GraphProto, program: Program) -> None:
    """Writes the static types of inputs and outputs into the model, and drops stated shapes of intermediate values."""
    from onnx import helper

    types = {tensor.name: tensor.type for tensor in (*program.inputs, *program.outputs)}
    for value in [*graph.input, *graph.output]:
        if value.name in types:
            kind = types[value.name]
            static = helper.make_tensor_type_proto(ELEMENT_TYPES[kind.dtype], [int(extent) for extent in kind.shape])
            value.type.CopyFrom(static)
    graph.ClearField("value_info")


def _warnings(program: Program) -> tuple[str, ...]:
    damaged = [name for name, array in program.constants.items() if _holds_nan(array)]
    if not damaged:
        return ()
    return (f"NaN among the weights of {', '.join(repr(name) for name in damaged[:5])}; results there are NaN",)


def _holds_nan(array: Array) -> bool:
    """Whether a NaN is among the elements, looked for in parts that fit the cache."""
    if array.dtype.kind in "iub":
        return False
    flat = array.reshape(-1)
    return any(bool(np.isnan(flat[start : start + _PART]).any()) for start in range(0, flat.size, _PART))


def _hash_with_external(sha256: str, external: ExternalData) -> str:
    if not external.files:
        return sha256
    digest = hashlib.sha256(sha256.encode())
    for file in sorted(external.files):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
