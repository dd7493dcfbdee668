"""Running a compiled model: inputs checked, an arena for each call, outputs that belong to the caller.

Imports neither onnx nor the compiler: TVM's runtime library is found and loaded without importing ``tvm``.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codegen.signature import Signature, Signed, assembled, checked
from tensoropt.allocation import ALIGNMENT
from tensoropt.errors import ArtefactError, InputError
from tensoropt.ir.program import Array


def aligned_empty(size: int) -> Array:
    """Uninitialised bytes that start at a cache line."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


class CompiledModel(Signed):
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
        self._written = signature.written_outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name. InputError for names, types or shapes that do not fit."""
        inputs = checked(self._signature, feeds)
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
        return assembled(self._signature, inputs, outputs, self._weights)

    def _require_success(self, arena: Array) -> None:
        failures = self._signature.failures
        if failures:
            start = self._signature.arena_bytes - ALIGNMENT
            number = int(arena[start : start + 4].view(np.int32)[0])
            if number:
                raise InputError(failures[number - 1])

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
