"""OpenCL devices: found, asked for their limits, and given programs to run. Needs pyopencl, imports no compiler.

All memory of a run is shared virtual memory, because a kernel's pointers lie anywhere within it: the parts of a value that was
concatenated start at no boundary that a sub-buffer could have. An in-order queue runs one kernel after another; the host waits
once, when the outputs have been copied back.
"""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from codegen.device.table import Entry, Place, Start
from codegen.signature import Signature, Signed, assembled, checked
from codegen.targets.gpu import GpuTarget
from tensoropt.errors import ArtefactError, UsageError
from tensoropt.ir.program import Array

_MOST_THREADS = 256
"""Of a block: what kernels are written for, whatever more a device could."""

_MOST_SHARED = 32 << 10
"""What every device of OpenCL's full profile has."""


def find_device() -> Any:
    """The first OpenCL device that can run what is compiled here, GPUs before others. UsageError where there is none."""
    try:
        import pyopencl as cl
    except ImportError as error:
        raise UsageError(
            "OpenCL needs pyopencl, which is not installed; install tensoropt[opencl], which brings a device along too"
        ) from error
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        raise UsageError(
            "there is no OpenCL platform on this machine; install a driver, or pip install 'pyopencl[pocl]'"
        ) from error
    found = [device for platform in platforms for device in platform.get_devices()]
    usable = [device for device in found if _shares_memory(device)]
    if not usable:
        names = ", ".join(device.name.strip() for device in found)
        reason = f"{names} has no shared virtual memory" if names else "the platforms have no device"
        raise UsageError(f"no OpenCL device can be used: {reason}")
    return min(usable, key=lambda device: not device.type & cl.device_type.GPU)


def target_of(device: Any) -> GpuTarget:
    """A device as code generation sees it."""
    import pyopencl as cl

    gpu = bool(device.type & cl.device_type.GPU)
    extensions = device.extensions.split()
    return GpuTarget(
        kind="opencl",
        name=device.name.strip(),
        warp=32 if gpu else 1,
        max_threads=min(_MOST_THREADS, device.max_work_group_size, device.max_work_item_sizes[0]),
        shared_bytes=min(_MOST_SHARED, device.local_mem_size),
        multiprocessors=device.max_compute_units,
        half="cl_khr_fp16" in extensions,
        double="cl_khr_fp64" in extensions,
    )


def _shares_memory(device: Any) -> bool:
    import pyopencl as cl

    try:
        return bool(device.svm_capabilities & cl.device_svm_capabilities.COARSE_GRAIN_BUFFER)
    except cl.Error:  # a device of OpenCL 1 does not know the question
        return False


class Code:
    """A program built for a device: kernels by name."""

    def __init__(self, source: str, device: Any = None) -> None:
        import pyopencl as cl

        self.device = find_device() if device is None else device
        self.context = _context(self.device)
        exact = self.device.single_fp_config & cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT
        options = ["-cl-fp32-correctly-rounded-divide-sqrt"] if exact else []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", cl.CompilerWarning)
                self._program = cl.Program(self.context, source).build(options)
        except cl.Error as error:
            reason = next((line for line in str(error).splitlines() if "error" in line.lower()), str(error))
            raise ArtefactError(f"{self.device.name.strip()} cannot compile the kernels: {reason}") from error

    def kernel(self, name: str) -> Any:
        """A kernel with arguments of its own."""
        import pyopencl as cl

        return cl.Kernel(self._program, name)


class DeviceModel(Signed):
    """A model that runs on an OpenCL device. ``run`` may be called from several threads; every call has an arena of its own."""

    def __init__(self, code: Code, starts: Sequence[Entry], signature: Signature, weights: Array) -> None:
        self._code, self._starts, self._signature, self._host_weights = code, starts, signature, weights
        self._weights = Memory(code, weights.nbytes)
        queue = _queue(code)
        self._weights.write(queue, weights)
        queue.finish()
        self._idle: list[_Run] = []
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name. InputError for names, types or shapes that do not fit."""
        inputs = checked(self._signature, feeds)
        with self._lock:
            run = self._idle.pop() if self._idle else None
        if run is None:
            run = _Run(self._code, self._starts, self._signature, self._weights)
        written = run(inputs)  # what failed is not used again
        with self._lock:
            self._idle.append(run)
        return assembled(self._signature, inputs, written, self._host_weights)


class _Run:
    """What one call at a time uses: a queue, memory for everything but the weights, and kernels that know their places."""

    def __init__(self, code: Code, starts: Iterable[Entry], signature: Signature, weights: Memory) -> None:
        self._signature, self._queue = signature, _queue(code)
        self._inputs = [Memory(code, tensor.type.bytes) for tensor in signature.inputs]
        self._outputs = [Memory(code, tensor.type.bytes) for tensor in signature.written_outputs]
        self._arena, self._weights = (
            Memory(code, signature.arena_bytes),
            weights,
        )  # a kernel's argument keeps no memory alive
        regions = {"input": self._inputs, "output": self._outputs, "arena": [self._arena], "weights": [weights]}

        def at(place: Place) -> Any:
            return regions[place.region][place.number].at(place.offset)

        self._launches = [launch_of(code, start, at) for start in starts]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """The arrays that the program writes, for its inputs. ArtefactError where the device fails."""
        import pyopencl as cl

        outputs = [np.empty(tuple(tensor.shape), tensor.dtype.numpy) for tensor in self._signature.written_outputs]
        try:
            self._enqueue(inputs, outputs)
        except cl.Error as error:
            name = self._queue.device.name.strip()
            raise ArtefactError(f"{name} failed ({error}); optimize the model again on this machine") from error
        finally:
            self._queue.finish()  # copies from and to the caller's arrays have ended, whatever happened
        return outputs

    def _enqueue(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        import pyopencl as cl

        for memory, array in zip(self._inputs, inputs, strict=True):
            memory.write(self._queue, array)
        for kernel, everything, block in self._launches:
            cl.enqueue_nd_range_kernel(self._queue, kernel, everything, block)
        for memory, array in zip(self._outputs, outputs, strict=True):
            memory.read(self._queue, array)


class Memory:
    """Bytes on the device."""

    def __init__(self, code: Code, size: int) -> None:
        import pyopencl as cl

        self._size = max(size, 1)
        try:
            self._allocation = cl.SVMAllocation(code.context, self._size, 0, cl.svm_mem_flags.READ_WRITE)
        except cl.Error as error:
            raise UsageError(
                f"{code.device.name.strip()} has no room for {self._size} bytes; free memory there, or run a smaller batch"
            ) from error

    def at(self, offset: int) -> Any:
        """The memory from a byte on, as kernels take it."""
        return _memory_at(self._allocation.svm_ptr + offset, self._size - offset)

    def write(self, queue: Any, array: Array) -> None:
        """Copies a contiguous array here, which must stay until the queue has come to it."""
        import pyopencl as cl

        if array.nbytes:
            there = _memory_at(self._allocation.svm_ptr, array.nbytes)
            cl.enqueue_copy(queue, there, _memory_at(array.ctypes.data, array.nbytes), is_blocking=False)

    def read(self, queue: Any, array: Array) -> None:
        """Copies from here to an array, once the queue comes to it."""
        import pyopencl as cl

        if array.nbytes:
            here = _memory_at(self._allocation.svm_ptr, array.nbytes)
            cl.enqueue_copy(queue, _memory_at(array.ctypes.data, array.nbytes), here, is_blocking=False)


def _memory_at(address: int, count: int) -> Any:
    """Bytes by their address, as OpenCL takes them. The array is only a way to name the address: nothing is read through it."""
    import pyopencl as cl

    return cl.SVM(np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address)))


@lru_cache
def _context(device: Any) -> Any:
    """The process's one context on a device."""
    import pyopencl as cl

    return cl.Context([device])


def _queue(code: Code) -> Any:
    import pyopencl as cl

    return cl.CommandQueue(code.context)


def launch_of(code: Code, start: Entry, at: Callable[[Place], Any]) -> tuple[Any, Any, Any]:
    """A kernel with its arguments, all threads and those of a block along each axis; ``at`` gives the memory of a place."""
    import pyopencl as cl

    assert isinstance(start, Start), "libraries are called on CUDA only"
    kernel = code.kernel(start.kernel)
    most = kernel.get_work_group_info(cl.kernel_work_group_info.WORK_GROUP_SIZE, code.device)
    if prod(start.block) > most:
        raise ArtefactError(
            f"a block of {start.kernel} has {prod(start.block)} threads and {code.device.name.strip()} runs {most}; "
            "optimize the model on this machine"
        )

    for number, place in enumerate(start.arguments):
        kernel.set_arg(number, at(place))
    everything = tuple(blocks * threads for blocks, threads in zip(start.grid, start.block, strict=True))
    return kernel, everything, start.block
