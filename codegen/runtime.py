"""Running a compiled model. Imports neither onnx, OR-Tools nor the passes, and of TVM only the runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from tensoropt.errors import InputError
from tensoropt.ir.expression import Tensor
from tensoropt.plan_types import ALIGNMENT

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a model. ``computed`` are the tensors that the code assigns; an output that is not among them is an
    input or one of ``constants``, and is copied."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    computed: frozenset[Tensor]
    constants: Mapping[str, Array] = field(default_factory=dict)

    @property
    def written(self) -> tuple[Tensor, ...]:
        """The outputs that the entry writes, in the order of its parameters. Empty tensors need no code."""
        return tuple(
            tensor for tensor in dict.fromkeys(self.outputs) if tensor in self.computed and tensor.type.elements
        )


class CompiledModel:
    """A model that runs. ``run`` may be called from several threads; each call in flight has an arena of its own."""

    def __init__(self, signature: Signature, entry: Any, weights: Array, arena_bytes: int, threads: int) -> None:
        self.signature = signature
        self.arena_bytes = arena_bytes
        self.threads = threads
        self._entry = entry
        self._weights = weights
        self._arenas: list[Array] = []
        self._lock = Lock()
        configure_threads(threads)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs with their types."""
        return self.signature.inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The outputs with their types."""
        return self.signature.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, in arrays that belong to the caller. InputError for inputs that do not fit."""
        inputs = checked_inputs(self.signature.inputs, feeds)
        results = {tensor.name: _empty(tensor) for tensor in self.signature.outputs}
        if self._entry is not None:
            arena = self._take_arena()
            try:
                written = [results[tensor.name] for tensor in self.signature.written]
                self._entry(*(address(array) for array in (*inputs, *written, self._weights, arena)))
            finally:
                with self._lock:
                    self._arenas.append(arena)
        for tensor in self.signature.outputs:
            if tensor not in self.signature.computed:
                source = feeds[tensor.name] if tensor.name in feeds else self.signature.constants[tensor.name]
                results[tensor.name][...] = source
        return results

    def _take_arena(self) -> Array:
        with self._lock:
            if self._arenas:
                return self._arenas.pop()
        return aligned_empty(self.arena_bytes)


def checked_inputs(expected: Iterable[Tensor], feeds: Mapping[str, Array]) -> list[Array]:
    """The inputs in order, contiguous and aligned. InputError names the input, what it should be and what it is."""
    tensors = list(expected)
    unknown = [name for name in feeds if name not in {tensor.name for tensor in tensors}]
    if unknown:
        known = ", ".join(tensor.name for tensor in tensors) or "none"
        raise InputError(f"the model has no input {unknown[0]!r}; its inputs are {known}")
    arrays = []
    for tensor in tensors:
        if tensor.name not in feeds:
            raise InputError(f"the input {tensor.name!r} ({tensor.type}) is missing")
        array = np.asarray(feeds[tensor.name])
        if array.shape != tuple(tensor.shape) or array.dtype != tensor.dtype.numpy:
            given = f"{array.dtype}[{', '.join(map(str, array.shape))}]"
            raise InputError(f"the input {tensor.name!r} is {tensor.type}, not {given}")
        arrays.append(aligned(np.ascontiguousarray(array)))
    return arrays


def aligned_empty(size: int) -> Array:
    """Uninitialised bytes that start at a cache line; at least one line, so that there is always an address."""
    raw = np.empty(max(size, 1) + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def aligned(array: Array) -> Array:
    """The array itself where it starts at a cache line, else a copy that does."""
    if array.ctypes.data % ALIGNMENT == 0:
        return array
    copy = aligned_empty(array.nbytes)
    copy[...] = array.reshape(-1).view(np.uint8)
    return copy


def address(array: Array) -> ctypes.c_void_p:
    """The address of an array's first byte."""
    return ctypes.c_void_p(array.ctypes.data)


def _empty(tensor: Tensor) -> Array:
    data = aligned_empty(tensor.type.bytes)
    return data.view(tensor.dtype.numpy).reshape(tuple(int(extent) for extent in tensor.shape))


def load_runtime() -> Any:
    """``tvm_ffi`` with TVM's runtime library loaded, and not its compiler."""
    import tvm_ffi

    if tvm_ffi.get_global_func("runtime.config_threadpool", allow_missing=True) is None:
        spec = find_spec("tvm")
        if spec is None or spec.origin is None:
            raise ImportError("apache-tvm is not installed")
        found = sorted(Path(spec.origin).parent.glob("**/libtvm_runtime.so"))
        ctypes.CDLL(str(found[0]), ctypes.RTLD_GLOBAL)
    return tvm_ffi


def configure_threads(threads: int) -> None:
    """The size of the process's thread pool: TVM's own default takes half of the processors for hyper-threads."""
    ffi = load_runtime()
    ffi.get_global_func("runtime.config_threadpool")(-1, threads)
