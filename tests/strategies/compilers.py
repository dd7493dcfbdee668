"""One statement compiled alone, on each device that every machine has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from codegen.device.kernel import compile_kernel as compile_for_device
from codegen.device.opencl import find_device, target_of
from codegen.kernel import compile_kernel
from codegen.targets.cpu import host_target
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.program import Array, Compute

DEVICES = ("cpu", "opencl")
"""OpenCL's is PoCL, where no other one is there."""

CPU = host_target(2)
OPENCL = target_of(find_device())

Kernel = Callable[[Mapping[str, Array]], dict[str, Array]]


def compiled_on(device: str, scope: Scope, constants: Mapping[str, Array] | None = None) -> Kernel:
    """``y = scope`` as a callable. ``constants`` are values that are known when it is compiled."""
    statement = Compute(Tensor("y", scope.type), scope)
    if device == "cpu":
        return compile_kernel(statement, CPU, constants)
    return compile_for_device(statement, OPENCL, constants or ())
