"""One statement as a callable: compiled alone, for checks and for measuring."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from codegen.lower import tir
from codegen.lower.kernel import Kernel, lower
from codegen.packing import pack
from codegen.runtime import aligned_empty
from codegen.targets.cpu import CpuTarget
from tensoropt.ir.program import Array, Compute


class CompiledKernel:
    """A statement that runs in this process: arrays by name in, its output by name out."""

    def __init__(self, kernel: Kernel, target: CpuTarget, constants: Mapping[str, Array] | None = None) -> None:
        import tvm

        self.kernel = kernel
        count = len(kernel.function.params)
        private = tvm.ir.GlobalVar("kernel")
        pointers = [tir.void_pointer(f"argument{number}") for number in range(count)]
        entry = tir.entry(pointers, [tir.call(private, pointers)], "main")
        module = tir.build_module({private: kernel.function, tvm.ir.GlobalVar("main"): entry}, target.tvm())
        self._module = module
        self._main = module["main"]
        self._packed = [pack(packing, constants or {}) for packing in kernel.packings]

    def __call__(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the kernel on arrays by name."""
        arrays, outputs = self._arguments(values)
        self._run(arrays)
        return {tensor.name: array for tensor, array in zip(self.kernel.outputs, outputs, strict=True)}

    def prepared(self, values: Mapping[str, Array]) -> Callable[[], None]:
        """A run on arrays by name whose outputs and scratch memory are always the same, for timing."""
        arrays, _ = self._arguments(values)
        return lambda: self._run(arrays)

    def _run(self, arrays: list[Array]) -> None:
        self._main(*(ctypes.c_void_p(array.ctypes.data) for array in arrays))

    def _arguments(self, values: Mapping[str, Array]) -> tuple[list[Array], list[Array]]:
        """What the function is called with, and the outputs among it."""
        kernel = self.kernel
        inputs = [np.ascontiguousarray(values[tensor.name]) for tensor in kernel.inputs]
        outputs = [np.empty(tuple(tensor.shape), tensor.dtype.numpy) for tensor in kernel.outputs]
        arrays = [*inputs, *self._packed, *outputs]
        if kernel.workspace_bytes:
            arrays.append(aligned_empty(kernel.workspace_bytes))
        return arrays, outputs


def compile_kernel(
    statement: Compute, target: CpuTarget, constants: Mapping[str, Array] | None = None, variant: Any = None
) -> CompiledKernel:
    """One statement compiled alone. ``constants`` are arrays that it may pack when it is compiled."""
    known = frozenset(constants or {})
    kernel = lower(statement.output, statement.expression, target, known, variant)
    return CompiledKernel(kernel, target, constants)
