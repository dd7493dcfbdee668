"""The nine `light_*` models of the `onnx` wheel with random weights.

The wheel's own files carry constant weights (every parameter is 0.02 everywhere), so each output has one distinct value
and no layout, index or permutation bug can be seen. Here every float parameter is drawn again, with fixed seeds:
convolution and matrix weights uniform, biases and batch-normalisation statistics random and non-zero.

So that activations stay in range through a hundred layers, the graph is run once, node by node, in ONNX Runtime, and
each Conv and Gemm weight is multiplied by the power of two that brings its output's standard deviation near 1, and the
means of each batch normalisation are moved, by a multiple of 1/4, to lie around the mean of what it normalises. Coarse
steps, because they hide the last bits of the run: the files are the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from examples.models.weights import Array, Weights

NAMES = (
    "light_bvlc_alexnet",
    "light_densenet121",
    "light_inception_v1",
    "light_inception_v2",
    "light_resnet50",
    "light_shufflenet",
    "light_squeezenet",
    "light_vgg19",
    "light_zfnet512",
)
IR_VERSION = 8
"""Their own version 3 demands that every weight is also a graph input."""

Parameters = dict[str, Array]


def build(name: str, batch: int = 1) -> onnx.ModelProto:
    """Return the light model `name` with random weights; its image input is (batch, 3, 224, 224).

    Raises KeyError for a name that is not one of `NAMES`.
    """
    if name not in NAMES:
        raise KeyError(name)
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    source = onnx.load(folder / f"{name}.onnx")
    weights = Weights(seed=NAMES.index(name) + 100)
    constants = _constants(source.graph)
    nodes = [node for node in source.graph.node if node.op_type != "ConstantOfShape"]
    _set_batch(nodes, constants, batch)
    _draw(nodes, constants, weights)
    _calibrate(nodes, constants, _image(source.graph), _image_of(weights))
    return _assemble(source, nodes, constants, batch)


def builder(name: str) -> Callable[[int], onnx.ModelProto]:
    """Return a function of the batch size that builds the light model `name`."""
    return lambda batch: build(name, batch)


def _image(graph: onnx.GraphProto) -> str:
    """The one true input of a light graph: the image, the only four-dimensional input that no initializer gives."""
    given = {tensor.name for tensor in graph.initializer}
    (image,) = (value for value in graph.input if value.name not in given)
    return str(image.name)


def _image_of(weights: Weights) -> Array:
    """One image to calibrate on; always batch 1, so that the batch size does not change the weights."""
    return weights.uniform((1, 3, 224, 224), std=1.0)


def _constants(graph: onnx.GraphProto) -> Parameters:
    """Initializers and what the ConstantOfShape nodes would make (a broadcast view, no memory)."""
    constants: Parameters = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shape = tuple(int(extent) for extent in constants[node.input[0]])
            constants[node.output[0]] = np.broadcast_to(np.float32(0), shape)
    return constants


def _set_batch(nodes: list[onnx.NodeProto], constants: Parameters, batch: int) -> None:
    """Write the batch size into the constant shapes of the Reshape nodes on the image's way, which all begin with 1."""
    for node in nodes:
        if node.op_type != "Reshape" or node.input[0] in constants:
            continue
        name = node.input[1]
        shape = constants[name].copy()
        if shape[0] != 1:
            raise ValueError(f"Reshape to {shape.tolist()}: expected a leading 1")
        shape[0] = batch
        constants[name] = shape


def _roots(nodes: list[onnx.NodeProto], constants: Parameters) -> dict[str, str]:
    """Map every name to the constant that it is, or is a reshaped view of; names of activations are left out."""
    roots = {name: name for name in constants}
    for node in nodes:
        if node.op_type in ("Unsqueeze", "Reshape") and node.input[0] in roots:
            roots[node.output[0]] = roots[node.input[0]]
    return roots


def _parameters(nodes: list[onnx.NodeProto], constants: Parameters) -> Iterator[tuple[str, str]]:
    """Yield (name, role) of every float parameter, in the order of first use.

    Roles: weight, bias, scale, mean, variance.
    """
    roots = _roots(nodes, constants)
    roles = {
        "Conv": ("", "weight", "bias"),
        "Gemm": ("", "weight", "bias"),
        "BatchNormalization": ("", "scale", "bias", "mean", "variance"),
        "Mul": ("scale", "scale"),
        "Add": ("bias", "bias"),
    }
    seen: set[str] = set()
    for node in nodes:
        for operand, role in zip(node.input, roles.get(node.op_type, ()), strict=False):
            name = roots.get(operand)
            if role and name is not None and name not in seen:
                seen.add(name)
                yield name, role


def _draw(nodes: list[onnx.NodeProto], constants: Parameters, weights: Weights) -> None:
    """Replace every float parameter by a random one, in place.

    The first bias is large: the first Relu stands before a MaxPool, where it clips something only in a channel whose
    whole neighbourhoods are negative.
    """
    bias = 1.5
    for name, role in _parameters(nodes, constants):
        shape = constants[name].shape
        match role:
            case "weight":
                constants[name] = weights.uniform(shape, std=float(np.sqrt(2 / np.prod(shape[1:]))))
            case "bias":
                constants[name] = weights.uniform(shape, std=bias)
                bias = 0.3
            case "mean":
                constants[name] = weights.uniform(shape, std=0.3)
            case _:
                constants[name] = weights.between(shape, 0.5, 1.5)


def _calibrate(nodes: list[onnx.NodeProto], constants: Parameters, image: str, value: Array) -> None:
    """Scale Conv and Gemm weights by powers of two, in place, so that each output has a standard deviation near 1.

    Batch normalisation's means are moved to where its input lies, or a Relu behind it might clip nothing.

    The last one before a Softmax is scaled with its bias so that the Softmax is not saturated: what lies between
    (Relu, mean, Reshape) commutes with a positive factor.
    """
    values: Parameters = {image: value}
    roots = _roots(nodes, constants)
    last: onnx.NodeProto | None = None
    remaining = {name: sum(name in node.input for node in nodes) for node in nodes for name in node.output}
    for node in nodes:
        if node.op_type == "Softmax" and last is not None:
            factor = _power_of_two(1.0, values[node.input[0]])
            for operand in last.input[1:]:
                constants[roots[operand]] = constants[roots[operand]] * factor
            break
        operands = {name: values[name] if name in values else _at_batch_1(node, constants, name) for name in node.input}
        outputs = _evaluate(node, operands)
        if node.op_type in ("Conv", "Gemm"):
            last = node
            factor = _power_of_two(1.0, outputs[0])
            root = roots[node.input[1]]
            constants[root] = constants[root] * factor
            outputs = _evaluate(node, operands | {node.input[1]: operands[node.input[1]] * factor})
        elif node.op_type == "BatchNormalization":
            mean = node.input[3]
            constants[mean] = constants[mean] + _quarters(operands[node.input[0]])
            outputs = _evaluate(node, operands | {mean: constants[mean]})
        values.update(zip(node.output, outputs, strict=False))
        for name in node.input:
            if name in remaining:
                remaining[name] -= 1
                if not remaining[name]:
                    values.pop(name, None)


def _at_batch_1(node: onnx.NodeProto, constants: Parameters, name: str) -> Array:
    """The shape operand of a Reshape as it is at batch 1, where the calibration runs; other constants as they are."""
    if node.op_type != "Reshape" or name == node.input[0] or node.input[0] in constants:
        return constants[name]
    shape = constants[name].copy()
    shape[0] = 1
    return shape


def _power_of_two(wanted: float, value: Array) -> np.float32:
    """The power of two that brings the standard deviation of `value` nearest to `wanted`, in the logarithm."""
    return np.float32(2.0 ** round(float(np.log2(wanted / np.std(value, dtype=np.float64)))))


def _quarters(value: Array) -> np.float32:
    """The mean of `value` as a whole number of quarters."""
    return np.float32(round(4 * float(np.mean(value, dtype=np.float64))) / 4)


def _evaluate(node: onnx.NodeProto, operands: Parameters) -> list[Array]:
    """Run one node of opset 9 in ONNX Runtime."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in operands.items()
    ]
    first = node.output[:1]
    output = helper.make_tensor_value_info(first[0], TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "node", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=IR_VERSION)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(list(first), operands)
    return results


def _assemble(
    source: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: Parameters, batch: int
) -> onnx.ModelProto:
    """Make the model: the same nodes and opset, weights as initializers only, the image as the only input."""
    (output,) = source.graph.output
    image = _image(source.graph)
    used = {name for node in nodes for name in node.input}
    shape = [dimension.dim_value for dimension in output.type.tensor_type.shape.dim]
    graph = helper.make_graph(
        nodes,
        source.graph.name,
        [helper.make_tensor_value_info(image, TensorProto.FLOAT, [batch, 3, 224, 224])],
        [helper.make_tensor_value_info(output.name, TensorProto.FLOAT, [batch, *shape[1:]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    return helper.make_model(
        graph, opset_imports=list(source.opset_import), ir_version=IR_VERSION, producer_name="tensoropt-examples"
    )
