"""Running a compiled program on a GPU through the CUDA driver: one arena, one stream, one CUDA graph, one wait at the end.

Imports no compiler. It has not run on a GPU: it was tested with a driver that does in host memory what a GPU would be told to do.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen.cuda import dlpack
from codegen.cuda.driver import NO_IMAGE, OUT_OF_MEMORY, Driver, DriverError
from codegen.cuda.launching import launcher
from codegen.cuda.tensors import DeviceTensor
from codegen.device.table import ALIGNED, Entry, Place
from codegen.libraries.library import Libraries, Open, open_library
from codegen.signature import Signature, Signed, assembled, fitting, require_names, require_shape
from codegen.targets.architectures import runs_on
from tensoropt.allocation import ALIGNMENT
from tensoropt.errors import ArtefactError, InputError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array

_UNIT = 256
"""Of the driver's memory: every region starts at a multiple."""
_GRAPHS = 8
"""Sets of addresses whose graphs are kept; a caller that goes round more buffers than this has them made anew."""


@dataclass(frozen=True, slots=True)
class Image:
    """A cubin for an architecture, and the dynamic shared memory of each of its kernels, in bytes."""

    code: bytes
    arch: str
    kernels: Mapping[str, int]


class CudaModel(Signed):
    """A model on a GPU. Calls from several threads run one after another: they share the arena.

    ArtefactError where the code is for another architecture, a library that is called is missing or of another version, or the GPU
    has no room for weights and arena.
    """

    def __init__(
        self,
        driver: Driver,
        images: Sequence[Image],
        starts: Sequence[Entry],
        signature: Signature,
        weights: Array,
        opened: Open = open_library,
    ) -> None:
        self._driver, self._signature, self._host_weights = driver, signature, weights
        self._libraries = Libraries(driver.stream, opened)
        self._lock = threading.Lock()
        self._allocated: list[int] = []
        self._graphs: dict[tuple[int, ...], Any] = {}
        self._idle: dict[int, list[int]] = {}
        self._warm = False
        with _Failures():
            self._prepare(images, starts)

    def _prepare(self, images: Sequence[Image], starts: Sequence[Entry]) -> None:
        driver, signature, weights = self._driver, self._signature, self._host_weights
        driver.bind()
        kernels = loaded_kernels(driver, images)
        self._starts = [(launcher(driver, kernels, self._libraries, start), start.arguments) for start in starts]
        sizes = [
            signature.arena_bytes,
            *(tensor.type.bytes for tensor in (*signature.inputs, *signature.written_outputs)),
        ]
        places = [0]
        for size in sizes:
            places.append(places[-1] + -(-max(size, 1) // _UNIT) * _UNIT)
        self._device_bytes = places[-1] + weights.nbytes
        self._weights = self._allocate(weights.nbytes)
        base = self._allocate(places[-1])
        self._arena = base
        self._inputs = [base + place for place in places[1 : 1 + len(signature.inputs)]]
        self._outputs = [base + place for place in places[1 + len(signature.inputs) : -1]]
        if weights.nbytes:
            driver.upload(self._weights, np.ascontiguousarray(weights))
            driver.synchronise()

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs by name, on the host. Inputs are arrays, or tensors that lie on the GPU, which are used where they are
        unless they start at no multiple of ``ALIGNED`` bytes.

        InputError for names, types or shapes that do not fit.
        """
        with self._lock, _Failures():
            given = self._given(feeds)
            self._execute(given, self._outputs)
            written = [np.empty(tuple(tensor.shape), tensor.dtype.numpy) for tensor in self._signature.written_outputs]
            for array, address in zip(written, self._outputs, strict=True):
                if array.nbytes:
                    self._driver.download(array, address)
            returned = {source.place for source in self._signature.sources if source.kind == "input"}
            inputs = [self._fetched(one, place) if place in returned else _NOTHING for place, one in enumerate(given)]
            self._finish()
            return assembled(self._signature, inputs, written, self._host_weights)

    def run_on_device(self, feeds: Mapping[str, Any]) -> dict[str, DeviceTensor]:
        """The outputs by name, on the GPU, each in memory of its own. Inputs and errors as ``run``."""
        signature = self._signature
        with self._lock, _Failures():
            given = self._given(feeds)
            if any(self._idle.values()):
                self._driver.settle()  # who let go of an output may still have work under way that reads it
            owners = {
                source.place: number
                for number, source in reversed([*enumerate(signature.sources)])
                if source.kind == "output"
            }
            memory = [self._take(number, tensor.type.bytes) for number, tensor in enumerate(signature.outputs)]
            written = [memory[owners[place]] for place in range(signature.written)]
            self._execute(given, written)
            regions = {"input": [one.address for one in given], "output": written}
            for number, (tensor, source) in enumerate(zip(signature.outputs, signature.sources, strict=True)):
                origin = (
                    self._weights + source.place if source.kind == "weights" else regions[source.kind][source.place]
                )
                if origin != memory[number] and tensor.type.bytes:
                    self._driver.copy(memory[number], origin, tensor.type.bytes)
            found = {
                tensor.name: self._tensor(number, tensor, address)
                for number, (tensor, address) in enumerate(zip(signature.outputs, memory, strict=True))
            }
            self._finish()
            return found

    def close(self) -> None:
        """Gives the device's memory back; outputs that are still in use keep theirs until the process ends."""
        with self._lock:
            self._driver.bind()
            for graph in self._graphs.values():
                self._driver.drop(graph)
            for address in [*self._allocated, *(address for idle in self._idle.values() for address in idle)]:
                self._driver.free(address)
            self._graphs, self._allocated, self._idle = {}, [], {}

    def _given(self, feeds: Mapping[str, Any]) -> list[_Given]:
        """Where each input lies on the device: uploaded to the model's own memory, or the caller's."""
        require_names(self._signature, feeds)
        self._driver.bind()
        given = []
        for tensor, own in zip(self._signature.inputs, self._inputs, strict=True):
            value = feeds[tensor.name]
            device = dlpack.device_of(value)
            if device is not None and device[0] != dlpack.CPU:
                given.append(self._foreign(tensor, value, own))
                continue
            array = fitting(tensor, value)
            if array.nbytes:
                self._driver.upload(own, array)
            given.append(_Given(own, array))
        return given

    def _foreign(self, tensor: Tensor, value: Any, own: int) -> _Given:
        """A tensor where it is; copied to ``own`` where that is no multiple of what kernels read at once."""
        try:
            found = dlpack.taken(value, self._driver.stream)
        except (BufferError, TypeError, RuntimeError, ValueError) as error:
            raise InputError(f"the input {tensor.name!r} cannot be taken from the GPU ({error})") from error
        if found.device != self._device:
            raise InputError(f"the input {tensor.name!r} lies on another device than the model; move it there")
        if found.dtype is not tensor.dtype:
            said = "of a type that models do not have" if found.dtype is None else found.dtype.numpy
            raise InputError(f"the input {tensor.name!r} is {said}, the model takes {tensor.dtype.numpy}")
        require_shape(tensor, found.shape)
        if not found.contiguous:
            raise InputError(f"the input {tensor.name!r} does not lie in row-major order; make it contiguous")
        if found.address % ALIGNED:
            if tensor.type.bytes:
                self._driver.copy(own, found.address, tensor.type.bytes)
            return _Given(own, found.keep)
        return _Given(found.address, found.keep)

    @property
    def _device(self) -> tuple[int, int]:
        return self._driver.device.dlpack

    def _fetched(self, given: _Given, place: int) -> Array:
        """An input that is an output as well, on the host."""
        if isinstance(given.kept, np.ndarray):
            return given.kept
        tensor = self._signature.inputs[place]
        array = np.empty(tuple(tensor.shape), tensor.dtype.numpy)
        if array.nbytes:
            self._driver.download(array, given.address)
        return array

    def _execute(self, given: Sequence[_Given], outputs: Sequence[int]) -> None:
        """Has the kernels run. The first run launches them one by one, which also has the driver load their code: it does so when a
        kernel is first used, and not while a graph is recorded."""
        regions = {
            "input": [one.address for one in given],
            "output": list(outputs),
            "arena": [self._arena],
            "weights": [self._weights],
        }
        if not self._warm:
            self._launch(regions)
            self._warm = True
            return
        addresses = (*regions["input"], *regions["output"])
        graph = self._graphs.pop(addresses, None)
        if graph is None:
            graph = self._recorded(regions)
            if len(self._graphs) >= _GRAPHS:
                self._driver.drop(self._graphs.pop(next(iter(self._graphs))))
        self._graphs[addresses] = graph  # the last one used is the last to go
        self._driver.replay(graph)

    def _recorded(self, regions: Mapping[str, Sequence[int]]) -> Any:
        self._driver.begin_capture()
        try:
            self._launch(regions)
        except DriverError:
            self._driver.drop(self._driver.end_capture())
            raise
        return self._driver.end_capture()

    def _launch(self, regions: Mapping[str, Sequence[int]]) -> None:
        if self._signature.failures:
            self._driver.fill(self._error_address, 4)

        def at(place: Place) -> int:
            return regions[place.region][place.number] + place.offset

        for launch, places in self._starts:
            launch([at(place) for place in places])

    def _finish(self) -> None:
        """Waits for the run. InputError where one of its kernels has found an index out of range."""
        failures = self._signature.failures
        number = np.zeros(1, np.int32)
        if failures:
            self._driver.download(number, self._error_address)
        self._driver.synchronise()
        if number[0]:
            raise InputError(failures[int(number[0]) - 1])

    @property
    def _error_address(self) -> int:
        return self._arena + self._signature.arena_bytes - ALIGNMENT

    def _tensor(self, number: int, tensor: Tensor, address: int) -> DeviceTensor:
        shape, idle = tuple(int(extent) for extent in tensor.shape), self._idle
        return DeviceTensor(
            address, self._device, shape, tensor.dtype, lambda: idle.setdefault(number, []).append(address)
        )

    def _take(self, number: int, size: int) -> int:
        """Memory for an output. The same again and again where the caller lets go of it, so that graphs fit."""
        idle = self._idle.get(number)
        if idle:
            return idle.pop()
        address = self._allocate(size)
        self._allocated.remove(address)  # it belongs to the output's user
        return address

    def _allocate(self, size: int) -> int:
        try:
            address = self._driver.allocate(max(size, 1))
        except DriverError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            device = self._driver.device
            raise ArtefactError(
                f"{device.name} has {self._driver.free_bytes() / 1e9:.2f} GB of memory free where the model needs "
                f"{max(self._device_bytes, size) / 1e9:.2f} GB; free memory there, or run a smaller batch"
            ) from error
        self._allocated.append(address)
        return address


def loaded_kernels(driver: Driver, images: Sequence[Image]) -> dict[str, tuple[Any, int]]:
    """The kernels of images by name, each with its dynamic shared memory. ArtefactError where the GPU does not take them."""
    found = {}
    device = driver.device
    for image in images:
        if not runs_on(image.arch, device.capability):
            raise _for_another(image.arch, device.name, device.capability)
        try:
            module = driver.load(image.code)
            for name, shared in image.kernels.items():
                found[name] = driver.kernel(module, name, shared), shared
        except DriverError as error:
            if error.code == NO_IMAGE:
                raise _for_another(image.arch, device.name, device.capability) from error
            raise ArtefactError(
                f"the GPU does not take the compiled kernels ({error}); optimize the model again"
            ) from error
    return found


_NOTHING = np.empty(0)


@dataclass(frozen=True, slots=True)
class _Given:
    """An input on the device, and the array or the capsule that it came from."""

    address: int
    kept: Any


class _Failures:
    """What goes wrong in the driver while a model runs, as one sentence."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DriverError):
            raise ArtefactError(f"the GPU failed ({error}); optimize the model again") from error


def _for_another(arch: str, name: str, capability: tuple[int, int]) -> ArtefactError:
    return ArtefactError(
        f"the artefact was compiled for {arch} and the GPU here, {name}, has sm_{capability[0]}{capability[1]}; "
        "optimize the model with --target cuda on this machine"
    )
