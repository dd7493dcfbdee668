"""The driver through NVIDIA's ``cuda-bindings`` (the extra ``cuda``).

Not run on a GPU yet. What stands in for one in the tests is a library of ours in the place of ``libcuda.so.1``: it takes
the same calls from the same bindings, so names, orders and types of arguments are right, and nothing else is shown by it.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codegen.cuda.clocks import clocks_of
from codegen.cuda.driver import LEAST_DRIVER, Device, DriverError, NoDevice
from tensoropt.ir.program import Array


class BindingsDriver:
    """`codegen.cuda.driver.Driver` of the first GPU. NoDevice where there is none that can be used."""

    def __init__(self) -> None:
        _require_library()
        self._api = _bindings()
        version = _ready(self._api)
        try:
            device = self._call("cuDeviceGet", 0)
            self._number = device
            self._context = self._call("cuDevicePrimaryCtxRetain", device)
            self.bind()
            self._stream = self._call("cuStreamCreate", int(self._api.CUstream_flags.CU_STREAM_NON_BLOCKING))
            self._device = Device(
                name=self._call("cuDeviceGetName", 256, device).split(b"\0")[0].decode(errors="replace"),
                capability=(
                    self._attribute("COMPUTE_CAPABILITY_MAJOR", device),
                    self._attribute("COMPUTE_CAPABILITY_MINOR", device),
                ),
                multiprocessors=self._attribute("MULTIPROCESSOR_COUNT", device),
                memory_bytes=int(self._call("cuDeviceTotalMem", device)),
                driver=version,
            )
        except DriverError as error:
            raise NoDevice(f"the GPU cannot be used ({error})") from error

    @property
    def device(self) -> Device:
        """See ``Driver``."""
        return self._device

    @property
    def stream(self) -> int:
        """See ``Driver``."""
        return int(self._stream)

    def bind(self) -> None:
        """See ``Driver``."""
        self._call("cuCtxSetCurrent", self._context)

    def load(self, image: bytes) -> Any:
        """See ``Driver``."""
        return self._call("cuModuleLoadData", image)

    def kernel(self, module: Any, name: str, dynamic_shared_bytes: int) -> Any:
        """See ``Driver``."""
        found = self._call("cuModuleGetFunction", module, name.encode())
        if dynamic_shared_bytes:
            most = self._api.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call("cuFuncSetAttribute", found, most, dynamic_shared_bytes)
        return found

    def allocate(self, size: int) -> int:
        """See ``Driver``."""
        return int(self._call("cuMemAlloc", size))

    def free(self, address: int) -> None:
        """See ``Driver``."""
        self._call("cuMemFree", address)

    def free_bytes(self) -> int:
        """See ``Driver``."""
        return int(self._call("cuMemGetInfo")[0])

    def upload(self, address: int, data: Array) -> None:
        """See ``Driver``."""
        self._call("cuMemcpyHtoDAsync", address, data.ctypes.data, data.nbytes, self._stream)

    def download(self, data: Array, address: int) -> None:
        """See ``Driver``."""
        self._call("cuMemcpyDtoHAsync", data.ctypes.data, address, data.nbytes, self._stream)

    def copy(self, to: int, source: int, size: int) -> None:
        """See ``Driver``."""
        self._call("cuMemcpyDtoDAsync", to, source, size, self._stream)

    def fill(self, address: int, size: int) -> None:
        """See ``Driver``."""
        self._call("cuMemsetD8Async", address, 0, size, self._stream)

    def launch(
        self,
        kernel: Any,
        grid: Sequence[int],
        block: Sequence[int],
        dynamic_shared_bytes: int,
        arguments: Sequence[int],
    ) -> None:
        """See ``Driver``."""
        values = np.array(arguments, np.uint64)
        places = np.array([values.ctypes.data + 8 * number for number in range(len(arguments))], np.uint64)
        self._call("cuLaunchKernel", kernel, *grid, *block, dynamic_shared_bytes, self._stream, places.ctypes.data, 0)

    def begin_capture(self) -> None:
        """See ``Driver``."""
        mode = self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", self._stream, mode)

    def end_capture(self) -> Any:
        """See ``Driver``."""
        graph = self._call("cuStreamEndCapture", self._stream)
        try:
            return self._call("cuGraphInstantiate", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)

    def replay(self, graph: Any) -> None:
        """See ``Driver``."""
        self._call("cuGraphLaunch", graph, self._stream)

    def drop(self, graph: Any) -> None:
        """See ``Driver``."""
        self._call("cuGraphExecDestroy", graph)

    def event(self) -> Any:
        """See ``Driver``."""
        return self._call("cuEventCreate", int(self._api.CUevent_flags.CU_EVENT_DEFAULT))

    def record(self, event: Any) -> None:
        """See ``Driver``."""
        self._call("cuEventRecord", event, self._stream)

    def seconds_between(self, first: Any, last: Any) -> float:
        """See ``Driver``."""
        return float(self._call("cuEventElapsedTime", first, last)) * 1e-3

    def clocks(self) -> Mapping[str, int] | None:
        """See ``Driver``."""
        bus = self._call("cuDeviceGetPCIBusId", 32, self._number).split(b"\0")[0].decode(errors="replace")
        return clocks_of(bus)

    def synchronise(self) -> None:
        """See ``Driver``."""
        self._call("cuStreamSynchronize", self._stream)

    def settle(self) -> None:
        """See ``Driver``."""
        self._call("cuCtxSynchronize")

    def _attribute(self, name: str, device: Any) -> int:
        kind = getattr(self._api.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._call("cuDeviceGetAttribute", kind, device))

    def _call(self, name: str, *arguments: Any) -> Any:
        """What a function of the driver gives beside its status: nothing, one value, or several."""
        status, *values = getattr(self._api, name)(*arguments)
        if int(status):
            raise DriverError(status.name, name)
        return values[0] if len(values) == 1 else values


def _require_library() -> None:
    """Before the bindings are asked, whose own message speaks of their search paths."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise NoDevice("no NVIDIA driver is installed") from error


def _bindings() -> Any:
    try:
        return importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        raise NoDevice("cuda-bindings is not installed; pip install 'tensoropt[cuda]'") from error


def _ready(api: Any) -> int:
    """The driver's version, once it has started; NoDevice with the reason where it does not."""
    status, version = api.cuDriverGetVersion()
    if not int(status) and version < LEAST_DRIVER:
        raise NoDevice(
            f"the NVIDIA driver knows CUDA {_spelled(version)} and {_spelled(LEAST_DRIVER)} is needed; install a newer driver"
        )
    (status,) = api.cuInit(0)
    if int(status):
        raise NoDevice(f"the NVIDIA driver finds no GPU that it can use ({status.name})")
    status, count = api.cuDeviceGetCount()
    if int(status) or not count:
        raise NoDevice("the NVIDIA driver finds no GPU")
    return int(version)


def _spelled(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
