"""Single operators at real sizes, as statements: from ONNX nodes through the frontend, or from the text of an expression."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import TensorProto, helper

from tensoropt.frontend import load_program
from tensoropt.ir.expression import Tensor
from tensoropt.ir.parser import parse_scope
from tensoropt.ir.program import Compute, Program
from tensoropt.ir.types import DataType, Extent, TensorType

Build = Callable[[], Compute]


def node(operator: str, shapes: dict[str, tuple[int, ...]], **attributes: int | list[int]) -> Build:
    """The statement that folds among those that one ONNX node becomes; weights are inputs too, so they have no data."""

    def build() -> Compute:
        statement = _lifted(operator, shapes, attributes).statements[-1]
        assert isinstance(statement, Compute)
        return statement

    return build


def pooling(operator: str, shape: tuple[int, ...], kernel: int, stride: int, padding: int) -> Build:
    """The fold of a pooling with square windows; a mean is divided in a statement after it."""

    def build() -> Compute:
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
        statement = _lifted(operator, {"A": shape}, attributes).statements[0]
        assert isinstance(statement, Compute)
        return statement

    return build


def _lifted(operator: str, shapes: Mapping[str, tuple[int, ...]], attributes: Mapping[str, int | list[int]]) -> Program:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    made = helper.make_node(operator, list(shapes), ["O"])
    made.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    graph = helper.make_graph([made], "bare", inputs, [onnx.ValueInfoProto(name="O")])
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return load_program(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])).program


def convolution(
    images: int,
    channels: int,
    height: int,
    width: int,
    filters: int,
    kernel: tuple[int, int],
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pads: tuple[int, ...] = (0, 0, 0, 0),
) -> Build:
    """Conv of the image A with the kernel K."""
    return node(
        "Conv",
        {"A": (images, channels, height, width), "K": (filters, channels // groups, *kernel)},
        strides=[stride] * 2,
        dilations=[dilation] * 2,
        group=groups,
        pads=list(pads),
    )


def transposed_convolution(
    images: int, channels: int, height: int, filters: int, kernel: int, stride: int, padding: int, extra: int = 0
) -> Build:
    """ConvTranspose of the square image A with the kernel K; ``extra`` is the output padding."""
    return node(
        "ConvTranspose",
        {"A": (images, channels, height, height), "K": (channels, filters, kernel, kernel)},
        strides=[stride] * 2,
        pads=[padding] * 4,
        output_padding=[extra] * 2,
    )


def expression(text: str, **shapes: tuple[int, ...]) -> Build:
    """The statement of an expression in the text form, over f32 tensors of these shapes."""

    def build() -> Compute:
        read = {
            name: Tensor(name, TensorType(DataType.FLOAT32, tuple(map(Extent, shape))))
            for name, shape in shapes.items()
        }
        scope = parse_scope(text, read)
        return Compute(Tensor("O", scope.type), scope)

    return build
