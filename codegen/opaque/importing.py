"""One ONNX node as TIR functions and the calls between them, through TVM's importer."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensoropt.errors import ModelError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array, Opaque
from tensoropt.ir.types import DataType


@dataclass(frozen=True, slots=True)
class Value:
    """Something that a call reads or writes: an input, an output, an array known now, or an intermediate, by number."""

    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class ImportedCall:
    """A call of a TIR function: its name and what its parameters are."""

    function: str
    arguments: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class ImportedNode:
    """A node as calls in order. ``intermediates`` are sizes in bytes; ``copies`` says which value each output is."""

    functions: Mapping[str, Any]
    calls: tuple[ImportedCall, ...]
    arrays: tuple[Array, ...]
    intermediates: tuple[int, ...]
    outputs: tuple[Value, ...]


def import_node(statement: Opaque, constants: Mapping[str, Array], target: Any) -> ImportedNode:
    """The node as TIR, unscheduled. ModelError, naming node, operator and opset, where TVM cannot express it either."""
    ignored = _ignored(statement)
    if ignored:
        raise ModelError(f"{describe(statement)} cannot be compiled: TVM's importer ignores {ignored}")
    try:
        with contextlib.redirect_stdout(io.StringIO()), _silent_libraries():
            module = _legalised(_model(statement, constants), target)
        return _Walk(statement, constants).walk(module)
    except ModelError:
        raise
    except Exception as error:  # the importer raises whatever it comes across
        lines = str(error).strip().splitlines()
        raise ModelError(
            f"{describe(statement)} cannot be compiled: {lines[-1] if lines else type(error).__name__}"
        ) from error


def _ignored(statement: Opaque) -> str:
    """What the importer would silently leave out, which ONNX's own tests of single nodes show."""
    import onnx

    node = onnx.NodeProto.FromString(statement.node)
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    match statement.operator:
        case "BatchNormalization" if given.get("training_mode", 0):
            return "the training mode"
        case "Dropout" if len(node.input) > 2 and node.input[2]:
            return "the training mode"
        case "Resize" if given.get("antialias", 0):
            return "anti-aliasing"
        case "RoiAlign" if given.get("mode", b"avg") == b"max":
            return "the mode max"
        case "TopK" if statement.inputs[0].dtype is DataType.UINT64:
            return "that the numbers are unsigned"
        case _:
            return ""


@contextlib.contextmanager
def _silent_libraries() -> Iterator[None]:
    """Keeps what TVM's C++ code prints about its own troubles from the user; the error that follows says what matters."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def describe(statement: Opaque) -> str:
    """Node, operator and opset, for messages."""
    full = f"{statement.domain}::{statement.operator}" if statement.domain else statement.operator
    name = statement.origin[0] if statement.origin else statement.outputs[0].name
    return f"node {name!r} ({full}, opset {statement.opset})"


def _model(statement: Opaque, constants: Mapping[str, Array]) -> Any:
    """A model of the one node; inputs that are constants are initializers, as the importer wants axes and sizes to be."""
    import onnx
    from onnx import helper, numpy_helper

    node = onnx.NodeProto.FromString(statement.node)
    known = {tensor.name: constants[tensor.name] for tensor in statement.inputs if tensor.name in constants}
    inputs = [_value_info(tensor) for tensor in dict.fromkeys(statement.inputs) if tensor.name not in known]
    initializers = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in known.items()]
    graph = helper.make_graph(
        [node], "node", inputs, [_value_info(tensor) for tensor in statement.outputs], initializers
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(statement.domain, statement.opset)], ir_version=9
    )


def _value_info(tensor: Tensor) -> Any:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(tensor.dtype.numpy)
    return helper.make_tensor_value_info(tensor.name, kind, [int(extent) for extent in tensor.shape])


def _legalised(model: Any, target: Any) -> Any:
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    transform = relax.transform
    module = from_onnx(model, keep_params_in_input=False)
    with target:
        return tvm.ir.transform.Sequential(
            [
                relax.backend.DispatchSampling(),
                relax.backend.DispatchSortScan(),
                transform.LegalizeOps(),
                transform.AnnotateTIROpPattern(),
                transform.FoldConstant(),
                transform.FuseOps(),
                transform.FuseTIR(),
                transform.DeadCodeElimination(),
            ]
        )(module)


class _Walk:
    """Reads the bindings of the imported main function."""

    def __init__(self, statement: Opaque, constants: Mapping[str, Array]) -> None:
        self.statement = statement
        self.inputs = [t for t in dict.fromkeys(statement.inputs) if t.name not in constants]
        self.values: dict[Any, Any] = {}
        self.calls: list[ImportedCall] = []
        self.arrays: list[Array] = []
        self.intermediates: list[int] = []
        self.types: dict[Value, tuple[tuple[int, ...], np.dtype[Any]]] = {}

    def walk(self, module: Any) -> ImportedNode:
        from tvm import tirx

        main = module["main"]
        for number, parameter in enumerate(main.params):
            self.values[parameter] = Value("input", number)
        for block in main.body.blocks:
            for binding in block.bindings:
                self.values[binding.var] = self._bound(binding.value)
        result = self._value(main.body.body)
        outputs = tuple(result) if isinstance(result, list) else (result,)
        if len(outputs) < len(self.statement.outputs):
            raise ModelError(f"{describe(self.statement)} cannot be compiled: TVM makes {len(outputs)} of its outputs")
        outputs = outputs[: len(self.statement.outputs)]
        for value, wanted in zip(outputs, self.statement.outputs, strict=True):
            self._require_type(value, wanted)
        functions = {
            variable.name_hint: function
            for variable, function in module.functions.items()
            if isinstance(function, tirx.PrimFunc)
        }
        return ImportedNode(functions, tuple(self.calls), tuple(self.arrays), tuple(self.intermediates), outputs)

    def _bound(self, value: Any) -> Any:
        from tvm import relax

        if isinstance(value, relax.Tuple):
            return [self._value(field) for field in value.fields]
        if isinstance(value, relax.TupleGetItem):
            return self._value(value.tuple_value)[value.index]
        if isinstance(value, relax.Call) and getattr(value.op, "name", "") == "relax.call_tir":
            return self._call(value)
        if isinstance(value, relax.Call):
            raise ModelError(f"{describe(self.statement)} cannot be compiled: TVM leaves {value.op} without code")
        return self._value(value)

    def _call(self, call: Any) -> Any:
        function, arguments = call.args[0].name_hint, [self._value(argument) for argument in call.args[1].fields]
        if len(call.args) > 2:
            raise ModelError(f"{describe(self.statement)} cannot be compiled: its shapes are not known")
        result = call.ty_args[0] if hasattr(call, "ty_args") and call.ty_args else call.sinfo_args[0]
        several = hasattr(result, "fields")
        made = [self._intermediate(part) for part in (result.fields if several else [result])]
        self.calls.append(ImportedCall(function, (*arguments, *made)))
        return made if several else made[0]

    def _intermediate(self, kind: Any) -> Value:
        shape = tuple(int(extent) for extent in kind.shape)
        dtype = np.dtype(str(kind.dtype.dtype if hasattr(kind.dtype, "dtype") else kind.dtype))
        self.intermediates.append(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        value = Value("intermediate", len(self.intermediates) - 1)
        self.types[value] = shape, dtype
        return value

    def _require_type(self, value: Value, wanted: Tensor) -> None:
        """The importer's result has the type that ONNX gives the output; a wider one would be written past the end."""
        shape = tuple(int(extent) for extent in wanted.shape)
        match value.kind:
            case "input":
                source = self.inputs[value.number]
                found = tuple(int(extent) for extent in source.shape), source.dtype.numpy
            case "array":
                found = self.arrays[value.number].shape, self.arrays[value.number].dtype
            case _:
                found = self.types[value]
        if found != (shape, wanted.dtype.numpy):
            raise ModelError(
                f"{describe(self.statement)} cannot be compiled: TVM makes {wanted.name!r} {found[1]}{list(found[0])}, "
                f"ONNX says {wanted.type}"
            )

    def _value(self, node: Any) -> Any:
        from tvm import relax

        if node in self.values:
            return self.values[node]
        if isinstance(node, relax.Tuple):
            return [self._value(field) for field in node.fields]
        held = getattr(node, "value", getattr(node, "data", None))
        if held is not None and hasattr(held, "numpy"):
            self.arrays.append(np.array(held.numpy()))
        elif isinstance(held, (int, float)):
            self.arrays.append(np.array(held, str(node.ty.dtype)))
        else:
            raise ModelError(f"{describe(self.statement)} cannot be compiled: TVM leaves {type(node).__name__} in it")
        self.values[node] = Value("array", len(self.arrays) - 1)
        return self.values[node]


INDICES: dict[str, tuple[int, str]] = {
    "Gather": (1, "axis"),
    "GatherElements": (1, "axis"),
    "GatherND": (1, "batch_dims"),
    "ScatterElements": (1, "axis"),
    "Scatter": (1, "axis"),
    "ScatterND": (1, "none"),
}
"""Operators that read or write where an input says: which input, and what tells the axis."""


def index_bounds(statement: Opaque) -> tuple[Tensor, tuple[int, ...]] | None:
    """The tensor of run-time indices and the extent that each of its last axis's entries indexes (one for all: a single one).

    An index may be from −extent to extent − 1, as ONNX says; TVM's ``take`` would read foreign memory for others.
    """
    import onnx

    if statement.operator not in INDICES or statement.domain not in ("", "ai.onnx"):
        return None
    position, kind = INDICES[statement.operator]
    node = onnx.NodeProto.FromString(statement.node)
    by_name = {tensor.name: tensor for tensor in statement.inputs}
    data, indices = by_name[node.input[0]], by_name[node.input[position]]
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    shape = tuple(int(extent) for extent in data.shape)
    if kind == "axis":
        return indices, (shape[attributes.get("axis", 0)],)
    first = attributes.get("batch_dims", 0) if kind == "batch_dims" else 0
    return indices, shape[first : first + int(indices.shape[-1])]
