"""Running a compiled model: inputs checked, an arena for each call, outputs that belong to the caller.

Imports neither onnx nor the compiler: TVM's runtime library is found and loaded without importing ``tvm``.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tensoropt.allocation import ALIGNMENT
from tensoropt.errors import ArtefactError, InputError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array


@dataclass(frozen=True, slots=True)
class OutputSource:
    """Where an output's values are after a run: an array that the library wrote, an input, or the weights at an offset."""

    kind: str
    place: int


@dataclass(frozen=True, slots=True)
class Signature:
    """What a compiled model takes and gives, and the memory that a run needs.

    Where ``failures`` is not empty, the last cache line of the arena says after a run which of them happened, from 1; 0 is none.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sources: tuple[OutputSource, ...]
    written: int
    arena_bytes: int
    threads: int
    failures: tuple[str, ...] = ()


def aligned_empty(size: int) -> Array:
    """Uninitialised bytes that start at a cache line."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


class CompiledModel:
    """A model that runs. ``run`` may be called from several threads; every call has an arena of its own."""

    def __init__(
        self, function: Any, signature: Signature, weights: Array, keep: Any = None, threads: int | None = None
    ) -> None:
        self._function, self._signature, self._weights, self._keep = function, signature, weights, keep
        self._threads = threads or signature.threads
        self._arenas: list[Array] = []
        self._lock = threading.Lock()
        self._local = threading.local()
        self._weights_address = weights.ctypes.data
        written: dict[int, Tensor] = {}
        for tensor, source in zip(signature.outputs, signature.sources, strict=True):
            if source.kind == "output":
                written[source.place] = tensor
        self._written = [written[place] for place in range(signature.written)]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs in the model's order."""
        return self._signature.inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The outputs in the model's order."""
        return self._signature.outputs

    @property
    def arena_bytes(self) -> int:
        """Memory that one run needs beside inputs, outputs and weights."""
        return self._signature.arena_bytes

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name. InputError for names, types or shapes that do not fit."""
        inputs = self._checked(feeds)
        outputs = [np.empty(tuple(tensor.shape), tensor.dtype.numpy) for tensor in self._written]
        arena = self._take_arena()
        self._use_threads()
        pointers = [array.ctypes.data for array in (*inputs, *outputs, arena)]
        try:
            self._function(*map(ctypes.c_void_p, (*pointers, self._weights_address)))
            self._require_success(arena)
        finally:
            with self._lock:
                self._arenas.append(arena)
        return {
            tensor.name: self._result(tensor, source, inputs, outputs)
            for tensor, source in zip(self._signature.outputs, self._signature.sources, strict=True)
        }

    def _require_success(self, arena: Array) -> None:
        failures = self._signature.failures
        if failures:
            start = self._signature.arena_bytes - ALIGNMENT
            number = int(arena[start : start + 4].view(np.int32)[0])
            if number:
                raise InputError(failures[number - 1])

    def _result(self, tensor: Tensor, source: OutputSource, inputs: list[Array], outputs: list[Array]) -> Array:
        match source.kind:
            case "output":
                return outputs[source.place]
            case "input":
                return inputs[source.place].copy()
            case _:
                raw = self._weights[source.place : source.place + tensor.type.bytes]
                return np.frombuffer(raw.tobytes(), tensor.dtype.numpy).reshape(tuple(tensor.shape)).copy()

    def _checked(self, feeds: Mapping[str, Array]) -> list[Array]:
        if not isinstance(feeds, Mapping):
            raise InputError(f"the inputs are a mapping from names to arrays, not {type(feeds).__name__}")
        expected = self._signature.inputs
        names = {tensor.name for tensor in expected}
        unknown = sorted(set(feeds) - names)
        if unknown:
            raise InputError(
                f"the model has no input {unknown[0]!r}; its inputs are {', '.join(sorted(names)) or 'none'}"
            )
        arrays = []
        for tensor in expected:
            if tensor.name not in feeds:
                raise InputError(f"the input {tensor.name!r} ({tensor.type}) is missing")
            array = np.asarray(feeds[tensor.name])
            if array.dtype != tensor.dtype.numpy:
                raise InputError(f"the input {tensor.name!r} is {array.dtype}, the model takes {tensor.dtype.numpy}")
            if array.shape != tuple(tensor.shape):
                wanted = tuple(int(extent) for extent in tensor.shape)
                raise InputError(f"the input {tensor.name!r} has shape {array.shape}, the model takes {wanted}")
            arrays.append(array if array.flags.c_contiguous else array.copy())
        return arrays

    def _take_arena(self) -> Array:
        with self._lock:
            if self._arenas:
                return self._arenas.pop()
        return aligned_empty(max(self._signature.arena_bytes, ALIGNMENT))

    def _use_threads(self) -> None:
        """TVM keeps one pool for each calling thread; this one's is set up at its first run."""
        if getattr(self._local, "ready", False):
            return
        configure_threads(self._threads)
        self._local.ready = True


def configure_threads(threads: int) -> None:
    """The size of the calling thread's pool."""
    from tvm_ffi import get_global_func

    get_global_func("runtime.config_threadpool")(1, threads)


def load_runtime() -> None:
    """Loads TVM's runtime library without importing ``tvm``. ArtefactError where it is not installed."""
    import tvm_ffi  # noqa: F401  (the library needs its symbols)

    found = importlib.util.find_spec("tvm")
    if found is None or found.origin is None:
        raise ArtefactError("TVM's runtime is not installed; install apache-tvm")
    folder = Path(found.origin).parent / "lib"
    ctypes.CDLL(str(folder / "libtvm_runtime.so"), ctypes.RTLD_GLOBAL)
    with contextlib.suppress(OSError):  # sorting and random numbers, which few models need
        ctypes.CDLL(str(folder / "libtvm_runtime_extra.so"), ctypes.RTLD_GLOBAL)
