"""What a compiled model takes and gives, on whatever device: inputs checked, outputs put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensoropt.errors import InputError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array


@dataclass(frozen=True, slots=True)
class OutputSource:
    """Where an output's values are after a run: an array that the library wrote, an input, or the weights at an offset."""

    kind: str
    place: int


@dataclass(frozen=True, slots=True)
class Signature:
    """What a compiled model takes and gives, and the memory that a run needs.

    Where ``failures`` is not empty, the last cache line of the arena says after a run which of them happened, from 1; 0 is none.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sources: tuple[OutputSource, ...]
    written: int
    arena_bytes: int
    threads: int
    failures: tuple[str, ...] = ()

    @property
    def written_outputs(self) -> tuple[Tensor, ...]:
        """What the arrays that a run writes are, in their order."""
        written: dict[int, Tensor] = {}
        for tensor, source in zip(self.outputs, self.sources, strict=True):
            if source.kind == "output":
                written[source.place] = tensor
        return tuple(written[place] for place in range(self.written))


class Signed:
    """What a model says of itself, whatever runs it: its signature."""

    _signature: Signature

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs in the model's order."""
        return self._signature.inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The outputs in the model's order."""
        return self._signature.outputs

    @property
    def arena_bytes(self) -> int:
        """Memory that one run needs beside inputs, outputs and weights, where the model runs."""
        return self._signature.arena_bytes


def checked(signature: Signature, feeds: Mapping[str, Array]) -> list[Array]:
    """The inputs in the model's order, contiguous. InputError for names, types or shapes that do not fit."""
    require_names(signature, feeds)
    return [fitting(tensor, feeds[tensor.name]) for tensor in signature.inputs]


def require_names(signature: Signature, feeds: Mapping[str, Any]) -> None:
    """InputError for inputs that the model has not, and for those that are missing."""
    if not isinstance(feeds, Mapping):
        raise InputError(f"the inputs are a mapping from names to arrays, not {type(feeds).__name__}")
    names = {tensor.name for tensor in signature.inputs}
    unknown = sorted(set(feeds) - names)
    if unknown:
        raise InputError(f"the model has no input {unknown[0]!r}; its inputs are {', '.join(sorted(names)) or 'none'}")
    for tensor in signature.inputs:
        if tensor.name not in feeds:
            raise InputError(f"the input {tensor.name!r} ({tensor.type}) is missing")


def fitting(tensor: Tensor, value: Any) -> Array:
    """A value for an input as an array, contiguous. InputError for a type or shape that does not fit."""
    array = np.asarray(value)
    if array.dtype != tensor.dtype.numpy:
        raise InputError(f"the input {tensor.name!r} is {array.dtype}, the model takes {tensor.dtype.numpy}")
    require_shape(tensor, array.shape)
    return array if array.flags.c_contiguous else array.copy()


def require_shape(tensor: Tensor, shape: tuple[int, ...]) -> None:
    """InputError where an input has another shape than the model takes."""
    if shape != tuple(tensor.shape):
        wanted = tuple(int(extent) for extent in tensor.shape)
        raise InputError(f"the input {tensor.name!r} has shape {shape}, the model takes {wanted}")


def assembled(
    signature: Signature, inputs: Sequence[Array], written: Sequence[Array], weights: Array
) -> dict[str, Array]:
    """The outputs by name, none of which shares memory with an input or the weights."""

    def one(tensor: Tensor, source: OutputSource) -> Array:
        match source.kind:
            case "output":
                return written[source.place]
            case "input":
                return inputs[source.place].copy()
            case _:
                raw = weights[source.place : source.place + tensor.type.bytes]
                return np.frombuffer(raw.tobytes(), tensor.dtype.numpy).reshape(tuple(tensor.shape)).copy()

    pairs = zip(signature.outputs, signature.sources, strict=True)
    return {tensor.name: one(tensor, source) for tensor, source in pairs}
