"""Operators by cuBLAS and cuDNN called directly, through PyTorch's functions and without its compiler. Needs torch.

On a GPU each is recorded in a CUDA graph, so that nothing but the library's kernels is timed; operands lie there as the library
wants them. On a processor the same functions are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as functional

from examples.gpu.operators import Convolution, Operator, Product
from examples.gpu.torch_runs import Call, exact_products, graphed


def direct_calls(
    operator: Operator, tensors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], device: str
) -> dict[str, Callable[[], Call]]:
    """By library, what makes a call that gives the operator's output; nothing for the band product, which is a graph of its own.

    ``tensors`` are the inputs and ``weights`` the weights of its model, on the device.
    """
    exact_products()
    torch.backends.cudnn.benchmark = True  # the fastest algorithm for the sizes, found in the first call
    if isinstance(operator, Product):
        left, right = tensors["left"], tensors["right"]
        return {"cuBLAS": lambda: graphed(lambda: torch.matmul(left, right), device)}
    if isinstance(operator, Convolution):
        (kernel,) = weights.values()
        image = tensors["image"]
        return {
            "cuDNN": lambda: graphed(_convolution(operator, image, kernel), device),
            "cuDNN, channels last": lambda: graphed(
                _convolution(operator, *(one.contiguous(memory_format=torch.channels_last) for one in (image, kernel))),
                device,
            ),
            "cuBLAS and a sum": lambda: graphed(_product_and_sum(operator, image, kernel), device),
        }
    return {}


def _convolution(operator: Convolution, image: torch.Tensor, kernel: torch.Tensor) -> Call:
    function: Any = functional.conv_transpose2d if operator.transposed else functional.conv2d
    return lambda: function(image, kernel, stride=operator.stride, padding=operator.padding)


def _product_and_sum(operator: Convolution, image: torch.Tensor, kernel: torch.Tensor) -> Call:
    """The published rewriting: one product of the kernel's points with the image's, whose results are added where they belong.

    A convolution of stride 1 is the transpose of one with the kernel turned around, and the padding that is left of the kernel.
    """
    points = operator.kernel**2
    if operator.transposed:  # channels, filters, points
        matrix, padding = kernel.reshape(operator.channels, operator.filters * points).T, operator.padding
    else:
        turned = kernel.flip(2, 3).transpose(0, 1)
        matrix = turned.reshape(operator.channels, operator.filters * points).T
        padding = operator.kernel - 1 - operator.padding
    matrix = matrix.contiguous()
    columns = image.reshape(operator.images, operator.channels, operator.size**2)
    side = (operator.result, operator.result)

    def call() -> torch.Tensor:
        product = torch.matmul(matrix, columns)
        return functional.fold(product, side, operator.kernel, padding=padding, stride=operator.stride)

    return call
