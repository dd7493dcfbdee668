"""Products, convolutions and the band product at the sizes of the published comparison, as ONNX models; or small, to try them out.

Weights are random with a fixed seed, so that every machine makes the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from examples import kernel_cases
from examples.models.graph import Graph

TYPES = {"f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product of two inputs, rows × columns over a depth."""

    rows: int
    columns: int
    depth: int

    @property
    def operations(self) -> float:
        """Floating-point operations, a multiply-add counting two."""
        return 2.0 * self.rows * self.columns * self.depth

    @property
    def elements(self) -> int:
        """What must be read or written at least."""
        return self.rows * self.depth + self.depth * self.columns + self.rows * self.columns

    def model(self, dtype: str) -> onnx.ModelProto:
        """The product ``left @ right``, of any of ``TYPES``."""
        shapes = {"left": (self.rows, self.depth), "right": (self.depth, self.columns)}
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["left", "right"], ["product"])],
            "product",
            [helper.make_tensor_value_info(name, TYPES[dtype], shape) for name, shape in shapes.items()],
            [helper.make_tensor_value_info("product", TYPES[dtype], (self.rows, self.columns))],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution of square images and kernels, or its transpose; the kernel is a weight."""

    images: int
    channels: int
    filters: int
    size: int
    kernel: int
    padding: int
    stride: int = 1
    transposed: bool = False

    @property
    def result(self) -> int:
        """The side of the resulting images."""
        if self.transposed:
            return (self.size - 1) * self.stride - 2 * self.padding + self.kernel
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def operations(self) -> float:
        """Floating-point operations of the definition, padding counted as if it were data."""
        points = self.size if self.transposed else self.result
        return 2.0 * self.images * self.channels * self.filters * points**2 * self.kernel**2

    @property
    def elements(self) -> int:
        """What must be read or written at least."""
        weights = self.channels * self.filters * self.kernel**2
        return self.images * (self.channels * self.size**2 + self.filters * self.result**2) + weights

    def model(self, dtype: str) -> onnx.ModelProto:
        """``result`` of ``image``, of f32 or f16."""
        graph = Graph("convolution", seed=7)
        image = graph.input("image", (self.images, self.channels, self.size, self.size))
        first, second = (self.channels, self.filters) if self.transposed else (self.filters, self.channels)
        weight = graph.weight((first, second, self.kernel, self.kernel), self.channels * self.kernel**2, 1.0)
        made = graph.node(
            "ConvTranspose" if self.transposed else "Conv",
            image,
            weight,
            kernel_shape=[self.kernel] * 2,
            pads=[self.padding] * 4,
            strides=[self.stride] * 2,
        )
        graph.output(made, "result", (self.images, self.filters, self.result, self.result))
        return converted(graph.finish(), dtype)


@dataclass(frozen=True, slots=True)
class Band:
    """Longformer's band of products of queries and keys: eight heads of 64, window and dilation as published."""

    @property
    def operations(self) -> float:
        """Floating-point operations inside the band."""
        return kernel_cases.CASES[_BAND].operations

    @property
    def elements(self) -> int:
        """What must be read or written at least."""
        case = kernel_cases.CASES[_BAND]
        return (case.reads + case.writes) // 4

    def model(self, dtype: str) -> onnx.ModelProto:
        """As exported from its definition, with a table of indices that a peer would gather by."""
        return converted(kernel_cases.band_gathered(), dtype)

    def chunked(self, dtype: str, chunk: int) -> onnx.ModelProto:
        """In dense products of so many queries, which peers run."""
        return converted(kernel_cases.band_chunked(chunk), dtype)


Operator = Product | Convolution | Band

_BAND = "band MatMul 8×10000×64, w 1000, d 4"

PUBLISHED: Mapping[str, Operator] = {
    "Conv 3×3, 512×7²→512": Convolution(1, 512, 512, 7, 3, 1),
    "ConvTranspose 4×4 s2, 16×448×2²→256": Convolution(16, 448, 256, 2, 4, 1, 2, transposed=True),
    "Conv 5×5, 16×32×224²→1": Convolution(16, 32, 1, 224, 5, 2),
    "band product 8×10000×64, w 1000, d 4": Band(),
}
"""The four operator cases of the published derivation-based optimizers."""

KERNELS: Mapping[str, Operator] = {
    "GEMM 4096×4096×4096": Product(4096, 4096, 4096),
    "GEMM 1024×1024×1024": Product(1024, 1024, 1024),
    "GEMM 3136×64×576": Product(3136, 64, 576),
    "GEMM 16×4096×4096": Product(16, 4096, 4096),
    "Conv 3×3, 16×64×56²→64": Convolution(16, 64, 64, 56, 3, 1),
    "Conv 3×3, 16×256×14²→256": Convolution(16, 256, 256, 14, 3, 1),
}
"""What is told as a share of the GPU's peak."""

SMALL: Mapping[str, Operator] = {
    "Conv 3×3, small": Convolution(1, 8, 16, 7, 3, 1),
    "ConvTranspose 4×4 s2, small": Convolution(2, 8, 4, 3, 4, 1, 2, transposed=True),
    "GEMM, small": Product(32, 24, 40),
}
"""To try a script out on a processor."""


def converted(model: onnx.ModelProto, dtype: str) -> onnx.ModelProto:
    """A model of f32 as it is, or with weights, inputs and outputs of f16, by ONNX Runtime's converter."""
    if dtype == "f32":
        return model
    if dtype != "f16":
        raise ValueError(f"models are converted to f16 only, not to {dtype}")
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half: onnx.ModelProto = convert_float_to_float16(model)
    return half
