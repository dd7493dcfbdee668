"""The original model in ONNX Runtime, whole and with its intermediate values: what every result is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tensoropt.errors import ModelError
from tensoropt.frontend.loader import LoadedModel
from tensoropt.ir.program import Array

if TYPE_CHECKING:
    import onnx

_EMBEDDED_BYTES = 1 << 14
"""Weights up to this size stay in the message, since ONNX Runtime wants to see shapes and axes while it loads."""

_BATCH_BYTES = 512 << 20
"""How many bytes of intermediate values one run keeps."""


def reference_session(loaded: LoadedModel, threads: int = 1) -> Any:
    """An ``onnxruntime.InferenceSession`` of the original model with all of ONNX Runtime's optimizations; weights are shared."""
    return _session(loaded, (), threads, optimized=True)


def reference_names(loaded: LoadedModel) -> frozenset[str]:
    """The values that the reference has: those of the model's own nodes, its inputs and its outputs."""
    graph = loaded.model.graph
    names = {output for node in graph.node for output in node.output if output}
    return frozenset(names | {value.name for value in graph.input} | {value.name for value in graph.output})


def reference_values(
    loaded: LoadedModel, feeds: Mapping[str, Array], names: Iterable[str], threads: int = 1
) -> dict[str, Array]:
    """The named values on the given inputs, without optimizations. Names that the model does not have are left out."""
    values: dict[str, Array] = {}
    for batch in reference_batches(loaded, feeds, names, threads):
        values |= batch
    return values


def reference_batches(
    loaded: LoadedModel, feeds: Mapping[str, Array], names: Iterable[str], threads: int = 1
) -> Iterator[dict[str, Array]]:
    """The named values in batches of at most 512 MiB (or one value), each from a run of its own, in the order given."""
    available = reference_names(loaded)
    wanted = [name for name in dict.fromkeys(names) if name in available]
    given = {name: feeds[name] for name in wanted if name in feeds}
    if given:
        yield given
    wanted = [name for name in wanted if name not in feeds]
    sizes = {output.name: output.type.bytes for statement in loaded.program.statements for output in statement.outputs}
    while wanted:
        batch: list[str] = []
        total = 0
        while wanted and (not batch or total + sizes.get(wanted[0], 0) <= _BATCH_BYTES):
            total += sizes.get(wanted[0], 0)
            batch.append(wanted.pop(0))
        yield _run(loaded, feeds, batch, threads)


def _run(loaded: LoadedModel, feeds: Mapping[str, Array], names: list[str], threads: int) -> dict[str, Array]:
    if _newer_than_runtime(loaded.model):
        return _run_in_reference_evaluator(loaded, feeds, names)
    session = _session(loaded, names, threads, optimized=False)
    try:
        results = session.run(names, dict(feeds))
    except Exception as error:
        raise _cannot_run(loaded, error) from None
    return dict(zip(names, results, strict=True))


def _cannot_run(loaded: LoadedModel, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0]
    return ModelError(f"{loaded.path or 'the model'} does not run in ONNX Runtime, so it cannot be checked: {reason}")


def _session(loaded: LoadedModel, extra_outputs: Iterable[str], threads: int, optimized: bool) -> Any:
    import onnxruntime

    message, outside = _message(loaded, extra_outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    if not optimized:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if outside:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in outside.values()]
        options.add_external_initializers(list(outside), values)
    try:
        return onnxruntime.InferenceSession(message.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _cannot_run(loaded, error) from None


def _message(loaded: LoadedModel, extra_outputs: Iterable[str]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model with small weights put back, more outputs, and the large weights that stay outside."""
    import onnx
    from onnx import numpy_helper

    message = onnx.ModelProto()
    message.CopyFrom(loaded.model)
    outside: dict[str, Array] = {}
    for tensor in message.graph.initializer:
        array = loaded.weights[tensor.name]
        if array.nbytes <= _EMBEDDED_BYTES or array.dtype.kind not in "fiub":
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))
        else:
            tensor.external_data.add(key="offset", value="0")
            tensor.external_data.add(key="length", value=str(array.nbytes))
            outside[tensor.name] = array
    present = {value.name for value in message.graph.output}
    for name in extra_outputs:
        if name not in present:
            message.graph.output.add(name=name)
    return message, outside


def _newer_than_runtime(model: onnx.ModelProto) -> bool:
    """Whether ONNX Runtime's latest officially supported opset, 26, is older than the model's."""
    return any(entry.domain in ("", "ai.onnx") and entry.version > 26 for entry in model.opset_import)


def _run_in_reference_evaluator(loaded: LoadedModel, feeds: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    message, outside = _message(loaded, names)
    for tensor in message.graph.initializer:
        if tensor.name in outside:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(outside[tensor.name]), tensor.name))
    results = ReferenceEvaluator(message).run(names, dict(feeds))
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}
