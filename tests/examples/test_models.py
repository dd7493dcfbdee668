"""The example models are valid, run in ONNX Runtime, and are sensitive enough to check a compiler with."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from examples.models import BUILDERS, FORMULATIONS, MODELS, TRAINED, longformer
from examples.models.weights import Array
from tensoropt.api.training import load_training
from tensoropt.ir.program import Compute

SLOW = {"light_vgg19", "longformer_gathered"}
SMALL = ("infogan", "dcgan", "fsrcnn", "srcnn", "light_shufflenet", "light_squeezenet")

names = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BUILDERS if name not in TRAINED],
)
small_names = pytest.mark.parametrize("name", SMALL)


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> Array:
    """The only output of `model` in ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, feeds)
    assert isinstance(result, np.ndarray)
    return result


def feeds(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Standard normal inputs."""
    random = np.random.RandomState(seed)
    return {
        value.name: random.standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in model.graph.input
    }


def test_there_are_seventeen_models() -> None:
    assert len(MODELS) == 17
    assert set(FORMULATIONS) < set(MODELS)


@names
def test_model_is_valid_and_its_output_tells_inputs_apart(name: str) -> None:
    model = BUILDERS[name](1)
    onnx.checker.check_model(model)
    (declared,) = model.graph.output
    check_weights(model)
    check_shapes(model)
    initializers = {tensor.name for tensor in model.graph.initializer}
    assert not initializers & {value.name for value in model.graph.input}

    first, second = (run(model, feeds(model, seed)) for seed in (0, 1))
    assert list(first.shape) == [dimension.dim_value for dimension in declared.type.tensor_type.shape.dim]
    assert np.isfinite(first).all()
    assert len(np.unique(first)) > first.size / 3
    scale = np.abs(first).max()
    assert 1e-3 < scale < 1e2
    assert np.abs(first - second).max() > 1e-3 * scale, "the output hardly depends on the input"


@pytest.mark.parametrize("name", TRAINED)
def test_every_weight_of_a_model_with_a_loss_has_a_derivative(name: str) -> None:
    step = load_training(TRAINED[name](1), {}, "loss")
    outputs = {tensor.name for tensor in step.program.outputs}
    assert {"loss", *(f"{parameter}.grad" for parameter in step.values)} <= outputs
    assert all(isinstance(statement, Compute) for statement in step.program.statements)


def check_weights(model: onnx.ModelProto) -> None:
    """No float weight is constant; only single values, and masks, which are tables, may repeat."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.name.startswith(("mask", "scale")):
            value = numpy_helper.to_array(tensor).ravel()[:10_000]
            assert value.size == 1 or len(np.unique(value)) > value.size / 2, tensor.name


def check_shapes(model: onnx.ModelProto) -> None:
    """Every value that a node reads has a static shape by inference alone."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {value.name: value.type.tensor_type.shape for value in inferred.graph.value_info}
    read = {name for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        for output in read.intersection(node.output):
            assert all(dimension.dim_value > 0 for dimension in shapes[output].dim), output


@small_names
def test_activations_stay_in_range_and_rectifiers_clip(name: str) -> None:
    model = BUILDERS[name](1)
    inputs = feeds(model, 2)
    rectified = {node.output[0] for node in model.graph.node if node.op_type == "Relu"}
    probabilities = {node.output[0] for node in model.graph.node if node.op_type == "Softmax"}
    del model.graph.output[:]
    for node in model.graph.node:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for output, value in zip(session.get_outputs(), session.run(None, inputs), strict=True):
        if output.name not in probabilities:
            assert 1e-2 < np.std(value) < 1e2, output.name
        if output.name in rectified:
            assert 0.02 < np.mean(value == 0) < 0.98, output.name


@pytest.mark.parametrize("name", [*SMALL, "light_densenet121", "csrnet"])
def test_building_is_deterministic(name: str) -> None:
    first, second = (BUILDERS[name](1).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", [*SMALL, "resnet18", "csrnet"])
def test_a_batch_is_its_images_one_by_one(name: str) -> None:
    pair = BUILDERS[name](2)
    inputs = feeds(pair, 3)
    together = run(pair, inputs)
    single = BUILDERS[name](1)
    for index in range(2):
        alone = run(single, {key: value[index : index + 1] for key, value in inputs.items()})
        np.testing.assert_allclose(together[index : index + 1], alone, atol=1e-5 * np.abs(alone).max(), rtol=0)


def test_longformer_attends_to_the_dilated_window() -> None:
    """Both formulations agree with the definition, evaluated in f64 for some queries, edges included."""
    model = longformer.build_chunked(1)
    inputs = feeds(model, 4)
    chunked = run(model, inputs)
    gathered = run(longformer.build_gathered(1), inputs)
    scale = np.abs(chunked).max()
    assert np.abs(chunked - gathered).max() < 1e-4 * scale

    hidden = inputs["hidden"][0].astype(np.float64)
    weights = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer}
    linear = [
        weights[node.input[1]] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights
    ]
    biases = [value for name, value in weights.items() if name.startswith("bias")]
    query_weight, value_weight, key_weight, first_weight, second_weight = linear
    query_bias, value_bias, first_bias, second_bias = biases
    keys = hidden @ key_weight
    values = hidden @ value_weight + value_bias
    for position in (0, 1, 255, 256, 257, 1000, 1791, 1792, 2046, 2047):
        window = position + 2 * np.arange(-128, 129)
        window = window[(window >= 0) & (window < 2048)]
        query = (hidden[position] @ query_weight + query_bias).reshape(8, 64) / 8
        scores = np.einsum("hd,jhd->hj", query, keys[window].reshape(-1, 8, 64))
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        context = np.einsum("hj,jhd->hd", shares, values[window].reshape(-1, 8, 64)).reshape(512)
        inner = np.maximum(context @ first_weight + first_bias, 0)
        expected = np.maximum(inner @ second_weight + second_bias, 0) + hidden[position]
        np.testing.assert_allclose(chunked[0, position], expected, atol=1e-5 * scale, rtol=0)
