"""A machine with a GPU that is none: a C++ compiler makes what stands for cubins, whose kernels the driver runs on the host, and
vendors' libraries are NumPy. A kernel takes three seconds, a library's call one.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from codegen.cuda.cubins import Cubin
from codegen.cuda.resources import Resources
from codegen.cuda.source import cuda_source
from codegen.device.table import Start
from codegen.libraries.library import Library
from codegen.targets.gpu import GpuTarget
from tests.strategies.cuda_on_host import compiled, kernels_of
from tests.strategies.fake_driver import FakeDriver
from tests.strategies.fake_libraries import VERSIONS, fake_libraries

MEASURING = "tests.strategies.fake_gpu_process"


class HostDriver(FakeDriver):
    """A driver that runs the libraries which stand for cubins."""

    def __init__(self) -> None:
        super().__init__({}, memory_bytes=1 << 30)

    def kernel(self, module: bytes, name: str, dynamic_shared_bytes: int) -> Any:
        return _loaded(module), name

    def launch(
        self,
        kernel: Any,
        grid: Sequence[int],
        block: Sequence[int],
        dynamic_shared_bytes: int,
        arguments: Sequence[int],
    ) -> None:
        library, name = kernel
        start = Start(name, (grid[0], grid[1], grid[2]), (block[0], block[1], block[2]), ())
        run = kernels_of(library, [start])[name]
        self._called("launch")
        self._do(lambda: run(*arguments))
        for _ in range(2):
            self._do(lambda: None)


class MeasuredDriver(HostDriver):
    """A driver that does not do what is timed again: it has been done once, and takes what it takes."""

    def replay(self, graph: list[Callable[[], None]]) -> None:
        self._called("replay")
        self.replayed += len(graph)


def host_cubins(functions: Mapping[str, Any], target: GpuTarget, processes: int = 2) -> list[Cubin]:
    """What stands for ``codegen.cuda.cubins.compile_functions``."""
    if not functions:
        return []
    return [Cubin(_code(cuda_source(functions, target)), dict.fromkeys(functions, Resources(32)))]


def become_gpu_machine(
    replace: Callable[[str, object], None], driver: HostDriver, versions: Mapping[str, str] = VERSIONS
) -> None:
    """Puts all of it in place, by a function that replaces what has a dotted name."""

    def open_library(name: str, stream: int) -> Library:
        return fake_libraries(driver, versions)(name, stream)

    for place in ("codegen.cuda.driver", "codegen.targets.here", "codegen.cuda.loading", "codegen.cuda.code"):
        replace(f"{place}.open_driver", lambda: driver)
    replace("codegen.cuda.code._L2_BYTES", 1)
    replace("codegen.cuda.code._one_driver", lambda: driver)
    replace("codegen.cuda.code._one_library", open_library)
    replace("codegen.cuda.runtime.open_library", open_library)
    replace("codegen.cuda.runtime.CudaModel.__init__.__defaults__", (open_library,))
    replace("codegen.cuda.code.compile_functions", host_cubins)
    replace("codegen.libraries.library.installed", lambda: dict(versions))
    replace("codegen.tune.records.find_nvcc", lambda: SimpleNamespace(version="13.0"))


def replaced(name: str, value: object) -> None:
    """Replaces what has a dotted name, for good."""
    import importlib

    *path, last = name.split(".")
    for length in range(len(path), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(path[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in path[length:]:
            found = getattr(found, attribute)
        setattr(found, last, value)
        return


@cache
def _code(source: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        compiled(source, Path(folder), False)
        return (Path(folder) / "kernels.so").read_bytes()


@cache
def _loaded(code: bytes) -> ctypes.CDLL:
    """A library of its bytes. Its file may go when it is loaded."""
    assert sys.platform == "linux"
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(code)
        file.flush()
        return ctypes.CDLL(file.name)
