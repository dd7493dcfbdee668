"""An ONNX node as the operations on tensors are made from it: attributes, constant operands, pads in PyTorch's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tensoropt.peers.peer import Refused

if TYPE_CHECKING:
    import numpy as np
    import onnx

Operation = Callable[..., Any]
"""Tensors to a tensor, or to a tuple of them; None stands for an operand that is left out."""


class Node:
    """One node: its attributes, and those of its operands that are constant."""

    def __init__(self, proto: onnx.NodeProto, opset: int, constants: Mapping[str, np.ndarray[Any, Any]]) -> None:
        from onnx import helper

        self.operator, self.domain, self.opset = proto.op_type, proto.domain, opset
        self.attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in proto.attribute}
        self._operands, self._constants = list(proto.input), constants
        self.outputs = len(proto.output)
        if self.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            raise Refused(f"{self.operator} with auto_pad is not written for torch")

    def get(self, name: str, otherwise: Any) -> Any:
        """An attribute; a text as text."""
        value = self.attributes.get(name, otherwise)
        return value.decode() if isinstance(value, bytes) else value

    def list(self, position: int, attribute: str = "") -> list[Any] | None:
        """A constant operand as a list, or the attribute that older versions have in its place; None where there is neither."""
        if attribute in self.attributes:
            return list(self.attributes[attribute])
        if position >= len(self._operands) or not self._operands[position]:
            return None
        name = self._operands[position]
        if name not in self._constants:
            raise Refused(f"{self.operator} with an operand {name!r} that is not constant is not written for torch")
        return list(self._constants[name].reshape(-1).tolist())

    def rank_of(self, position: int) -> int | None:
        """The rank of a constant operand."""
        name = self._operands[position]
        return self._constants[name].ndim if name in self._constants else None


def split_pads(pads: Sequence[int]) -> tuple[list[int], list[int]]:
    """ONNX's pads as those before and those behind each axis."""
    half = len(pads) // 2
    return list(pads[:half]), list(pads[half:])


def flat_pads(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Pads in PyTorch's order: the last axis first, before and after each."""
    return [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
