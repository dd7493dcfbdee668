"""A program's kernels compiled for CUDA: cubins that every launch fits, their source for people, and a run where a GPU is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from codegen.cuda.bench import CudaBench
from codegen.cuda.cubins import Cubin, compile_functions
from codegen.cuda.driver import Driver, NoDevice, open_driver
from codegen.cuda.files import write_cubins
from codegen.cuda.occupancy import beyond, occupancy
from codegen.cuda.runtime import CudaModel, Image
from codegen.cuda.source import cuda_source
from codegen.device.files import SOURCES
from codegen.device.table import Entry, Start
from codegen.libraries.library import Library, open_library
from codegen.signature import Signature
from codegen.targets.gpu import GpuTarget
from tensoropt.errors import ModelError, UsageError
from tensoropt.ir.program import Array

_L2_BYTES = 64 << 20
"""Of a GPU of which it is not known."""


class CudaCode:
    """`codegen.device.code.DeviceCode` of cubins; ``threads`` are those of a kernel's blocks."""

    def __init__(self, target: GpuTarget, source: str, cubins: Sequence[Cubin], threads: Mapping[str, int]) -> None:
        self.target, self.source, self.cubins = target, source, tuple(cubins)
        self.resources = {name: found for cubin in cubins for name, found in cubin.kernels.items()}
        self._threads = threads

    def model(self, starts: Sequence[Entry], signature: Signature, weights: Array) -> CudaModel:
        """See ``DeviceCode``. ArtefactError where the GPU that is here is another one."""
        return CudaModel(self._driver(open_driver), self._images(), starts, signature, weights)

    def bench(self) -> CudaBench:
        """See ``DeviceCode``. ArtefactError where the GPU that is here is another one."""
        l2_bytes = self.target.ceilings.l2_bytes or _L2_BYTES
        return CudaBench(self._driver(_one_driver), self._images(), l2_bytes, _one_library)

    def _images(self) -> list[Image]:
        return [Image(cubin.code, self.target.arch, dict.fromkeys(cubin.kernels, 0)) for cubin in self.cubins]

    def _driver(self, opened: Callable[[], Driver]) -> Driver:
        try:
            return opened()
        except NoDevice as error:
            raise UsageError(f"what was compiled for {self.target.name} does not run here: {error}") from error

    def write(self, folder: Path) -> None:
        """See ``DeviceCode``."""
        (folder / SOURCES["cuda"]).write_text(self.source)
        write_cubins(folder, self.target.arch, [(cubin.code, cubin.kernels) for cubin in self.cubins], {})

    def needs(self, kernel: str) -> dict[str, Any]:
        """See ``DeviceCode``."""
        found = self.resources[kernel]
        resident = occupancy(self.target, found, self._threads[kernel])
        return {**asdict(found), "occupancy": resident.share, "limited_by": resident.limited_by}


@cache
def _one_driver() -> Driver:
    """A driver for all candidates that this process measures."""
    return open_driver()


@cache
def _one_library(name: str, stream: int) -> Library:
    """A library for all candidates that this process measures."""
    return open_library(name, stream)


def cuda_code(functions: Mapping[str, Any], target: GpuTarget, starts: Sequence[Entry]) -> CudaCode:
    """Device functions compiled for a GPU that need not be here.

    ModelError for a kernel that does not fit the GPU; UsageError without an nvcc that makes code for it.
    """
    cubins = compile_functions(functions, target)
    launches = [start for start in starts if isinstance(start, Start)]
    threads = {start.kernel: start.block[0] * start.block[1] * start.block[2] for start in launches}
    code = CudaCode(target, cuda_source(functions, target), cubins, threads)
    for start in launches:
        why = beyond(target, start.kernel, code.resources[start.kernel], start.grid, start.block)
        if why is not None:
            raise ModelError(f"{why}; compile for a GPU with more, or use --target cpu")
    return code
