"""Runs of a candidate that notice what it must not do: every buffer lies between guard zones, and inputs are looked at again.

Outputs and scratch memory hold garbage before (NaN, as numbers), so what a kernel leaves out, or reads before it is written, shows.
"""

from __future__ import annotations

import ctypes
import time
import zlib
from collections.abc import Mapping

import numpy as np

from codegen.build import BuiltProgram
from codegen.runtime import aligned_empty
from tensoropt.allocation import ALIGNMENT
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array

GUARD_BYTES = 4096
"""Before and after each buffer."""

GUARD, GARBAGE = 0xA5, 0xFF


class Broken(Exception):
    """What a candidate did to the process, or to the device: neither can be trusted any more."""


class Trespass(Broken):
    """A candidate wrote where it must not."""


class _Zone:
    """A buffer between guard zones."""

    def __init__(self, size: int, name: str) -> None:
        self.name = name
        self._whole = aligned_empty(GUARD_BYTES + size + GUARD_BYTES)
        self._whole[:] = GUARD
        self.bytes = self._whole[GUARD_BYTES : GUARD_BYTES + size]
        self.bytes[:] = GARBAGE

    def require_whole(self) -> None:
        """Trespass where a guard zone was written to."""
        end = GUARD_BYTES + self.bytes.size
        for zone, side in ((self._whole[:GUARD_BYTES], "before"), (self._whole[end:], "after")):
            if (zone != GUARD).any():
                raise Trespass(f"wrote {side} {self.name}")

    def require_unchanged(self, array: Array) -> None:
        """Trespass where the buffer does not hold the array's bytes."""
        if not np.array_equal(self.bytes, np.ascontiguousarray(array).reshape(-1).view(np.uint8)):
            raise Trespass(f"wrote to {self.name}")


class GuardedRun:
    """A built program with buffers of its own; calling it is one run, ``finish`` judges what was written and gives the outputs."""

    def __init__(self, built: BuiltProgram, feeds: Mapping[str, Array]) -> None:
        signature = built.signature
        self._built, self._feeds = built, feeds
        self._inputs = [_Zone(tensor.type.bytes, f"the input {tensor.name}") for tensor in signature.inputs]
        for zone, tensor in zip(self._inputs, signature.inputs, strict=True):
            zone.bytes[:] = np.ascontiguousarray(feeds[tensor.name]).reshape(-1).view(np.uint8)
        written: dict[int, Tensor] = {}
        for tensor, source in zip(signature.outputs, signature.sources, strict=True):
            if source.kind == "output":
                written[source.place] = tensor
        self._written = [written[place] for place in range(signature.written)]
        self._outputs = [_Zone(tensor.type.bytes, f"the output {tensor.name}") for tensor in self._written]
        self._arena = _Zone(max(signature.arena_bytes, ALIGNMENT), "the workspace")
        zones = (*self._inputs, *self._outputs, self._arena)
        pointers = [zone.bytes.ctypes.data for zone in zones] + [built.weights.ctypes.data]
        self._arguments = tuple(map(ctypes.c_void_p, pointers))
        self._function = built.module["main"]
        self._weights_before = zlib.crc32(built.weights.data)

    def __call__(self) -> None:
        """One run."""
        self._function(*self._arguments)

    def seconds(self) -> float:
        """How long a run takes after another, which brings back to the caches what other candidates displaced."""
        self()
        started = time.perf_counter()
        self()
        return time.perf_counter() - started

    def clocks(self) -> None:
        """Those of processors change too quickly to say anything."""
        return None

    def finish(self) -> dict[str, Array]:
        """The outputs by name. Trespass where anything else was written."""
        for zone in (*self._inputs, *self._outputs, self._arena):
            zone.require_whole()
        for zone, tensor in zip(self._inputs, self._built.signature.inputs, strict=True):
            zone.require_unchanged(self._feeds[tensor.name])
        if zlib.crc32(self._built.weights.data) != self._weights_before:
            raise Trespass("wrote to its constants")
        return {
            tensor.name: zone.bytes.view(tensor.dtype.numpy).reshape(tuple(tensor.shape))
            for tensor, zone in zip(self._written, self._outputs, strict=True)
        }
