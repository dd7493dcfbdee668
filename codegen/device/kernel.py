"""One statement as a callable on a device: compiled alone, or a kernel of a program on given values; for checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codegen.device.code import DeviceCode, compiled_code
from codegen.device.table import ALIGNED, Called, Entry, Place, Start
from codegen.lower.device import Call, DeviceKernel, Launch, Scratch, lower
from codegen.signature import OutputSource, Signature
from codegen.strided import box_of, spanned
from codegen.targets.gpu import GpuTarget
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array, Compute
from tensoropt.ir.types import Extent, TensorType


def function_names(kernel: DeviceKernel, prefix: str) -> list[str]:
    """What the launches' functions are called in a source; calls have a name that nothing has."""
    return [f"{prefix}_{number}" for number in range(len(kernel.entries))]


def starts_of(
    kernel: DeviceKernel, names: Sequence[str], tensors: Mapping[Tensor, Place], scratch: Place
) -> list[Entry]:
    """A kernel's launches and calls with places for its tensors and for the first byte of its scratch memory.

    RuntimeError where a place is at no multiple of the bytes that the kernel was compiled for, which is a defect of this program.
    """
    needed = [(tensors[tensor], multiple) for tensor, multiple in kernel.alignments.items()]
    for found, multiple in [*needed, *([(scratch, ALIGNED)] if kernel.workspace_bytes else [])]:
        if found.offset % multiple:
            raise RuntimeError(f"{names[0]} was compiled for multiples of {multiple} bytes and given {found}")

    def place(argument: Tensor | Scratch) -> Place:
        if isinstance(argument, Scratch):
            return Place(scratch.region, scratch.offset + argument.offset, scratch.number)
        return tensors[argument]

    def entry(name: str, launch: Launch | Call) -> Entry:
        places = tuple(place(argument) for argument in launch.arguments)
        if isinstance(launch, Call):
            return Called(launch.call, places)
        return Start(name, launch.grid, launch.block, places)

    return [entry(name, launch) for name, launch in zip(names, kernel.entries, strict=True)]


def functions_of(kernel: DeviceKernel, names: Sequence[str]) -> dict[str, Any]:
    """The device functions of a kernel's launches, by their names."""
    named = zip(names, kernel.entries, strict=True)
    return {name: entry.function for name, entry in named if isinstance(entry, Launch)}


def _starts_alone(kernel: DeviceKernel, names: Sequence[str]) -> list[Entry]:
    """A kernel's launches where its inputs are the model's, in order."""
    places = {tensor: Place("input", 0, number) for number, tensor in enumerate(kernel.inputs)}
    places[kernel.output] = Place("output")
    return starts_of(kernel, names, places, Place("arena"))


class CompiledKernel:
    """A kernel that runs on a device: arrays by the names of its tensors in, its output out."""

    def __init__(self, kernel: DeviceKernel, names: Sequence[str], code: DeviceCode) -> None:
        starts = _starts_alone(kernel, names)
        signature = Signature(
            kernel.inputs, (_written(kernel),), (OutputSource("output", 0),), 1, kernel.workspace_bytes, threads=1
        )
        self.kernel = kernel
        self._model = code.model(starts, signature, np.zeros(0, np.uint8))

    def __call__(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the kernel on arrays by name; what it does not read is left out."""
        found = self._model.run({tensor.name: values[tensor.name] for tensor in self.kernel.inputs})
        output, strides = self.kernel.output, self.kernel.strides
        return found if strides is None else {output.name: box_of(found[output.name], 0, output, strides)}


def _written(kernel: DeviceKernel) -> Tensor:
    """The memory that a kernel alone writes: its output, or all from the output's first element to its last."""
    if kernel.strides is None:
        return kernel.output
    elements = spanned(tuple(kernel.output.shape), kernel.strides)
    return Tensor(kernel.output.name, TensorType(kernel.output.dtype, (Extent(elements),)))


def compile_kernel(statement: Compute, target: GpuTarget, constants: Any = (), variant: Any = None) -> CompiledKernel:
    """One statement compiled alone for the device that is here. UsageError where there is none."""
    kernel = lower(statement.output, statement.expression, target, frozenset(constants), variant)
    names = function_names(kernel, "kernel")
    return CompiledKernel(
        kernel, names, compiled_code(functions_of(kernel, names), target, _starts_alone(kernel, names))
    )
