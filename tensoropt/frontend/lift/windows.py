"""Strides, dilations and padding of convolutions and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensoropt.frontend.lift.node import Node
from tensoropt.ir.index import Index, Iterator


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window along each spatial axis. ``begins`` and ``ends`` are the padding on both sides, resolved from auto_pad."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    def position(self, axis: int, output: Iterator, tap: Iterator) -> Index:
        """Where in the input a tap of an output position reads; outside the input's box in the padding."""
        return Index.of(output) * self.strides[axis] + Index.of(tap) * self.dilations[axis] - self.begins[axis]


def window_of(node: Node, kernel: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]) -> Window:
    """The window of a node with the usual attributes."""
    rank = len(kernel)
    strides, dilations = node.integers("strides", [1] * rank), node.integers("dilations", [1] * rank)
    pads = node.integers("pads", [0] * 2 * rank)
    begins, ends = pads[:rank], pads[rank:]
    mode = node.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        begins, ends = [0] * rank, [0] * rank
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        for axis in range(rank):
            reach = (outputs[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
            total = max(reach - inputs[axis], 0)
            begins[axis] = total // 2 if mode == "SAME_UPPER" else total - total // 2
            ends[axis] = total - begins[axis]
    return Window(tuple(kernel), tuple(strides), tuple(dilations), tuple(begins), tuple(ends))
