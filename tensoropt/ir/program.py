"""Programs: single-assignment statements over typed tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tensoropt.ir.expression import Scope, Tensor, tensors
from tensoropt.ir.types import TensorType

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Compute:
    """``output = expression``. ``origin`` names the model's nodes it comes from, for messages and ``inspect``."""

    output: Tensor
    expression: Scope
    origin: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.output.type != self.expression.type:
            raise ValueError(f"{self.output!r} is assigned a value of type {self.expression.type}")

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The one tensor that is assigned."""
        return (self.output,)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that are read, each once."""
        return tuple(tensors(self.expression))


@dataclass(frozen=True, slots=True)
class Opaque:
    """An ONNX operator that tensor algebra does not express.

    ``node`` is the serialized NodeProto with the names of inputs and outputs as here ("" for an input left out);
    ``opset`` is the version of ``domain`` that it is written for.
    """

    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    operator: str
    domain: str
    opset: int
    node: bytes = field(repr=False)
    origin: tuple[str, ...] = ()


Statement = Compute | Opaque


@dataclass(frozen=True, slots=True)
class Program:
    """Inputs, constants and statements in an order in which they can run.

    ``constants`` maps names to arrays (memory-mapped ones stay so). An output may be an input, a constant or a
    statement's output; the same tensor may be an output twice.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constants: Mapping[str, Array]
    statements: tuple[Statement, ...]

    def with_statements(self, statements: Iterable[Statement], constants: Mapping[str, Array] | None = None) -> Program:
        """The program with other statements (and constants)."""
        return replace(self, statements=tuple(statements), constants=self.constants if constants is None else constants)

    def producers(self) -> dict[Tensor, Statement]:
        """The statement that assigns each tensor."""
        return {output: statement for statement in self.statements for output in statement.outputs}

    def consumers(self) -> dict[Tensor, list[Statement]]:
        """The statements that read each tensor, in order."""
        readers: dict[Tensor, list[Statement]] = {}
        for statement in self.statements:
            for tensor in statement.inputs:
                readers.setdefault(tensor, []).append(statement)
        return readers

    def constant_tensors(self) -> dict[str, Tensor]:
        """The constants as tensors."""
        return {name: Tensor(name, type_of(array)) for name, array in self.constants.items()}


def type_of(array: Array) -> TensorType:
    """The tensor type of an array; KeyError for element types that programs do not have."""
    from tensoropt.ir.types import DataType, Extent

    return TensorType(DataType.from_numpy(array.dtype), tuple(Extent(extent) for extent in array.shape))
