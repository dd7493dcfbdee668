"""Losses behind models, for training steps: the mean cross entropy of logits, and of each pixel's logits."""

from __future__ import annotations

from collections.abc import Callable

import onnx
from onnx import TensorProto, helper


def with_loss(builder: Callable[[int], onnx.ModelProto], scores: str) -> Callable[[int], onnx.ModelProto]:
    """A builder of the model as it is trained."""
    return lambda batch: with_cross_entropy(training_statistics(builder(batch)), scores)


def with_cross_entropy(model: onnx.ModelProto, scores: str) -> onnx.ModelProto:
    """The model with the output ``loss``: the mean cross entropy of an output (N, C, ..) and the labels (N, ..), a new input."""
    trained = onnx.ModelProto()
    trained.CopyFrom(model)
    (output,) = (value for value in trained.graph.output if value.name == scores)
    shape = [extent.dim_value for extent in output.type.tensor_type.shape.dim]
    trained.graph.input.append(helper.make_tensor_value_info("labels", TensorProto.INT64, [shape[0], *shape[2:]]))
    trained.graph.node.append(
        helper.make_node("SoftmaxCrossEntropyLoss", [scores, "labels"], ["loss"], "loss", reduction="mean")
    )
    trained.graph.output.append(helper.make_tensor_value_info("loss", TensorProto.FLOAT, []))
    return trained


def training_statistics(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with normalisations by the statistics of the batch, as training computes them."""
    trained = onnx.ModelProto()
    trained.CopyFrom(model)
    for node in trained.graph.node:
        if node.op_type == "BatchNormalization":
            node.attribute.append(helper.make_attribute("training_mode", 1))
            node.output.extend([f"{node.output[0]}_mean", f"{node.output[0]}_variance"])
    return trained
