"""A model under construction: nodes in order, seeded weights as initializers, static shapes tracked by ONNX itself."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from examples.models.weights import Array, Weights

OPSET = 18
IR_VERSION = 9

Attribute = int | float | str | list[int]
Pair = tuple[int, int]


class Graph:
    """Builds one f32 model. Methods append nodes and return the name of the value that they make.

    Weights of layers that feed a rectifier have the variance of He et al. (2015), 2 / fan-in; `gain` is the factor on
    the standard deviation of 1 / sqrt(fan-in), so √2 before a Relu and 1 where nothing is clipped. Biases are random
    and never zero.
    """

    def __init__(self, name: str, seed: int) -> None:
        self._name = name
        self._weights = Weights(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare an f32 input."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def output(self, value: str, name: str, shape: tuple[int, ...]) -> None:
        """Declare `value` to be an output called `name`; the shape is checked when the model is finished."""
        for node in self._nodes:
            node.input[:] = [name if operand == value else operand for operand in node.input]
            node.output[:] = [name if result == value else result for result in node.output]
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, value: Array, name: str) -> str:
        """Add an initializer; `name` is made unique by a number."""
        unique = f"{name}_{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(value, unique))
        return unique

    def ints(self, *values: int) -> str:
        """Add a one-dimensional int64 constant, as shapes, axes and pads are given."""
        return self.constant(np.array(values, np.int64), "shape")

    def weight(self, shape: tuple[int, ...], fan_in: int, gain: float = 2**0.5) -> str:
        """Add a random weight of standard deviation gain / sqrt(fan_in)."""
        return self.constant(self._weights.uniform(shape, gain / fan_in**0.5), "weight")

    def bias(self, *shape: int) -> str:
        """Add a random bias, uniform with standard deviation 0.3."""
        return self.constant(self._weights.uniform(shape, 0.3), "bias")

    def node(self, operator: str, *operands: str, **attributes: Attribute) -> str:
        """Append a node with one output and return the output's name."""
        name = f"{operator}_{len(self._nodes)}"
        node = helper.make_node(operator, operands, [f"{name}_out"], name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self._nodes.append(node)
        return f"{name}_out"

    def relu(self, value: str) -> str:
        return self.node("Relu", value)

    def prelu(self, value: str, channels: int) -> str:
        """A rectifier with one slope a channel, the slopes uniform in [0.1, 0.4)."""
        slope = self.constant(self._weights.between((channels, 1, 1), 0.1, 0.4), "slope")
        return self.node("PRelu", value, slope)

    def conv(
        self,
        value: str,
        channels: Pair,
        kernel: Pair,
        pad: Pair = (0, 0),
        *,
        stride: int = 1,
        dilation: int = 1,
        gain: float = 2**0.5,
        bias: bool = True,
    ) -> str:
        """Two-dimensional convolution; `channels` is (in, out), `pad` is the same at both ends of an axis."""
        fan_in = channels[0] * kernel[0] * kernel[1]
        operands = [value, self.weight((channels[1], channels[0], *kernel), fan_in, gain)]
        if bias:
            operands.append(self.bias(channels[1]))
        return self.node(
            "Conv",
            *operands,
            kernel_shape=list(kernel),
            pads=[*pad, *pad],
            strides=[stride, stride],
            dilations=[dilation, dilation],
        )

    def conv_transpose(
        self,
        value: str,
        channels: Pair,
        kernel: int,
        *,
        stride: int,
        pad: int,
        output_padding: int = 0,
        gain: float = 2**0.5,
    ) -> str:
        """Two-dimensional transposed convolution with bias; at stride s a pixel sums (kernel / s)² · in terms.

        (out - 1 is in - 1 times the stride, plus kernel - 1 - 2 pad + output_padding.)
        """
        fan_in = channels[0] * max(1, kernel // stride) ** 2
        return self.node(
            "ConvTranspose",
            value,
            self.weight((*channels, kernel, kernel), fan_in, gain),
            self.bias(channels[1]),
            kernel_shape=[kernel, kernel],
            pads=[pad] * 4,
            strides=[stride, stride],
            output_padding=[output_padding] * 2,
        )

    def batch_norm(self, value: str, channels: int) -> str:
        """Batch normalisation in inference form: all four statistics random, the variance in [0.5, 1.5)."""
        scale, variance = (self.constant(self._weights.between((channels,), 0.5, 1.5), "statistic") for _ in range(2))
        return self.node(
            "BatchNormalization", value, scale, self.bias(channels), self.bias(channels), variance, epsilon=1e-5
        )

    def project(self, value: str, features: Pair, gain: float = 1.0) -> str:
        """value · weight over the last axis; `features` is (in, out)."""
        return self.node("MatMul", value, self.weight(features, features[0], gain))

    def linear(self, value: str, features: Pair, gain: float = 1.0) -> str:
        """value · weight + bias over the last axis, as MatMul and Add; `features` is (in, out)."""
        return self.node("Add", self.project(value, features, gain), self.bias(features[1]))

    def finish(self) -> onnx.ModelProto:
        """Return the model, checked in full: every shape must be inferred and agree with what was declared."""
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._initializers)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="tensoropt-examples",
        )
        onnx.checker.check_model(model, full_check=True)
        return model
