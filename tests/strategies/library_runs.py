"""Programs with libraries' calls, compiled for CUDA and run by the CUDA runtime on the host: kernels of ours by a C++ compiler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codegen.cuda.runtime import CudaModel, Image
from codegen.cuda.source import cuda_source
from codegen.device.build import BuiltDeviceProgram, link, lowered, workspaces_of
from codegen.device.code import DeviceCode
from codegen.device.table import Entry, Start
from codegen.signature import Signature
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from passes.pipeline import plan
from passes.plan.lifetimes import joined_storage
from tensoropt.ir.expression import Scope, Tensor, tensors
from tensoropt.ir.program import Array, Compute, Program
from tests.strategies.cuda_on_host import compiled, kernels_of
from tests.strategies.fake_driver import FakeDriver
from tests.strategies.fake_libraries import VERSIONS, fake_libraries

TARGET = NAMED["h200"]


class HostCode:
    """`codegen.device.code.DeviceCode` of CUDA sources and fake libraries on the host."""

    def __init__(self, functions: Mapping[str, Any], folder: Path, versions: Mapping[str, str] = VERSIONS) -> None:
        self.library = compiled(cuda_source(functions, TARGET), folder, False) if functions else None
        self.versions = versions
        self.driver = FakeDriver({}, memory_bytes=1 << 30)

    def model(self, starts: list[Entry], signature: Signature, weights: Array) -> CudaModel:
        launches = [start for start in starts if isinstance(start, Start)]
        kernels = {} if self.library is None else dict(kernels_of(self.library, launches))
        self.driver.kernels = kernels
        image = Image(b"\x7fELF", "sm_90", dict.fromkeys(kernels, 0))
        opened = fake_libraries(self.driver, self.versions)
        return CudaModel(self.driver, [image], starts, signature, weights, opened)

    def needs(self, kernel: str) -> dict[str, Any]:
        return {}


def built(
    program: Program, variants: Mapping[str, Any], folder: Path, target: GpuTarget = TARGET
) -> BuiltDeviceProgram:
    """A program of kernels with schedule parameters for some, compiled for the host."""
    storage = joined_storage(program)
    steps = lowered(program, storage.idle, target, variants=variants, strides=storage.strides, start=storage.start)

    def code(functions: dict[str, object], _: object, starts: object) -> DeviceCode:
        return HostCode(functions, folder)  # type: ignore[return-value]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("codegen.device.build.compiled_code", code)
        return link(program, plan(program, workspaces_of(steps), storage, target.alignment), target, steps)


def run(made: BuiltDeviceProgram, feeds: dict[str, Array]) -> dict[str, Array]:
    """The outputs, which are the same when the run is one from the graph."""
    model = made.model()
    first = model.run(feeds)
    for _ in range(2):
        again = model.run(feeds)
        assert all(again[name].tobytes() == value.tobytes() for name, value in first.items())
    return first


def of_scope(scope: Scope, constants: Mapping[str, Array] | None = None) -> Program:
    """A program of one kernel."""
    output = Tensor("y", scope.type)
    known = constants or {}
    inputs = tuple(tensor for tensor in tensors(scope) if tensor.name not in known)
    return Program("p", inputs, (output,), dict(known), (Compute(output, scope),))
