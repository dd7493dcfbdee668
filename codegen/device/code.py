"""A program's kernels compiled for a device, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from codegen.built import Model
from codegen.device.bench import Bench
from codegen.device.files import SOURCES
from codegen.device.opencl import Code, DeviceModel
from codegen.device.opencl_bench import OpenClBench
from codegen.device.sources import opencl_source
from codegen.device.table import Entry
from codegen.signature import Signature
from codegen.targets.gpu import GpuTarget
from tensoropt.ir.program import Array


class DeviceCode(Protocol):
    """Kernels by name."""

    def model(self, starts: Sequence[Entry], signature: Signature, weights: Array) -> Model:
        """The kernels started as a table says. UsageError where no device is here to run them."""
        ...

    def bench(self) -> Bench:
        """The device that is here with the kernels, to measure them on. UsageError where there is none."""
        ...

    def write(self, folder: Path) -> None:
        """The files of an artefact that hold them."""
        ...

    def needs(self, kernel: str) -> dict[str, Any]:
        """What is known of the resources of a kernel, as plain data; empty where the device's own compiler decides."""
        ...


class OpenClCode:
    """A source that the device's own compiler takes when it runs."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._code: Code | None = None

    def model(self, starts: Sequence[Entry], signature: Signature, weights: Array) -> DeviceModel:
        """See ``DeviceCode``."""
        return DeviceModel(self._compiled(), starts, signature, weights)

    def bench(self) -> OpenClBench:
        """See ``DeviceCode``."""
        return OpenClBench(self._compiled())

    def _compiled(self) -> Code:
        if self._code is None:
            self._code = Code(self.source)
        return self._code

    def write(self, folder: Path) -> None:
        """See ``DeviceCode``."""
        (folder / SOURCES["opencl"]).write_text(self.source)

    def needs(self, kernel: str) -> dict[str, Any]:
        """See ``DeviceCode``."""
        return {}


def compiled_code(functions: Mapping[str, Any], target: GpuTarget, starts: Sequence[Entry]) -> DeviceCode:
    """Device functions by name, compiled for a target. For CUDA errors as `codegen.cuda.code.cuda_code`."""
    if target.kind == "cuda":
        from codegen.cuda.code import cuda_code

        return cuda_code(functions, target, starts)
    return OpenClCode(opencl_source(functions, target))
