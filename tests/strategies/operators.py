"""Bare expressions of convolutions and transposed convolutions, as the frontend writes them."""

from __future__ import annotations

from tensoropt.ir.expression import Access, Apply, Scope
from tensoropt.ir.index import Index, Iterator
from tests.strategies.expressions import tensor


def transposed_convolution(
    images: int,
    channels: int,
    height: int,
    filters: int,
    kernel: int,
    stride: int,
    padding: int,
    output_padding: int = 0,
) -> Scope:
    """ConvTranspose in its affine adjoint form, NCHW, square."""
    size = (height - 1) * stride - 2 * padding + kernel + output_padding
    data = tensor("A", images, channels, height, height)
    weights = tensor("K", channels, filters, kernel, kernel)
    extents = (images, filters, size, size, channels, height, height)
    n, f, y, x, c, h, w = (Iterator(name, extent) for name, extent in zip("nfyxchw", extents, strict=True))
    row, column = Index.of(y) + padding - Index.of(h) * stride, Index.of(x) + padding - Index.of(w) * stride
    body = Apply("mul", Access(data, [n, c, h, w]), Access(weights, [c, f, row, column]))
    return Scope((n, f, y, x), body, (c, h, w))


def convolution(
    images: int,
    channels: int,
    height: int,
    filters: int,
    kernel: tuple[int, int],
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    pads: tuple[int, int, int, int] | None = None,
) -> Scope:
    """Conv, NCHW, square data; pads are ``(top, left, bottom, right)``, "same" where left out."""
    pads = pads or tuple(dilation * (taps // 2) for taps in (*kernel, *kernel))  # type: ignore[assignment]
    assert pads is not None
    sizes = [
        (height + pads[axis] + pads[axis + 2] - dilation * (kernel[axis] - 1) - 1) // stride + 1 for axis in (0, 1)
    ]
    each = channels // groups
    data, weights = tensor("A", images, channels, height, height), tensor("K", filters, each, *kernel)
    extents = (images, filters, *sizes, each, *kernel)
    n, f, y, x, c, r, s = (Iterator(name, extent) for name, extent in zip("nfyxcrs", extents, strict=True))
    channel = Index.of(c) if groups == 1 else Index.of(f) // (filters // groups) * each + c
    row = Index.of(y) * stride + Index.of(r) * dilation - pads[0]
    column = Index.of(x) * stride + Index.of(s) * dilation - pads[1]
    body = Apply("mul", Access(data, [n, channel, row, column]), Access(weights, [f, c, r, s]))
    return Scope((n, f, y, x), body, (c, r, s))
